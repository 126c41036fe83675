# SPDX-License-Identifier: Apache-2.0
"""What a network can do to the memory target that the contract suite's network cannot: routes and
neighbours that are missing, queues that are full, interfaces of one arm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6ExtHdrFragment
from scapy.layers.inet6 import IPv6 as IP6

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Event,
    FlowEntry,
    InjectPacket,
    InstallFlow,
    PacketIn,
    PacketReason,
    SetOutboundQuery,
    TransmitPacket,
)
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.memory import MemoryOptions, MemoryTarget
from ssmb.addresses import from_text
from ssmb.constants import Flag, ForwardMode
from support.octets.packets import (
    TCP_PROTOCOL,
    fragments,
    hop,
    ip_packet,
    parsed,
    segment,
    wrong_checksums,
)
from support.targets.rig import FAMILIES, IPV4, IPV6, Family, MemoryRig, Side
from support.targets.scene import Scene, only


def risen(scene: Scene, before: Mapping[str, int]) -> dict[str, int]:
    after = scene.values()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


def rigged(**changes: object) -> MemoryRig:
    """The contract suite's network, changed."""
    rig = MemoryRig()
    options = dataclasses.replace(rig._memory.data_path.options, **changes)  # type: ignore[arg-type]
    rig._memory = MemoryTarget(options, rig._clock)
    rig.target = rig._memory
    return rig


def test_a_neighbour_that_is_not_known(family: Family) -> None:
    scene = Scene(rigged(neighbours={}), family, TCP_PROTOCOL)
    scene.rig.apply(InstallFlow(scene.entry()))
    before = scene.values()
    assert scene.send(scene.inbound(scene.to_vip())) == []
    assert risen(scene, before) == {"packets": 1, "drop_no_neighbour": 1}


def test_a_destination_without_a_route(family: Family) -> None:
    scene = Scene(rigged(routes=()), family, TCP_PROTOCOL)
    scene.rig.apply(InstallFlow(scene.entry()))
    before = scene.values()
    assert scene.send(scene.inbound(scene.to_vip())) == []
    assert scene.rig.apply(TransmitPacket(bytes(scene.to_vip()))) == []
    assert risen(scene, before) == {"packets": 1, "drop_no_route": 2}


def test_a_syn_without_a_way_to_its_node_counts_for_its_flow(family: Family) -> None:
    """The next one is asked about, and not every one of a flood."""
    rig = rigged(neighbours={})
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry(), half_open=True))
    rig.advance(0.3)
    syn = scene.inbound(scene.to_vip(flags="S", seq=1000))
    assert scene.send(syn, syn) == []
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.half_open, state.idle_ms, state.counters.pkts_in) == (True, 0, 2)
    assert scene.up_calls() == []
    rig.advance(0.3)
    assert scene.send(syn) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.UNANSWERED


def test_an_agent_that_does_not_keep_up(family: Family) -> None:
    scene = Scene(rigged(event_capacity=3), family, TCP_PROTOCOL)
    scene.rig.apply(AddVirtualServer(scene.server()))
    for _ in range(5):
        scene.send(scene.inbound(scene.to_vip()))
    assert len(scene.up_calls()) == 3
    assert scene.values()["drop_up_call_full"] == 2


def test_the_oldest_fragment_yields(family: Family) -> None:
    scene = Scene(rigged(fragment_capacity=2), family, TCP_PROTOCOL)
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    cut = [fragments(scene.to_vip(bytes(300)), 160) for _ in range(3)]
    for packets in cut:
        assert len(scene.send(scene.inbound(packets[0]))) == 1
    passed = [len(scene.send(scene.inbound(packets[1]))) for packets in cut]
    assert passed == [0, 1, 1]


def test_a_way_that_carries_less_tells_the_sender(family: Family) -> None:
    rig = MemoryRig()
    narrow = [
        dataclasses.replace(found, mtu=1300 if found.internal else 1500)
        for found in rig._memory.data_path.options.interfaces
    ]
    scene = Scene(rigged(interfaces=tuple(narrow)), family, TCP_PROTOCOL)
    scene.rig.apply(InstallFlow(scene.entry()))
    fields = {"flags": "DF"} if family.is_ipv4 else {}
    head = len(bytes(scene.to_vip(ip_fields=fields)))
    fits = scene.to_vip(b"z" * (1300 - head), ip_fields=fields)
    assert len(only(scene.send(scene.inbound(fits)), Side.INTERNAL)) == 1314
    too_long = scene.to_vip(b"z" * (1301 - head), ip_fields=fields)
    octets = only(scene.send(scene.inbound(too_long)), Side.EXTERNAL)
    error = parsed(octets)
    assert wrong_checksums(ip_packet(octets)) == []
    told = error[ICMP].nexthopmtu if family.is_ipv4 else error[ICMPv6PacketTooBig].mtu
    assert told == 1300
    assert ip_packet(octets).endswith(bytes(too_long)[: 576 - 28 if family.is_ipv4 else 1232])


