# SPDX-License-Identifier: Apache-2.0
"""Flows whose handshake is not done: a short timeout of their own, and first to make room (9.8).

The rigs are configured with a timeout of one second.
"""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import (
    Event,
    FlowCounters,
    FlowEntry,
    FlowIdle,
    FlowState,
    InstallFlow,
)
from ssmb.constants import ForwardMode
from support.targets.scene import Scene

SYN, ACK = 0x02, 0x10


def entry_from(scene: Scene, port: int, **changes: int) -> FlowEntry:
    client = (scene.family.client, port)
    return scene.entry(signature=scene.signature(client=client), serial=port, **changes)


def client_sends(scene: Scene, port: int, flags: str, seq: int, ack: int = 0) -> None:
    client = (scene.family.client, port)
    packet = scene.segment(client, scene.vip, flags=flags, seq=seq, ack=ack)
    scene.send(scene.inbound(packet))


def node_sends(scene: Scene, port: int, flags: str, seq: int, ack: int) -> None:
    client = (scene.family.client, port)
    packet = scene.segment(scene.node, client, flags=flags, seq=seq, ack=ack)
    scene.send(scene.outbound(packet))


def begun(scene: Scene, port: int, **changes: int) -> FlowEntry:
    """SYN, and SYN-ACK where it passes."""
    entry = entry_from(scene, port, **changes)
    scene.rig.apply(InstallFlow(entry))
    client_sends(scene, port, "S", 100)
    if not changes.get("forward_mode"):
        node_sends(scene, port, "SA", 500, 101)
    return entry


def established(scene: Scene, port: int, **changes: int) -> FlowEntry:
    entry = begun(scene, port, **changes)
    client_sends(scene, port, "A", 101, 501)
    return entry


def state_of(scene: Scene, entry: FlowEntry) -> FlowState:
    state = scene.rig.target.lookup(entry.signature)
    assert state is not None
    return state


def swept(scene: Scene) -> list[Event]:
    while not scene.rig.target.sweep(256, stats=False):
        pass
    return scene.rig.events()


def test_a_flow_that_a_syn_begins_is_half_open_from_its_entry(tcp_scene: Scene) -> None:
    """Whatever became of the SYN: it may never have been sent on."""
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry, half_open=True))
    state = state_of(scene, entry)
    assert (state.half_open, state.tcp_flags, state.counters) == (True, SYN, FlowCounters())
    assert swept(scene) == []
    scene.rig.advance(1.1)
    (idle,) = swept(scene)
    assert isinstance(idle, FlowIdle)
    assert (idle.state.entry, idle.state.half_open, idle.state.tcp_flags) == (entry, True, SYN)


def test_a_handshake_completes_a_flow_that_was_entered_half_open(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry, half_open=True))
    client_sends(scene, 1000, "S", 100)
    node_sends(scene, 1000, "SA", 500, 101)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "A", 101, 501)
    assert not state_of(scene, entry).half_open
    scene.rig.apply(InstallFlow(entry._replace(idle_timeout_s=61), half_open=True))
    assert not state_of(scene, entry).half_open  # an update


def test_before_its_syn_has_passed_nobody_establishes_anything(tcp_scene: Scene) -> None:
    scene = tcp_scene
    if not scene.rig.target.offloads:
        pytest.skip("a switch's registers do not say how a flow was entered")
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry, half_open=True))
    client_sends(scene, 1000, "A", 101, 501)
    node_sends(scene, 1000, "SA", 500, 101)
    client_sends(scene, 1000, "A", 101, 501)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "S", 100)
    node_sends(scene, 1000, "SA", 500, 101)
    client_sends(scene, 1000, "A", 101, 501)
    assert not state_of(scene, entry).half_open


def test_another_flow_of_the_session_is_half_open_or_not(tcp_scene: Scene) -> None:
    """As it is entered, whatever the one before was."""
    scene = tcp_scene
    kept = established(scene, 1000)
    scene.rig.apply(InstallFlow(kept._replace(serial=2000), half_open=True))
    assert state_of(scene, kept).half_open
    scene.rig.apply(InstallFlow(kept._replace(serial=2001)))
    assert not state_of(scene, kept).half_open


@pytest.mark.parametrize("answered", [False, True])
def test_a_flow_without_the_clients_acknowledgement_ends_early(
    tcp_scene: Scene, answered: bool
) -> None:
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry))
    client_sends(scene, 1000, "S", 100)
    if answered:
        node_sends(scene, 1000, "SA", 500, 101)
    kept = established(scene, 1001)
    state = state_of(scene, entry)
    flags = SYN | ACK if answered else SYN
    assert (state.half_open, state.tcp_flags) == (True, flags)
    assert (state_of(scene, kept).half_open, state_of(scene, kept).tcp_flags) == (False, SYN | ACK)
    assert swept(scene) == []
    scene.rig.advance(1.1)
    if answered:
        node_sends(scene, 1000, "SA", 500, 101)  # a node that repeats its answer prolongs nothing
    (idle,) = swept(scene)
    assert isinstance(idle, FlowIdle)
    assert (idle.state.entry, idle.state.half_open, idle.state.tcp_flags) == (entry, True, flags)


