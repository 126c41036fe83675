# SPDX-License-Identifier: Apache-2.0
"""Reading the table: sweeps, scans, and who should make room first (9.8, 9.11)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowMoved,
    InstallFlow,
    RemoveFlow,
)
from ssmb.constants import CLOSE_TIMEOUT_ONE_WAY_S, CLOSE_TIMEOUT_S, ForwardMode
from support.targets.scene import Scene


def flows(scene: Scene, count: int, **changes: int) -> list[FlowEntry]:
    found = [
        scene.entry(
            signature=scene.signature(client=(scene.family.client, 20000 + number)),
            serial=3000 + number,
            **changes,
        )
        for number in range(count)
    ]
    scene.rig.apply(*map(InstallFlow, found))
    return found


def swept(scene: Scene, limit: int = 64, *, stats: bool = False) -> list[Event]:
    """A whole pass's events."""
    while not scene.rig.target.sweep(limit, stats=stats):
        pass
    return scene.rig.events()


def packet_of(scene: Scene, entry: FlowEntry) -> None:
    packets_of(scene, [entry])


def packets_of(scene: Scene, entries: Sequence[FlowEntry]) -> None:
    """One of each client's, in a row."""
    clients = [(scene.family.client, entry.signature.src_port) for entry in entries]
    segments = [scene.segment(client, scene.vip, b"x", flags="A") for client in clients]
    scene.send(*map(scene.inbound, segments))


def scanned(scene: Scene, limit: int) -> list[FlowEntry]:
    found: list[FlowEntry] = []
    cursor: bytes | None = None
    while True:
        states, cursor = scene.rig.target.scan(cursor, limit)
        assert len(states) <= limit
        found += [state.entry for state in states]
        if cursor is None:
            return found


def test_a_scan_tells_each_flow_exactly_once(scene: Scene) -> None:
    entries = flows(scene, 100)
    for limit in (1, 7, 100, 1000):
        found = scanned(scene, limit)
        assert len(found) == 100
        assert set(found) == set(entries)


def test_a_scan_of_an_empty_table_ends_at_once(scene: Scene) -> None:
    assert scene.rig.target.scan(None, 10) == ([], None)


def test_flows_that_stay_are_told_once_while_others_come_and_go(scene: Scene) -> None:
    entries = flows(scene, 90)
    leaving, staying = entries[::3], [e for n, e in enumerate(entries) if n % 3]
    states, cursor = scene.rig.target.scan(None, 20)
    found = [state.entry for state in states]
    scene.rig.apply(*(RemoveFlow(entry.signature) for entry in leaving))
    coming = [
        scene.entry(signature=scene.signature(client=(scene.family.client, 50000 + number)))
        for number in range(30)
    ]
    scene.rig.apply(*map(InstallFlow, coming))
    while cursor is not None:
        states, cursor = scene.rig.target.scan(cursor, 20)
        found += [state.entry for state in states]
    for entry in staying:
        assert found.count(entry) == 1
    assert all(found.count(entry) <= 1 for entry in [*leaving, *coming])


def test_a_scan_goes_on_after_its_last_flow_was_removed(scene: Scene) -> None:
    entries = flows(scene, 30)
    found: list[FlowEntry] = []
    cursor: bytes | None = None
    while True:
        states, cursor = scene.rig.target.scan(cursor, 4)
        found += [state.entry for state in states]
        scene.rig.apply(*(RemoveFlow(state.entry.signature) for state in states))
        if cursor is None:
            break
    assert sorted(found) == sorted(entries)
    assert scene.rig.target.flow_count() == 0


def test_a_flow_is_idle_after_its_own_time(scene: Scene) -> None:
    short = flows(scene, 2, idle_timeout_s=1)
    scene.rig.apply(InstallFlow(scene.entry(idle_timeout_s=60)))
    assert swept(scene) == []
    scene.rig.advance(0.6)
    packet_of(scene, short[1])
    scene.rig.advance(0.6)
    (idle,) = swept(scene)
    assert isinstance(idle, FlowIdle)
    assert idle.state.entry == short[0]
    assert 1100 <= idle.state.idle_ms < 60_000
    assert scene.rig.target.lookup(short[0].signature) is not None  # the agent removes it


def test_a_flow_that_half_closed_is_not_idle_by_its_own_time(tcp_scene: Scene) -> None:
    """In the middle of its close it gets CLOSE_TIMEOUT (240 s), not its idle time-out."""
    scene = tcp_scene
    (entry,) = flows(scene, 1, idle_timeout_s=1)
    client = (scene.family.client, entry.signature.src_port)
    scene.send(scene.inbound(scene.segment(client, scene.vip, flags="FA", seq=9)))
    scene.rig.advance(1.2)
    assert swept(scene) == []


