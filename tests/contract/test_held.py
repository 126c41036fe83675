# SPDX-License-Identifier: Apache-2.0
"""Held flows: while somebody completes two handshakes, both directions come up; then the same entry
with offsets is the splice (docs/design/0012-content.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    CloseCause,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowIsThere,
    FlowState,
    InjectPacket,
    InstallFlow,
    PacketReason,
    RemoveFlow,
)
from packets.parse import ACK
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import Flag
from support.octets import packets
from support.octets.packets import hop, ip_packet, unreachable
from support.targets.rig import Frame, Side
from support.targets.scene import NAT, Scene, assert_packet, only

SPLICE: dict[str, Any] = {
    "held": False,
    "flags": int(NAT | Flag.ADD_TCP_OFFSETS),
    "seq_offset": 0,
    "ack_offset": 70_000,
    "ts_offset": 1_000_000,
    "wscale_shift": -2,
}


@pytest.fixture
def scene(tcp_scene: Scene) -> Iterator[Scene]:
    if not tcp_scene.rig.target.makes_cookies:
        pytest.skip("this target leaves content-aware virtual servers alone")
    yield tcp_scene
    tcp_scene.rig.apply(RemoveFlow(tcp_scene.signature()))


def held(scene: Scene, **changes: Any) -> FlowEntry:
    flags = int(NAT | Flag.PROXY_SERVER)
    entry = scene.entry(**{"held": True, "flags": flags, **changes})
    scene.rig.apply(InstallFlow(entry))
    return entry


def state(scene: Scene) -> FlowState:
    found = scene.rig.target.lookup(scene.signature())
    assert found is not None
    return found


def asks(scene: Scene, flags: str = "PA", **fields: Any) -> Frame:
    return scene.inbound(packets.tcp(scene.client, scene.vip, flags, b"question", **fields))


def answers(scene: Scene, flags: str = "PA", **fields: Any) -> Frame:
    return scene.outbound(packets.tcp(scene.node, scene.client, flags, b"answer", **fields))


def comes_up(scene: Scene, frame: Frame) -> None:
    assert scene.send(frame) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.HELD
    assert up.signature == scene.signature()
    assert up.virtual_server is None
    assert ip_packet(up.frame) == ip_packet(frame[1])


@pytest.mark.parametrize("flags", ["S", "SA", "A", "PA", "FA", "R", "RA"])
def test_both_directions_come_up_and_change_nothing(scene: Scene, flags: str) -> None:
    entry = held(scene)
    comes_up(scene, asks(scene, flags, seq=100, ack=200))
    comes_up(scene, answers(scene, flags, seq=200, ack=100))
    found = state(scene)
    assert found.entry == entry
    assert found.half_open
    assert not found.closed
    assert not found.closing
    assert found.counters.pkts_in == found.counters.pkts_out == 1
    assert (found.client_wants, found.node_wants) == (None, None)


def test_a_splice_keeps_the_counters_and_adds_the_offsets(scene: Scene) -> None:
    entry = held(scene)
    scene.send(asks(scene, seq=100, ack=200), answers(scene, "A", seq=5, ack=108))
    before = state(scene).counters
    scene.up_calls()
    scene.rig.apply(InstallFlow(entry._replace(**SPLICE)))
    found = state(scene)
    assert found.counters == before
    assert not found.half_open
    assert not found.entry.held
    assert found.tcp_flags == ACK
    times = [("NOP", None), ("NOP", None), ("Timestamp", (5, 9_000_000))]
    sent = packets.tcp(
        scene.client, scene.vip, "PA", b"more", seq=108, ack=70_206, options=times, window=500
    )
    # 9.6: the acknowledgement gets ack_offset, the echo loses ts_offset
    there = [("NOP", None), ("NOP", None), ("Timestamp", (5, 8_000_000))]
    wanted = packets.tcp(
        scene.client, scene.node, "PA", b"more", seq=108, ack=140_206, options=there, window=500
    )
    octets = only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert_packet(octets, hop(wanted))
    sent = packets.tcp(scene.node, scene.client, "A", seq=140_206, ack=112, window=500)
    wanted = packets.tcp(scene.vip, scene.client, "A", seq=70_206, ack=112, window=125)
    octets = only(scene.send(scene.outbound(sent)), Side.EXTERNAL)
    assert_packet(octets, hop(wanted))
    assert state(scene).counters.pkts_in == before.pkts_in + 1
    assert state(scene).counters.pkts_out == before.pkts_out + 1


def test_a_spliced_flow_ends_by_the_fins_of_both(scene: Scene) -> None:
    entry = held(scene)
    scene.rig.apply(InstallFlow(entry._replace(**SPLICE)))
    # 70,000 are between the node's numbers and the client's
    scene.send(
        scene.inbound(packets.tcp(scene.client, scene.vip, "FA", b"bye", seq=100, ack=1000)),
        scene.outbound(packets.tcp(scene.node, scene.client, "FA", b"bye", seq=71_000, ack=104)),
        scene.inbound(packets.tcp(scene.client, scene.vip, "A", seq=104, ack=1004)),
    )
    (closed,) = scene.rig.events()
    assert isinstance(closed, FlowClosed)
    assert closed.cause == CloseCause.FIN
    assert closed.state.entry == entry._replace(**SPLICE)


def test_a_spliced_flow_ends_by_a_reset_in_the_clients_numbers(scene: Scene) -> None:
    entry = held(scene)
    scene.rig.apply(InstallFlow(entry._replace(**SPLICE)))
    scene.send(scene.inbound(packets.tcp(scene.client, scene.vip, "A", b"x", seq=100, ack=1000)))
    scene.send(scene.outbound(packets.tcp(scene.node, scene.client, "R", seq=1000)))
    assert scene.rig.events() == []  # not what the client waits for
    scene.send(scene.outbound(packets.tcp(scene.node, scene.client, "R", seq=71_000)))
    (closed,) = scene.rig.events()
    assert isinstance(closed, FlowClosed)
    assert closed.cause == CloseCause.RST


def test_a_flow_may_be_held_before_it_has_a_node(scene: Scene) -> None:
    nowhere = held(scene, flags=0, node_ipaddr=bytes(16), node_port=0)
    comes_up(scene, asks(scene))
    assert state(scene).entry == nowhere
    entry = held(scene)
    comes_up(scene, answers(scene))
    comes_up(scene, asks(scene))
    scene.rig.apply(InstallFlow(entry._replace(**SPLICE)))
    sides = {side for side, _ in scene.send(asks(scene), answers(scene))}
    assert sides == set(Side)
    assert scene.up_calls() == []
    assert scene.rig.target.flow_count() == 1
    assert state(scene).counters.pkts_in == 3


@pytest.mark.parametrize("there", [SPLICE, {}], ids=["spliced", "held"])
def test_what_the_target_has_the_agent_does_not_begin(scene: Scene, there: dict[str, Any]) -> None:
    """Another flow with this signature gives way, as ever."""
    entry = held(scene)
    if there:
        entry = entry._replace(**there)
        scene.rig.apply(InstallFlow(entry))
    begun = entry._replace(
        held=True,
        flags=int(Flag.PROXY_SERVER),
        node_ipaddr=UNSPECIFIED,
        node_port=0,
        ack_offset=0,
        ts_offset=0,
        wscale_shift=0,
    )
    scene.rig.apply(InstallFlow(begun, begins=True))
    assert [each for each in scene.rig.events() if isinstance(each, FlowIsThere)] == [
        FlowIsThere(begun)
    ]
    assert state(scene).entry == entry
    other = begun._replace(serial=entry.serial + 1)
    scene.rig.apply(InstallFlow(other, begins=True))
    assert state(scene).entry == other
    assert [each for each in scene.rig.events() if isinstance(each, FlowIsThere)] == []


def test_a_node_that_sees_another_source_is_understood(scene: Scene) -> None:
    flags = int(NAT | Flag.TRANSLATE_SRC | Flag.PROXY_SERVER)
    held(scene, flags=flags, snat_ipaddr=scene.family.snat, snat_port=61000)
    snat = scene.family.snat, 61000
    comes_up(scene, scene.outbound(packets.tcp(scene.node, snat, "SA", seq=9, ack=101)))


def test_an_error_about_a_held_flow_comes_up(scene: Scene) -> None:
    held(scene)
    syn = packets.tcp(scene.client, scene.node, "S", seq=100)
    error = unreachable(scene.family.node, scene.family.client, bytes(syn), "port")
    comes_up(scene, scene.outbound(error))
    assert not state(scene).closed


def test_what_is_put_back_on_a_held_flow_goes_nowhere(scene: Scene) -> None:
    held(scene)
    scene.send(asks(scene))
    (up,) = scene.up_calls()
    before = scene.values()["drop_inject_unmatched"]
    assert scene.rig.apply(InjectPacket(up)) == []
    assert scene.up_calls() == []
    assert scene.values()["drop_inject_unmatched"] == before + 1


def test_a_held_flow_with_a_silent_client_is_idle(scene: Scene) -> None:
    entry = held(scene)
    scene.rig.advance(1.2)
    while not scene.rig.target.sweep(256, stats=False):
        pass
    (idle,) = scene.rig.events()
    assert isinstance(idle, FlowIdle)
    assert idle.state.entry == entry


def test_a_held_flow_outlives_the_agent(scene: Scene) -> None:
    entry = held(scene)
    before = scene.values()["drop_detached"]
    with scene.rig.agent_away():
        assert scene.send(asks(scene)) == []
    assert state(scene).entry == entry
    assert scene.values()["drop_detached"] == before + 1
    comes_up(scene, asks(scene))


def test_fragments_of_a_held_flow_are_dropped(scene: Scene) -> None:
    held(scene)
    before = scene.values()["drop_fragment"]
    first = packets.fragments(packets.tcp(scene.client, scene.vip, "PA", b"x" * 64), 40)[0]
    assert scene.send(scene.inbound(first)) == []
    assert scene.up_calls() == []
    assert scene.values()["drop_fragment"] == before + 1


def test_a_flood_of_one_connection_does_not_all_come_up(scene: Scene) -> None:
    """It would fill the ring in which everybody's packets come up."""
    held(scene)
    scene.rig.advance(0.2)
    # a switch has a limit for what comes up of everybody, too, which a burst meets first
    limits = ["drop_held_rate"] + ["drop_up_call_full"] * (not scene.rig.target.offloads)
    before = scene.values()
    ack = packets.tcp(scene.client, scene.vip, "A", seq=1000, ack=2000)
    for _ in range(28):  # BMv2's queues hold 64 packets, and it does not say what it drops there
        assert scene.send(*[scene.inbound(ack)] * 50) == []
    up = 0
    while came := len(scene.up_calls()):
        up += came
    after = scene.values()
    dropped = sum(after[name] - before[name] for name in limits)
    assert up + dropped == 1400
    if scene.rig.moves_time:
        assert up == 512
    news = packets.tcp(scene.node, scene.client, "A", seq=2000, ack=1000)
    assert scene.send(scene.outbound(news)) == []
    assert len(scene.up_calls()) == 1  # the other direction is not concerned
    scene.rig.apply(InstallFlow(scene.entry(**SPLICE)))
    for _ in range(12):
        assert len(scene.send(*[scene.inbound(ack)] * 50)) == 50
