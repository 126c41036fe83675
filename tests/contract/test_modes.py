# SPDX-License-Identifier: Apache-2.0
"""Direct return: L2 hands the client's packet to the node as it is, TUNNEL wraps it (6.2)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import FlowEntry, InstallFailed, InstallFlow
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import Flag, ForwardMode
from support.octets import packets
from support.octets.packets import hop, ip_packet, macs, parsed
from support.targets.rig import CLIENT_MAC, FIREWALL_MAC, NODE2_MAC, NODE_MAC, TARGET_MAC, Side
from support.targets.scene import NAT, Scene, assert_packet, only

MODES = pytest.mark.parametrize("mode", [ForwardMode.L2, ForwardMode.TUNNEL], ids=["l2", "tunnel"])


def installed(scene: Scene, mode: ForwardMode, **changes: Any) -> FlowEntry:
    fields: dict[str, Any] = {"flags": int(Flag.ROUTE_BY_DST_IP), "forward_mode": int(mode)}
    entry = scene.entry(**{**fields, **changes})
    scene.rig.apply(InstallFlow(entry))
    assert scene.rig.events() == []
    return entry


def unwrapped(scene: Scene, octets: bytes, node: str) -> bytes:
    """What a tunnel's packet carries, after a look at its own header."""
    outer = parsed(octets)
    assert packets.wrong_checksums(ip_packet(octets)) == []
    assert (outer.src, outer.dst) == (scene.family.internal, node)
    if scene.family.is_ipv4:
        assert (outer.proto, outer.frag, outer.ihl) == (4, 0, 5)
        assert outer.ttl > 1
        return ip_packet(octets)[20:]
    assert outer.nh == 41
    assert outer.hlim > 1
    return ip_packet(octets)[40:]


def carried(scene: Scene, mode: ForwardMode, octets: bytes, node: str = "") -> bytes:
    if mode == ForwardMode.L2:
        return ip_packet(octets)
    return unwrapped(scene, octets, node or scene.family.node)


@MODES
@pytest.mark.parametrize("length", [0, 1, 3, 600])
def test_the_node_gets_what_the_client_sent(scene: Scene, mode: ForwardMode, length: int) -> None:
    installed(scene, mode)
    sent = scene.to_vip(random.Random(length).randbytes(length))
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert carried(scene, mode, octets) == bytes(hop(sent))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters == (1, len(bytes(sent)), 0, 0)


@MODES
def test_translation_flags_do_not_matter(scene: Scene, mode: ForwardMode) -> None:
    flags = NAT | Flag.TRANSLATE_SRC | Flag.ADD_TCP_OFFSETS
    changes = {"snat_ipaddr": scene.family.snat, "snat_port": 61000, "seq_offset": 9}
    installed(scene, mode, flags=int(flags), **changes)
    sent = scene.to_vip(b"as it is")
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert carried(scene, mode, octets) == bytes(hop(sent))


@MODES
def test_the_next_hop_gets_it_for_the_node(scene: Scene, mode: ForwardMode) -> None:
    installed(scene, mode, flags=0, next_hop_ipaddr=scene.family.firewall)
    sent = scene.to_vip(b"via")
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert macs(octets)[0] == FIREWALL_MAC
    assert carried(scene, mode, octets) == bytes(hop(sent))


@MODES
def test_without_a_next_hop_the_node_is_looked_up(scene: Scene, mode: ForwardMode) -> None:
    installed(scene, mode, flags=0)
    octets = only(scene.send(scene.inbound(scene.to_vip(b"x"))), Side.INTERNAL)
    assert macs(octets)[0] == NODE_MAC


@MODES
def test_a_flow_moves_to_another_node(scene: Scene, mode: ForwardMode) -> None:
    entry = installed(scene, mode)
    scene.send(scene.inbound(scene.to_vip()))
    installed(scene, mode, node_ipaddr=scene.family.node2)
    sent = scene.to_vip(b"moved")
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert macs(octets)[0] == NODE2_MAC
    assert carried(scene, mode, octets, scene.family.node2) == bytes(hop(sent))
    state = scene.rig.target.lookup(entry.signature)
    assert state is not None
    assert state.counters.pkts_in == 2