def test_an_ipv6_tunnel_without_room_for_the_least_packet_fragments_its_own() -> None:
    """No sender makes packets below 1,280 octets (RFC 8200 5, RFC 2473 7.1)."""
    rig = rigged()
    narrow = [
        dataclasses.replace(found, mtu=1300 if found.internal else 1500)
        for found in rig._memory.data_path.options.interfaces
    ]
    scene = Scene(rigged(interfaces=tuple(narrow)), IPV6, TCP_PROTOCOL)
    scene.rig.apply(
        InstallFlow(scene.entry(forward_mode=ForwardMode.TUNNEL, flags=int(Flag.ROUTE_BY_DST_IP)))
    )
    head = len(bytes(scene.to_vip()))
    fits = scene.to_vip(b"z" * (1280 - head))
    out = scene.send(scene.inbound(fits))
    assert len(out) == 2
    assert all(len(ip_packet(octets)) <= 1300 for _, octets in out)
    pieces = [IP6(ip_packet(octets)) for _, octets in out]
    assert [piece[IPv6ExtHdrFragment].m for piece in pieces] == [1, 0]
    assert pieces[1][IPv6ExtHdrFragment].offset * 8 == len(bytes(pieces[0])) - 48
    inner = b"".join(bytes(piece)[48:] for piece in pieces)
    assert inner == bytes(hop(fits))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"z" * (1281 - head)))), Side.EXTERNAL)
    assert parsed(octets)[ICMPv6PacketTooBig].mtu == 1280


def test_one_arm_is_both_sides() -> None:
    """An interface that faces clients and nodes: virtual servers first, then the query."""
    mac = bytes.fromhex("025b00000001")
    there = bytes.fromhex("025b00000c10")
    interface = Interface(5, "eth0", mac, (from_text("10.0.0.1"),), external=True, internal=True)
    options = MemoryOptions(
        interfaces=(interface,),
        routes=(Route.to("10.0.0.0/8", 5),),
        neighbours={from_text("10.0.0.2"): there, from_text("10.0.0.9"): there},
    )
    target = MemoryTarget(options, lambda: 1.0)
    scene = Scene(MemoryRig(), IPV4, TCP_PROTOCOL)
    vip = ("10.9.9.9", 80)
    target.apply([AddVirtualServer(scene.server(scene.key(vip[0]))), SetOutboundQuery(True)])
    assert len(target.transmitted()) == 1  # the address is announced
    link = mac + there + b"\x08\x00"
    for dst in (vip, ("10.0.0.2", 80)):
        packet = segment(TCP_PROTOCOL, ("10.0.0.9", 5), dst, flags="S")
        assert target.receive(5, link + bytes(packet)) == []
    ups = [event for event in target.events() if isinstance(event, PacketIn)]
    assert [up.reason for up in ups] == [1, 3]
    entry: FlowEntry = scene.entry(
        signature=ups[0].signature, node_ipaddr="10.0.0.2", node_port=8080
    )
    target.apply([InstallFlow(entry), InjectPacket(ups[0])])
    ((number, octets),) = target.transmitted()
    assert number == 5
    wanted = segment(TCP_PROTOCOL, ("10.0.0.9", 5), ("10.0.0.2", 8080), flags="S")
    assert ip_packet(octets) == bytes(hop(wanted))


def test_what_is_put_back_on_an_interface_that_is_gone(family: Family) -> None:
    scene = Scene(MemoryRig(), family, TCP_PROTOCOL)
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(scene.to_vip()))
    (up,) = scene.up_calls()
    before = scene.values()
    scene.rig.apply(InstallFlow(scene.entry()), InjectPacket(up._replace(interface=99)))
    assert risen(scene, before) == {"drop_inject_unmatched": 1}


def test_a_detached_data_path_is_a_plain_router(family: Family) -> None:
    rig = MemoryRig()
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    rig.close()
    packet = scene.segment(scene.client, scene.node, b"routed")
    octets = only(scene.send(scene.inbound(packet)), Side.INTERNAL)
    assert ip_packet(octets) == bytes(hop(packet))
    octets = only(scene.send(scene.inbound(scene.to_vip())), Side.EXTERNAL)  # by default
    assert ip_packet(octets) == bytes(hop(scene.to_vip()))


@pytest.mark.parametrize("count", [0, 1, 300, 600])
def test_events_come_a_few_hundred_at_a_time(family: Family, count: int) -> None:
    scene = Scene(MemoryRig(), family, TCP_PROTOCOL)
    scene.rig.apply(AddVirtualServer(scene.server()))
    frame = scene.inbound(scene.to_vip())
    scene.send(*[frame] * count)
    found: list[Event] = []
    while more := scene.rig.target.events():
        assert len(more) <= 500
        found += more
    assert len(found) == count


ANY_FRAME = st.tuples(
    st.sampled_from(list(Side)),
    st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100]),
    st.binary(max_size=100),
)


@given(frames=st.lists(ANY_FRAME, max_size=8), short=st.binary(max_size=14))
@settings(max_examples=150)
def test_no_frame_raises(frames: list[tuple[Side, int, bytes]], short: bytes) -> None:
    rig = MemoryRig()
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    wildcard = scene.key(address=None, port=None)
    rig.apply(AddVirtualServer(scene.server(wildcard)), InstallFlow(scene.entry()))
    for side, kind, octets in frames:
        _, good = scene.inbound(b"\x45") if side is Side.EXTERNAL else scene.outbound(b"\x45")
        rig.exchange([(side, good[:12] + kind.to_bytes(2, "big") + octets), (side, short)])
    for event in rig.events():
        assert isinstance(event, PacketIn)
        rig.apply(InjectPacket(event))
    rig.apply(TransmitPacket(short))
