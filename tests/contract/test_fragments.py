# SPDX-License-Identifier: Apache-2.0
"""Fragments: only the first one has ports, and all of them must go the same way."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    EarlyFragment,
    InjectPacket,
    InstallFlow,
    PacketIn,
    PacketReason,
    PutBackFragment,
)
from support.octets.packets import fragments, hop, ip_packet, macs, wrong_checksums
from support.targets.rig import CLIENT_MAC, NODE_MAC, Frame, Side
from support.targets.scene import Scene

PAYLOAD = bytes(range(256)) * 4 + b"odd"
SIZE = 256


def long(scene: Scene, src: tuple[str, int], dst: tuple[str, int]) -> ScapyPacket:
    return scene.segment(src, dst, PAYLOAD)


def reassembled(frames: Sequence[Frame], side: Side, mac: str) -> bytes:
    """The packet that the fragments make up, as if it had never been cut; header checks too."""
    assert frames
    pieces: dict[int, bytes] = {}
    for found, octets in frames:
        assert found is side
        assert macs(octets)[0] == mac
        packet = ip_packet(octets)
        assert wrong_checksums(packet) == []
        if packet[0] >> 4 == 4:
            place = (struct.unpack_from("!H", packet, 6)[0] & 0x1FFF) * 8
            pieces[place] = packet[20:]
        else:
            place = struct.unpack_from("!H", packet, 42)[0] & 0xFFF8
            pieces[place] = packet[48:]
    data = b"".join(pieces[place] for place in sorted(pieces))
    assert sorted(pieces) == [n * SIZE for n in range(len(pieces))]
    first = IP(ip_packet(frames[0][1])) if packet[0] >> 4 == 4 else IPv6(ip_packet(frames[0][1]))
    if packet[0] >> 4 == 4:
        whole = IP(src=first.src, dst=first.dst, ttl=first.ttl, id=7, proto=first.proto) / data
    else:
        protocol = first[IPv6ExtHdrFragment].nh
        whole = IPv6(src=first.src, dst=first.dst, hlim=first.hlim, nh=protocol) / data
    return bytes(whole)


def test_all_fragments_follow_the_first_both_ways(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = fragments(long(scene, scene.client, scene.vip), SIZE)
    assert len(sent) == 5
    out = scene.send(*map(scene.inbound, sent))
    wanted = bytes(hop(long(scene, scene.client, scene.node)))
    assert reassembled(out, Side.INTERNAL, NODE_MAC) == wanted
    back = fragments(long(scene, scene.node, scene.client), SIZE)
    out = scene.send(*map(scene.outbound, back))
    wanted = bytes(hop(long(scene, scene.vip, scene.client)))
    assert reassembled(out, Side.EXTERNAL, CLIENT_MAC) == wanted
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.counters.pkts_in, state.counters.pkts_out) == (5, 5)
    assert state.counters.bytes_in == sum(len(bytes(packet)) for packet in sent)
    assert scene.up_calls() == []


def test_later_fragments_may_come_in_any_order(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = fragments(long(scene, scene.client, scene.vip), SIZE)
    shuffled = [sent[number] for number in (0, 3, 1, 4, 2)]
    out = scene.send(*map(scene.inbound, shuffled))
    wanted = bytes(hop(long(scene, scene.client, scene.node)))
    assert reassembled(out, Side.INTERNAL, NODE_MAC) == wanted


def test_packets_cut_at_the_same_time_are_not_mixed_up(scene: Scene) -> None:
    other = (scene.client[0], scene.client[1] + 1)
    scene.rig.apply(
        InstallFlow(scene.entry()),
        InstallFlow(
            scene.entry(
                signature=scene.signature(client=other),
                serial=1002,
                node_ipaddr=scene.family.node2,
            )
        ),
    )
    one = fragments(long(scene, scene.client, scene.vip), SIZE)
    two = fragments(long(scene, other, scene.vip), SIZE)
    mixed = [packet for pair in zip(one, two, strict=True) for packet in pair]
    out = scene.send(*map(scene.inbound, mixed))
    wanted = bytes(hop(long(scene, scene.client, scene.node)))
    assert reassembled(out[::2], Side.INTERNAL, NODE_MAC) == wanted
    assert len(out) == 10
    assert {macs(octets)[0] for _, octets in out[1::2]} != {NODE_MAC}


def early(scene: Scene) -> list[PutBackFragment]:
    """What came up and is to be put back."""
    return [PutBackFragment(e) for e in scene.rig.events() if isinstance(e, EarlyFragment)]


@pytest.fixture
def holding(scene: Scene) -> Scene:
    scene.rig.events()
    return scene


@pytest.mark.parametrize("side", [Side.EXTERNAL, Side.INTERNAL], ids=["external", "internal"])
def test_a_later_fragment_whose_first_one_never_comes_is_dropped_and_counted(
    holding: Scene, side: Side
) -> None:
    """A node's would reach the client with the node's address, which the client never heard of."""
    scene = holding
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    if side is Side.EXTERNAL:
        _, second, *_ = map(scene.inbound, fragments(long(scene, scene.client, scene.vip), SIZE))
    else:
        _, second, *_ = map(scene.outbound, fragments(long(scene, scene.node, scene.client), SIZE))
    before = scene.values()
    assert scene.send(second) == []
    assert scene.dropped_since(before) == 0
    (held,) = early(scene)
    assert held.fragment.frame == second[1]
    assert held.fragment.interface == scene.rig.interface(side)
    assert scene.rig.apply(held) == []
    assert early(scene) == []
    assert scene.values()["drop_fragment"] - before["drop_fragment"] == 1


@pytest.mark.parametrize("side", [Side.EXTERNAL, Side.INTERNAL], ids=["external", "internal"])
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (1, 0, 2, 4, 3)], ids=["last first", "mixed"])
def test_fragments_that_come_before_their_first_one_go_where_it_goes(
    holding: Scene, side: Side, order: tuple[int, ...]
) -> None:
    scene = holding
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    if side is Side.EXTERNAL:
        sent = fragments(long(scene, scene.client, scene.vip), SIZE)
        frames = [scene.inbound(sent[number]) for number in order]
        wanted = bytes(hop(long(scene, scene.client, scene.node)))
        leaves, mac = Side.INTERNAL, NODE_MAC
    else:
        sent = fragments(long(scene, scene.node, scene.client), SIZE)
        frames = [scene.outbound(sent[number]) for number in order]
        wanted = bytes(hop(long(scene, scene.vip, scene.client)))
        leaves, mac = Side.EXTERNAL, CLIENT_MAC
    before = scene.values()
    out = scene.send(*frames)
    out += scene.rig.apply(*early(scene))
    assert len(out) == 5
    assert reassembled(sorted(out, key=offset), leaves, mac) == wanted
    assert scene.dropped_since(before) == 0


def offset(frame: Frame) -> int:
    """Where the fragment's data belong."""
    packet = ip_packet(frame[1])
    at = 6 if packet[0] >> 4 == 4 else 42
    return int.from_bytes(packet[at : at + 2], "big") & (0x1FFF if at == 6 else 0xFFF8)