@MODES
def test_what_the_node_sends_through_us_belongs_to_the_flow(
    scene: Scene, mode: ForwardMode
) -> None:
    installed(scene, mode)
    back = scene.segment(scene.vip, scene.client, b"not so direct")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert_packet(octets, hop(back))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters == (0, 0, 1, len(bytes(back)))


@MODES
def test_a_wrong_checksum_stays_wrong(scene: Scene, mode: ForwardMode) -> None:
    installed(scene, mode)
    sent = bytearray(bytes(scene.to_vip(b"damaged")))
    sent[-1] ^= 0x40
    octets = only(scene.send(scene.inbound(bytes(sent))), Side.INTERNAL)
    inner = carried(scene, mode, octets)
    assert packets.wrong_checksums(inner) == [f"transport {scene.protocol}"]


@MODES
def test_a_flow_without_its_node_cannot_be_installed(scene: Scene, mode: ForwardMode) -> None:
    entry = scene.entry(flags=0, forward_mode=int(mode), node_ipaddr=UNSPECIFIED)
    scene.rig.apply(InstallFlow(entry))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert failed.entry == entry
    assert not failed.table_full
    assert scene.rig.target.flow_count() == 0


def test_a_mode_that_the_target_does_not_offer_is_refused(scene: Scene) -> None:
    entry = scene.entry(forward_mode=77)
    scene.rig.apply(InstallFlow(entry))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert (failed.entry, failed.table_full) == (entry, False)
    assert scene.rig.target.lookup(entry.signature) is None


@MODES
@pytest.mark.parametrize("tags", ["8100e000", "88a8200081006000"], ids=["one tag", "two tags"])
def test_tags_stay_in_front(scene: Scene, mode: ForwardMode, tags: str) -> None:
    installed(scene, mode)
    sent = scene.to_vip(b"tagged")
    side, octets = scene.inbound(sent)
    link = bytes.fromhex(tags)
    before = scene.values()
    found = scene.send((side, octets[:12] + link + octets[12:]))
    if not found and mode == ForwardMode.TUNNEL and len(link) == 8:
        # tc cannot make room behind a tag that lies in the frame (bpf_skb_adjust_room)
        assert scene.dropped_since(before) == 1
        return
    out = only(found, Side.INTERNAL)
    assert macs(out) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert out[12 : 12 + len(link)] == link
    assert carried(scene, mode, out) == bytes(hop(sent))


@MODES
def test_padding_is_not_carried(scene: Scene, mode: ForwardMode) -> None:
    installed(scene, mode)
    sent = scene.to_vip()
    side, octets = scene.inbound(sent)
    out = only(scene.send((side, octets.ljust(90, b"\xee"))), Side.INTERNAL)
    assert carried(scene, mode, out) == bytes(hop(sent))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.bytes_in == len(bytes(sent))


@MODES
def test_fragments_follow_the_first(scene: Scene, mode: ForwardMode) -> None:
    installed(scene, mode)
    sent = packets.fragments(scene.to_vip(bytes(range(256))), 96)
    out = scene.send(*map(scene.inbound, sent))
    found = [carried(scene, mode, octets) for _, octets in out]
    assert found == [bytes(hop(packet)) for packet in sent]


def test_a_tunnel_shows_the_type_of_service_outside(scene: Scene) -> None:
    installed(scene, ForwardMode.TUNNEL)
    sent = scene.to_vip(b"urgent", ip_fields={"tos": 0xB8})
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    outer = parsed(octets)
    assert (outer.tos if scene.family.is_ipv4 else outer.tc) == 0xB8
    assert unwrapped(scene, octets, scene.family.node) == bytes(hop(sent))


def sized(scene: Scene, length: int, **ip_fields: Any) -> ScapyPacket:
    """A packet to the virtual server of exactly this IP length."""
    head = len(bytes(scene.to_vip(ip_fields=ip_fields)))
    return scene.to_vip(b"z" * (length - head), ip_fields=ip_fields)