def test_a_half_closed_flow_is_idle_after_the_close_timeout(tcp_scene: Scene) -> None:
    scene = tcp_scene
    if not scene.rig.moves_time:
        pytest.skip(f"CLOSE_TIMEOUT is {CLOSE_TIMEOUT_S} s, and this rig would have to wait")
    (entry,) = flows(scene, 1, idle_timeout_s=10 * CLOSE_TIMEOUT_S)
    client = (scene.family.client, entry.signature.src_port)
    scene.send(
        scene.inbound(scene.segment(client, scene.vip, flags="FA", seq=9)),
        scene.outbound(scene.segment(scene.node, client, flags="A", seq=1, ack=10)),
    )
    scene.rig.advance(CLOSE_TIMEOUT_S - 1)
    assert swept(scene) == []
    scene.rig.advance(1)
    (idle,) = swept(scene)
    assert isinstance(idle, FlowIdle)
    assert idle.state.closing


def test_a_half_closed_flow_whose_node_answers_directly_is_idle_earlier(tcp_scene: Scene) -> None:
    """The other half of its close is never seen, so every connection would end like that."""
    scene = tcp_scene
    if not scene.rig.moves_time:
        pytest.skip("this rig would have to wait for CLOSE_TIMEOUT_ONE_WAY")
    (entry,) = flows(scene, 1, idle_timeout_s=10 * CLOSE_TIMEOUT_S, forward_mode=ForwardMode.L2)
    client = (scene.family.client, entry.signature.src_port)
    scene.send(scene.inbound(scene.segment(client, scene.vip, flags="FA", seq=9)))
    scene.rig.advance(CLOSE_TIMEOUT_ONE_WAY_S - 1)
    assert swept(scene) == []
    scene.rig.advance(1)
    assert [type(event) for event in swept(scene)] == [FlowIdle]


def test_a_flow_without_an_idle_timeout_is_never_idle(scene: Scene) -> None:
    flows(scene, 1, idle_timeout_s=0)
    scene.rig.advance(0.3)
    assert swept(scene) == []


def test_an_idle_flow_is_told_in_every_pass_until_it_is_removed(scene: Scene) -> None:
    """The agent may have been too busy for the first one."""
    (entry,) = flows(scene, 1, idle_timeout_s=1)
    scene.rig.advance(1.1)
    for stats in (False, True):
        assert [type(event) for event in swept(scene, stats=stats)] == [FlowIdle]
    scene.rig.apply(RemoveFlow(entry.signature))
    assert swept(scene) == []


def test_an_update_is_no_packet_and_does_not_keep_a_flow_alive(scene: Scene) -> None:
    (entry,) = flows(scene, 1, idle_timeout_s=1)
    scene.rig.advance(0.6)
    scene.rig.apply(InstallFlow(entry._replace(node_port=9999)))
    scene.rig.advance(0.6)
    assert [type(event) for event in swept(scene)] == [FlowIdle]


def test_another_serial_begins_its_idle_time_anew(scene: Scene) -> None:
    (entry,) = flows(scene, 1, idle_timeout_s=1)
    scene.rig.advance(0.6)
    scene.rig.apply(InstallFlow(entry._replace(serial=9)))
    scene.rig.advance(0.6)
    assert swept(scene) == []


def test_each_of_many_idle_flows_is_reported_once(scene: Scene) -> None:
    """Also if nobody removes them: what one call finds, the next `events` takes."""
    entries = flows(scene, 300, idle_timeout_s=1)
    scene.rig.advance(1.1)
    found: list[Event] = []
    is_complete = False
    while not is_complete:
        is_complete = scene.rig.target.sweep(4096, stats=False)
        found += scene.rig.target.events()
    serials = sorted(event.state.entry.serial for event in found if isinstance(event, FlowIdle))
    assert serials == [entry.serial for entry in entries]
    assert list(scene.rig.target.events()) == []


def test_an_idle_flow_that_goes_on_while_others_are_reported_is_not(scene: Scene) -> None:
    if scene.rig.name.startswith("p4"):
        pytest.skip("what a switch is asked of next is on its way while events are taken")
    entries = {entry.serial: entry for entry in flows(scene, 300, idle_timeout_s=2)}
    scene.rig.advance(2.1)
    is_complete = scene.rig.target.sweep(4096, stats=False)
    for event in scene.rig.target.events():
        assert isinstance(event, FlowIdle)
        del entries[event.state.entry.serial]
    assert entries
    packets_of(scene, list(entries.values()))  # at once: there are two seconds until they are idle
    while not is_complete:
        is_complete = scene.rig.target.sweep(4096, stats=False)
    assert [event for event in scene.rig.events() if isinstance(event, FlowIdle)] == []