def test_a_repeated_syn_begins_the_time_anew(tcp_scene: Scene) -> None:
    scene = tcp_scene
    begun(scene, 1000)
    scene.rig.advance(0.6)
    client_sends(scene, 1000, "S", 100)
    scene.rig.advance(0.6)
    assert swept(scene) == []


def test_a_client_that_made_up_its_acknowledgement_has_established_nothing(
    tcp_scene: Scene,
) -> None:
    """It did not see the node's answer."""
    scene = tcp_scene
    entry = begun(scene, 1000)
    for seq, ack in ((101, 500), (101, 502), (101, 90_000), (90_000, 501)):
        client_sends(scene, 1000, "A", seq, ack)
        client_sends(scene, 1000, "PA", seq, ack)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "A", 101, 501)
    assert not state_of(scene, entry).half_open


def test_before_the_node_has_answered_nothing_is_established(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry))
    client_sends(scene, 1000, "S", 100)
    client_sends(scene, 1000, "A", 101, 501)
    assert state_of(scene, entry).half_open


def test_a_node_that_means_an_earlier_connection_is_reset_and_answers_then(
    tcp_scene: Scene,
) -> None:
    """It is in TIME-WAIT with the client's port.  RFC 9293 3.5.3: it acknowledges what it had, the
    client resets that, and its next SYN is taken; the flow is that of the SYN all the time."""
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry, half_open=True))
    client_sends(scene, 1000, "S", 100)
    node_sends(scene, 1000, "A", 300, 2_000_000_000)
    client_sends(scene, 1000, "R", 2_000_000_000)
    state = state_of(scene, entry)
    assert (state.closed, state.half_open) == (False, True)
    client_sends(scene, 1000, "S", 100)
    node_sends(scene, 1000, "SA", 500, 101)
    client_sends(scene, 1000, "A", 101, 501)
    state = state_of(scene, entry)
    assert (state.closed, state.half_open) == (False, False)
    client_sends(scene, 1000, "R", 101)
    assert state_of(scene, entry).closed


def test_either_of_two_answers_may_be_acknowledged(tcp_scene: Scene) -> None:
    """A node with SYN cookies answers a repeated SYN with another number."""
    scene = tcp_scene
    for port, ack in ((1000, 501), (1001, 7_000_001)):
        entry = begun(scene, port)
        client_sends(scene, port, "S", 100)
        node_sends(scene, port, "SA", 7_000_000, 101)
        client_sends(scene, port, "A", 101, ack)
        assert not state_of(scene, entry).half_open
        node_sends(scene, port, "R", ack, 0)
        assert state_of(scene, entry).closed


def test_with_direct_return_the_clients_own_number_establishes(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = begun(scene, 1000, forward_mode=ForwardMode.L2, flags=0)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "A", 90_000, 501)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "A", 101, 501)
    assert not state_of(scene, entry).half_open


def test_a_shorter_idle_timeout_holds_for_half_open_flows_too(tcp_scene: Scene) -> None:
    """And one that is never idle does not keep a half-open flow."""
    scene = tcp_scene
    never = begun(scene, 1000, idle_timeout_s=0)
    scene.rig.advance(1.1)
    (idle,) = swept(scene)
    assert isinstance(idle, FlowIdle)
    assert idle.state.entry == never


def test_a_flow_that_is_met_in_the_middle_is_not_half_open(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = entry_from(scene, 1000)
    scene.rig.apply(InstallFlow(entry))
    assert not state_of(scene, entry).half_open
    client_sends(scene, 1000, "PA", 101, 501)
    assert not state_of(scene, entry).half_open
    scene.rig.advance(1.1)
    assert swept(scene) == []


def test_half_open_flows_make_room_before_silent_connections(tcp_scene: Scene) -> None:
    scene = tcp_scene
    silent = [established(scene, 1000 + number) for number in range(7)]
    scene.rig.advance(0.1)
    flood = [begun(scene, 2000 + number) for number in range(2)]
    found = [state.entry for state in scene.rig.target.oldest(9)]
    assert found[:2] == flood
    assert found[2:] == silent


def test_a_young_handshake_is_worth_as_much_as_a_connection(tcp_scene: Scene) -> None:
    """Otherwise nobody could connect to a full table: each SYN would take the last one's place."""
    scene = tcp_scene
    silent = [established(scene, 1000 + number) for number in range(9)]
    scene.rig.advance(0.1)
    young = begun(scene, 2000)
    assert [state.entry for state in scene.rig.target.oldest(10)] == [*silent, young]
    scene.rig.advance(1.1)
    assert [state.entry for state in scene.rig.target.oldest(10)] == [young, *silent]


def test_another_connection_from_the_same_port_is_half_open_again(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entry = established(scene, 1000)
    client_sends(scene, 1000, "S", 9_000_000)
    assert not state_of(scene, entry).half_open  # it may be anybody's
    node_sends(scene, 1000, "SA", 4_000_000, 9_000_001)
    assert state_of(scene, entry).half_open
    client_sends(scene, 1000, "A", 9_000_001, 4_000_001)
    assert not state_of(scene, entry).half_open