def joined(pieces: list[bytes], wanted: ScapyPacket) -> bytes:
    """What fragments in order make up; each has the addresses of `wanted`."""
    whole = b""
    for number, packet in enumerate(pieces):
        piece = IP(packet)
        assert packets.wrong_checksums(packet) == []
        assert (piece.frag * 8, bool(piece.flags.MF)) == (len(whole), number < len(pieces) - 1)
        assert (piece.src, piece.dst) == (wanted.src, wanted.dst)
        whole += packet[20:]
    return whole


@pytest.mark.parametrize("mode", list(ForwardMode)[:3], ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("side", [Side.EXTERNAL, Side.INTERNAL], ids=["to node", "to client"])
def test_what_is_too_long_goes_on_in_fragments_where_its_sender_allows_them(
    scene: Scene, mode: ForwardMode, side: Side
) -> None:
    """A tunnel leaves 1,480 of 1,500 octets; without one, a link before ours carries more."""
    if not scene.family.is_ipv4:
        pytest.skip("IPv6 packets are fragmented by their senders only")
    if side is Side.INTERNAL and mode is not ForwardMode.NAT:
        pytest.skip("the node answers the client directly")
    has_cables = scene.rig.name not in ("memory", "p4-model")
    if has_cables and mode is not ForwardMode.TUNNEL:
        pytest.skip("veth carries no more than 1,500 octets; tests/dataplane/test_path.py does it")
    if mode is ForwardMode.NAT:
        scene.rig.apply(InstallFlow(scene.entry()))
    else:
        installed(scene, mode)
    data = bytes(range(250)) * 12
    if mode is ForwardMode.TUNNEL:
        data = data[: 1500 - len(bytes(scene.to_vip(b"")))]
    if side is Side.EXTERNAL:
        sent = scene.inbound(scene.to_vip(data))
        wanted = scene.segment(scene.client, scene.vip, data)
        if mode is ForwardMode.NAT:
            wanted = scene.segment(scene.client, scene.node, data)
    else:
        sent = scene.outbound(scene.segment(scene.node, scene.client, data))
        wanted = scene.segment(scene.vip, scene.client, data)
    before = scene.values()
    out = scene.send(sent)
    while more := scene.send():  # a target may need its agent's half of the work
        out += more
    leaves = Side.INTERNAL if side is Side.EXTERNAL else Side.EXTERNAL
    assert {found for found, _ in out} == {leaves}
    pieces = [ip_packet(octets) for _, octets in out]
    assert max(map(len, pieces)) <= 1500
    if mode is ForwardMode.TUNNEL:
        pieces = [unwrapped(scene, octets, scene.family.node) for _, octets in out]
    whole = joined(pieces, wanted)
    assert whole == bytes(wanted)[20:]
    assert len(out) == (3 if mode is not ForwardMode.TUNNEL else 2)
    assert scene.dropped_since(before) == 0
    assert scene.values()["fragmented"] - before["fragmented"] == 1
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters[0 if side is Side.EXTERNAL else 2] == len(out)


def test_a_tunnel_carries_what_just_fits_and_tells_the_sender_of_what_does_not(
    scene: Scene,
) -> None:
    """Without the error the client's path MTU discovery would end in a black hole (RFC 4459)."""
    installed(scene, ForwardMode.TUNNEL)
    ipv4 = scene.family.is_ipv4
    fields = {"flags": "DF"} if ipv4 else {}
    limit = 1500 - (20 if ipv4 else 40)
    fits = sized(scene, limit, **fields)
    octets = only(scene.send(scene.inbound(fits)), Side.INTERNAL)
    assert unwrapped(scene, octets, scene.family.node) == bytes(hop(fits))
    before = scene.values()
    too_long = sized(scene, limit + 1, **fields)
    octets = only(scene.send(scene.inbound(too_long)), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert packets.wrong_checksums(ip_packet(octets)) == []
    error = parsed(octets)
    assert error.dst == scene.family.client
    if ipv4:
        assert error.src == scene.family.external
        assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, limit)
        quoted = ip_packet(octets)[28:]
    else:
        assert error.src == scene.family.external
        assert error[ICMPv6PacketTooBig].mtu == limit
        quoted = ip_packet(octets)[48:]
    assert len(quoted) >= 28
    assert bytes(too_long).startswith(quoted)  # as the client sent it, not as we would have
    assert scene.dropped_since(before) == 1