def test_a_sweep_of_an_empty_table_is_complete_at_once(scene: Scene) -> None:
    assert scene.rig.target.sweep(1, stats=True)
    assert list(scene.rig.target.oldest(3)) == []


def test_flows_that_enter_or_leave_during_a_pass_do_not_disturb_it(scene: Scene) -> None:
    entries = flows(scene, 40)
    pause(scene)
    for entry in entries:
        packet_of(scene, entry)
    pause(scene)
    assert not scene.rig.target.sweep(8, stats=True)
    scene.rig.apply(*(RemoveFlow(entry.signature) for entry in entries[::4]))
    later = scene.entry(signature=scene.signature(client=(scene.family.client, 9)), serial=9)
    scene.rig.apply(InstallFlow(later))
    told = [entry for entry, _ in moved(swept(scene, limit=8, stats=True))]
    staying = [entry for number, entry in enumerate(entries) if number % 4]
    assert len(told) == len(set(told))
    assert set(staying) <= set(told) <= set(entries)


def pause(scene: Scene) -> None:
    """Past the next tick of a kernel's coarse clock: what moved in a pass's own tick may be told
    by that pass or by the next."""
    scene.rig.advance(0.02)


def test_statistics_are_told_for_flows_that_moved_since_the_last_pass(scene: Scene) -> None:
    entries = flows(scene, 6)
    assert swept(scene, stats=True) == []
    pause(scene)
    for entry in entries[:3]:
        packet_of(scene, entry)
    pause(scene)
    assert swept(scene, stats=False) == []
    assert moved(swept(scene, stats=True)) == [(entry, 1) for entry in entries[:3]]
    assert swept(scene, stats=True) == []
    pause(scene)
    packet_of(scene, entries[2])
    packet_of(scene, entries[5])
    pause(scene)
    assert moved(swept(scene, stats=True)) == [(entries[2], 2), (entries[5], 1)]


def moved(events: Sequence[Event]) -> list[tuple[FlowEntry, int]]:
    assert all(isinstance(event, FlowMoved) for event in events), events
    found = [event.state for event in events if isinstance(event, FlowMoved)]
    return sorted((state.entry, state.counters.pkts_in) for state in found)


def test_a_pass_in_small_steps_tells_each_flow_once(scene: Scene) -> None:
    entries = flows(scene, 50)
    pause(scene)
    for entry in entries:
        packet_of(scene, entry)
    pause(scene)
    steps = 1
    while not scene.rig.target.sweep(8, stats=True):
        steps += 1
    assert steps >= 50 // 8
    assert len(moved(scene.rig.events())) == 50


def test_the_first_to_make_room_are_closed_then_idle_and_closing_last(tcp_scene: Scene) -> None:
    scene = tcp_scene
    entries = flows(scene, 5)

    def close(entry: FlowEntry, *, half: bool) -> None:
        client = (scene.family.client, entry.signature.src_port)
        scene.send(
            scene.inbound(scene.segment(client, scene.vip, flags="S", seq=10)),
            scene.outbound(scene.segment(scene.node, client, flags="SA", seq=20, ack=11)),
            scene.inbound(scene.segment(client, scene.vip, flags="FA", seq=11, ack=21)),
        )
        if not half:
            scene.send(
                scene.outbound(scene.segment(scene.node, client, flags="FA", seq=21, ack=12)),
                scene.inbound(scene.segment(client, scene.vip, flags="A", seq=12, ack=22)),
            )

    close(entries[1], half=True)
    for entry in (entries[3], entries[0], entries[2]):
        scene.rig.advance(0.05)
        packet_of(scene, entry)
    scene.rig.advance(0.05)
    close(entries[4], half=False)
    assert [type(event) for event in scene.rig.events()] == [FlowClosed]
    expected = [entries[number] for number in (4, 3, 0, 2, 1)]
    assert [state.entry for state in scene.rig.target.oldest(5)] == expected
    assert [state.entry for state in scene.rig.target.oldest(2)] == expected[:2]
    assert len(scene.rig.target.oldest(100)) == 5


def test_flows_are_counted(scene: Scene) -> None:
    assert scene.rig.target.flow_count() == 0
    entries = flows(scene, 9)
    assert scene.rig.target.flow_count() == 9
    scene.rig.apply(RemoveFlow(entries[0].signature))
    assert scene.rig.target.flow_count() == 8
    assert scene.rig.target.flow_capacity >= 8


def test_idle_time_is_told_since_the_last_packet_of_either_direction(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.rig.advance(0.3)
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert 280 <= state.idle_ms < 5000  # a kernel's coarse clock ticks every few ms
    scene.send(scene.outbound(scene.segment(scene.node, scene.client, b"x")))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.idle_ms < 300