def test_an_early_fragment_of_an_unknown_flow_comes_up_with_its_ports(holding: Scene) -> None:
    scene = holding
    scene.rig.apply(AddVirtualServer(scene.server()))
    first, second, *_ = fragments(long(scene, scene.client, scene.vip), SIZE)
    assert scene.send(scene.inbound(second), scene.inbound(first)) == []
    seen = scene.rig.events()
    held = [PutBackFragment(e) for e in seen if isinstance(e, EarlyFragment)]
    assert len(held) == 1
    assert scene.rig.apply(*held) == []
    came = [e for e in (*seen, *scene.rig.events()) if isinstance(e, PacketIn)]
    assert [e.signature for e in came] == [scene.signature()] * 2


def test_a_nodes_own_fragments_in_any_order_are_routed(holding: Scene) -> None:
    """A flow may be meant until the first one shows that none is."""
    scene = holding
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    inside, outside = (scene.family.node, 5353), (scene.family.far_client, 53)
    sent = fragments(long(scene, inside, outside), SIZE)
    out = scene.send(*map(scene.outbound, reversed(sent)))
    assert [ip_packet(octets) for _, octets in out] == [bytes(hop(sent[0]))]
    out += scene.rig.apply(*early(scene))
    assert sorted(ip_packet(octets) for _, octets in out) == sorted(
        bytes(hop(packet)) for packet in sent
    )
    assert {side for side, _ in out} == {Side.EXTERNAL}


