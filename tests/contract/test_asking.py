# SPDX-License-Identifier: Apache-2.0
"""A target that asks about new flows by itself (Offload, `path`): the QUERY that a packet becomes,
and which packets the agent has to ask about."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFlow,
    LeaveToAgent,
    Offload,
    PacketIn,
    PacketReason,
)
from ssmb.constants import PARKED_FRAME_MAX, Flag
from ssmb.serials import derived
from support.octets.packets import TCP_PROTOCOL, fragments, hop
from support.targets.answering_cs import GROUP, AnsweringCs
from support.targets.rig import FAMILIES, Family, OffloadRig, Side
from support.targets.scene import Scene, assert_packet, only

ISN = 0x12345678
LANE_SHIFT = 56


def first(scene: Scene, payload: bytes = b"", port: int = 40000, **fields: Any) -> bytes:
    """A flow's first packet, as the client's frame."""
    client = scene.client[0], port
    if scene.protocol == TCP_PROTOCOL:
        fields = {"flags": "S", "seq": ISN, **fields}
    return scene.inbound(scene.segment(client, scene.vip, payload, **fields))[1]


@pytest.fixture
def asking(asking_rig: OffloadRig, scene: Scene, cs: AnsweringCs) -> AnsweringCs:
    scene.rig.apply(AddVirtualServer(scene.server()), cs.offload())
    assert scene.rig.target.asking(GROUP) == ""
    return cs


def test_a_new_flows_packet_becomes_a_query(scene: Scene, asking: AnsweringCs) -> None:
    before = scene.values()
    frame = first(scene, b"payload", ip_fields={"tos": 0xB9})  # with an ECN bit
    query = asking.asked(scene.send((Side.EXTERNAL, frame)))
    assert query.error_code == query.detail == 0
    assert query.flags == Flag.PARKED | Flag.ADDR16
    assert query.signature == scene.signature(tos=0xB8)
    assert query.tcp_flags == (2 if scene.protocol == TCP_PROTOCOL else 0)
    assert scene.rig.events() == []
    after = scene.values()
    assert after["asked"] == before["asked"] + 1
    assert scene.dropped_since(before) == 0
    assert after["up_calls"] == before["up_calls"]


def test_it_carries_the_frame_and_says_where_that_came_in(
    scene: Scene, asking: AnsweringCs
) -> None:
    payload = bytes(range(100))
    frame = first(scene, payload)
    query = asking.asked(scene.send((Side.EXTERNAL, frame)))
    assert query.frame[12:] == frame[12:]
    number, parked = scene.rig.target.parked(query.frame)
    assert number == scene.rig.interface(Side.EXTERNAL)
    assert parked[12:] == frame[12:]


def test_what_an_ethernet_adds_to_a_short_frame_is_not_carried(
    scene: Scene, asking: AnsweringCs
) -> None:
    frame = first(scene)
    query = asking.asked(scene.send((Side.EXTERNAL, frame + bytes(60))))
    assert query.frame[12:] == frame[12:]


def test_the_agent_can_put_a_carried_frame_back(scene: Scene, asking: AnsweringCs) -> None:
    fields: dict[str, Any] = {"flags": "S"} if scene.protocol == TCP_PROTOCOL else {}
    query = asking.asked(scene.send(scene.inbound(scene.to_vip(b"payload", **fields))))
    number, parked = scene.rig.target.parked(query.frame)
    held = PacketIn(PacketReason.NEW_FLOW, query.signature, 2, number, parked, scene.key())
    out = scene.rig.apply(InstallFlow(scene.entry(serial=query.serial)), InjectPacket(held))
    expected = hop(scene.segment(scene.client, scene.node, b"payload", **fields))
    assert_packet(only(out, Side.INTERNAL), expected)


def test_serials_are_derived_of_what_tells_flows_apart(scene: Scene, asking: AnsweringCs) -> None:
    query = asking.asked(scene.send((Side.EXTERNAL, first(scene))))
    key = scene.rig.target.serial_key()
    assert len(key) == 16
    assert 0 < query.serial < 1 << 31
    if scene.protocol == TCP_PROTOCOL:
        assert query.serial == derived(key, query.session, ISN)
        other = asking.asked(scene.send((Side.EXTERNAL, first(scene, seq=ISN + 1))))
        assert other.serial == derived(key, query.session, ISN + 1) != query.serial
    other = asking.asked(scene.send((Side.EXTERNAL, first(scene, port=40001))))
    assert other.serial != query.serial


def test_a_repeat_has_the_serial_of_the_first(scene: Scene, asking: AnsweringCs) -> None:
    """A repeated SYN; the next datagram, unless a slot of the clock begins between them."""
    frame = Side.EXTERNAL, first(scene)
    queries = [asking.query(octets) for _, octets in scene.send(frame, frame, frame)]
    assert len(queries) == 3
    assert len({query.session for query in queries}) == 1
    assert len({query.serial for query in queries}) <= (1 if scene.protocol == TCP_PROTOCOL else 2)
    assert queries[0].serial in {queries[1].serial, queries[2].serial} or (
        queries[1].serial == queries[2].serial
    )


def test_seals_count_up_in_lanes_that_are_not_the_agents(scene: Scene, asking: AnsweringCs) -> None:
    for port in range(41000, 41008):
        asking.asked(scene.send((Side.EXTERNAL, first(scene, port=port))))
    by_lane: dict[int, list[int]] = {}
    for number in asking.numbers:
        by_lane.setdefault(number >> LANE_SHIFT, []).append(number)
    assert 0 not in by_lane
    for numbers in by_lane.values():
        assert numbers == sorted(set(numbers))
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("of_cs", FAMILIES, ids=lambda family: f"cs-{family.name}")
def test_the_cs_may_be_of_the_other_family(
    asking_rig: OffloadRig, scene: Scene, of_cs: Family
) -> None:
    cs = AnsweringCs(of_cs)
    scene.rig.apply(AddVirtualServer(scene.server()), cs.offload())
    for size in (0, 1, 2, 3, 64, 255):
        frame = first(scene, bytes(range(size)), port=42000 + size)
        query = cs.asked(scene.send((Side.EXTERNAL, frame)))
        assert query.frame[12:] == frame[12:]
        reply = cs.reply(query, scene.entry(), tos=0)
        out = scene.send(cs.frame(reply))
        assert bytes(out[0][1]).endswith(bytes(range(size)))
        assert [side for side, _ in out] == [Side.INTERNAL]


def test_the_longest_frame_that_is_carried(scene: Scene, asking: AnsweringCs) -> None:
    room = PARKED_FRAME_MAX - len(first(scene))
    frame = first(scene, bytes(room))
    query = asking.asked(scene.send((Side.EXTERNAL, frame)))
    assert len(query.frame) == PARKED_FRAME_MAX
    assert query.frame[12:] == frame[12:]
    assert scene.send((Side.EXTERNAL, first(scene, bytes(room + 1), port=40001))) == []
    (held,) = scene.up_calls()
    assert held.reason == PacketReason.NEW_FLOW
    assert len(held.frame) == PARKED_FRAME_MAX + 1


def test_a_wrong_checksum_is_not_asked_about(scene: Scene, asking: AnsweringCs) -> None:
    before = scene.values()
    frame = bytearray(first(scene, b"payload"))
    frame[-1] ^= 1
    assert scene.send((Side.EXTERNAL, bytes(frame))) == []
    assert scene.rig.events() == []
    assert scene.values()["drop_checksum"] == before["drop_checksum"] + 1


def test_what_begins_no_connection_comes_up(asking_rig: OffloadRig, tcp_scene: Scene) -> None:
    scene, cs = tcp_scene, AnsweringCs(tcp_scene.family)
    scene.rig.apply(AddVirtualServer(scene.server()), cs.offload())
    assert scene.send(scene.inbound(scene.to_vip(b"x", flags="PA"))) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.NEW_FLOW]


def test_a_fragment_comes_up(scene: Scene, asking: AnsweringCs) -> None:
    packet = scene.to_vip(bytes(300), **({"flags": "S"} if scene.protocol == TCP_PROTOCOL else {}))
    head = fragments(packet, 256)[0]
    assert scene.send(scene.inbound(head)) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.NEW_FLOW]


def test_a_refused_flow_comes_up_for_a_while(scene: Scene, asking: AnsweringCs) -> None:
    frame = Side.EXTERNAL, first(scene)
    scene.rig.apply(LeaveToAgent(scene.signature(), 400))
    assert scene.send(frame) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.NEW_FLOW]
    asking.asked(scene.send((Side.EXTERNAL, first(scene, port=40001))))  # another client's
    scene.rig.advance(0.45)
    asking.asked(scene.send(frame))


def test_other_groups_and_bridged_servers_are_the_agents(scene: Scene, asking: AnsweringCs) -> None:
    other = scene.key(scene.family.other_vip)
    scene.rig.apply(AddVirtualServer(dataclasses.replace(scene.server(other), group_id=2)))
    assert scene.rig.target.asking(2) != ""
    vip = scene.family.other_vip, scene.vip[1]
    fields: dict[str, Any] = {"flags": "S"} if scene.protocol == TCP_PROTOCOL else {}
    assert scene.send(scene.inbound(scene.segment(scene.client, vip, **fields))) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.NEW_FLOW]
    scene.rig.apply(AddVirtualServer(scene.server(other, bridged=True)))
    assert scene.send(scene.inbound(scene.segment(scene.client, vip, **fields))) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.BRIDGED]


def test_withdrawn_it_asks_no_more(scene: Scene, asking: AnsweringCs) -> None:
    frame = Side.EXTERNAL, first(scene)
    asking.asked(scene.send(frame))
    scene.rig.apply(Offload(GROUP))
    assert scene.rig.target.asking(GROUP) != ""
    assert scene.send(frame) == []
    assert [held.reason for held in scene.up_calls()] == [PacketReason.NEW_FLOW]
    scene.rig.apply(asking.offload())
    assert scene.rig.target.asking(GROUP) == ""
    asking.asked(scene.send(frame))


def test_it_goes_on_asking_with_other_keys(scene: Scene, asking: AnsweringCs) -> None:
    frame = Side.EXTERNAL, first(scene)
    earlier = asking.asked(scene.send(frame))
    other = AnsweringCs(scene.family)
    scene.rig.apply(other.offload())
    assert other.asked(scene.send(frame)).session == earlier.session


def test_without_an_agent_it_goes_on(scene: Scene, asking: AnsweringCs) -> None:
    frame = Side.EXTERNAL, first(scene)
    key = scene.rig.target.serial_key()
    with scene.rig.agent_away():
        query = asking.asked(scene.send(frame))
        out = scene.send(asking.frame(asking.reply(query, scene.entry())))
        assert [side for side, _ in out] == [Side.INTERNAL]
    assert scene.rig.target.adopted
    assert scene.rig.target.serial_key() == key
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.entry.serial, state.counters.pkts_in) == (query.serial, 1)
    assert scene.rig.target.flow_count() == 1
    other = asking.asked(scene.send((Side.EXTERNAL, first(scene, port=40001))))  # until it is told
    assert other.session == query.session._replace(src_port=40001)
    scene.rig.apply(asking.offload())
    asking.asked(scene.send((Side.EXTERNAL, first(scene, port=40002))))