def test_no_agent_holds_them(holding: Scene) -> None:
    scene = holding
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    _, second, *_ = fragments(long(scene, scene.node, scene.client), SIZE)
    before = scene.values()
    with scene.rig.agent_away():
        assert scene.send(scene.outbound(second)) == []
    # what an agent counts itself begins anew with the next one
    assert scene.values()["drop_detached"] - before["drop_detached"] == 1


def test_fragments_of_an_unknown_flow_come_up_and_go_on_once_it_is_known(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    sent = fragments(long(scene, scene.client, scene.vip), SIZE)
    assert scene.send(*map(scene.inbound, sent)) == []
    held = scene.up_calls()
    assert [up.signature for up in held] == [scene.signature()] * 5
    assert {up.reason for up in held} == {PacketReason.NEW_FLOW}
    assert [up.virtual_server for up in held] == [scene.key()] * 5
    assert [up.tcp_flags for up in held[1:]] == [0] * 4
    out = scene.rig.apply(InstallFlow(scene.entry()), *map(InjectPacket, held))
    wanted = bytes(hop(long(scene, scene.client, scene.node)))
    assert reassembled(out, Side.INTERNAL, NODE_MAC) == wanted


def test_a_first_fragment_is_not_remembered_for_ever(scene: Scene) -> None:
    """Identifications come round after minutes; Linux gives a packet 30 s to be whole."""
    if not scene.rig.moves_time:
        pytest.skip("fragments are remembered for about 30 s, and this rig would have to wait")
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    first, second, *_ = fragments(long(scene, scene.client, scene.vip), SIZE)
    assert len(scene.send(scene.inbound(first))) == 1
    scene.rig.advance(20)
    assert len(scene.send(scene.inbound(second))) == 1
    scene.rig.advance(60)
    assert scene.send(scene.inbound(second)) == []


@pytest.mark.parametrize("side", [Side.EXTERNAL, Side.INTERNAL], ids=["external", "internal"])
def test_fragments_of_what_is_none_of_ours_are_routed(scene: Scene, side: Side) -> None:
    """A node that asks a name server outside may well get a long answer."""
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    inside, outside = (scene.family.node, 5353), (scene.family.far_client, 53)
    if side is Side.EXTERNAL:
        sent = fragments(long(scene, outside, inside), SIZE)
        out = scene.send(*map(scene.inbound, sent))
    else:
        sent = fragments(long(scene, inside, outside), SIZE)
        out = scene.send(*map(scene.outbound, sent))
    assert [ip_packet(octets) for _, octets in out] == [bytes(hop(packet)) for packet in sent]
    assert scene.up_calls() == []


def test_ports_used_again_by_the_same_identification_are_read_anew(scene: Scene) -> None:
    """Identifications come round (RFC 6864): the last first fragment counts."""
    other = (scene.client[0], scene.client[1] + 1)
    scene.rig.apply(InstallFlow(scene.entry()))
    old = fragments(long(scene, other, scene.vip), SIZE)
    new = fragments(long(scene, scene.client, scene.vip), SIZE)
    for packet in new:
        if scene.family.is_ipv4:
            packet.id = old[0].id
        else:
            packet[IPv6ExtHdrFragment].id = old[0][IPv6ExtHdrFragment].id
    scene.send(scene.inbound(old[0]))
    out = scene.send(*map(scene.inbound, new))
    wanted = bytes(hop(long(scene, scene.client, scene.node)))
    assert reassembled(out, Side.INTERNAL, NODE_MAC) == wanted


def test_a_packet_that_says_it_is_a_fragment_and_is_whole_is_a_packet(tcp_scene: Scene) -> None:
    """An atomic fragment (RFC 6946); IPv4 has none, so its plain packet goes."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    packet = scene.to_vip(b"atomic")
    wanted = scene.segment(scene.client, scene.node, b"atomic")
    if not scene.family.is_ipv4:
        packet, wanted = _atomic(packet), _atomic(wanted)
    (frame,) = scene.send(scene.inbound(packet))
    assert ip_packet(frame[1]) == bytes(hop(wanted))


def _atomic(packet: ScapyPacket) -> ScapyPacket:
    data = bytes(packet)[40:]
    header = IPv6(src=packet.src, dst=packet.dst, hlim=packet.hlim)
    return header / IPv6ExtHdrFragment(nh=6, offset=0, m=0, id=99) / data
