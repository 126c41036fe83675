# SPDX-License-Identifier: Apache-2.0
"""The target beside a switch that is slow, silent, lost, or full: what the contract suite, which
runs through the same rig, does not see.  No thread, and time passes only where the test says so or
the target waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowIdle,
    FlowMoved,
    InstallFlow,
    RemoveFlow,
)
from data_flow_segment.targets.p4runtime.operations import IdleTimeout
from data_flow_segment.targets.p4runtime.target import LOOK_S, SULK_S
from ssmb.constants import CLOSE_TIMEOUT_S
from support.octets.packets import TCP_PROTOCOL
from support.targets.p4_model_rig import P4ModelRig
from support.targets.rig import IPV4, Side
from support.targets.scene import Scene


@pytest.fixture
def rig() -> Iterator[P4ModelRig]:
    made = P4ModelRig()
    yield made
    if made.switch.is_connected:
        made.close()


@pytest.fixture
def scene(rig: P4ModelRig) -> Scene:
    return Scene(rig, IPV4, TCP_PROTOCOL)


def pass_over(rig: P4ModelRig, *, stats: bool) -> list[Event]:
    """What a whole pass tells."""
    found: list[Event] = []
    for _ in range(1000):
        is_complete = rig.target.sweep(1, stats=stats)
        found += rig.target.events()
        if is_complete:
            return found
    raise AssertionError("a pass that never ends")


def value(rig: P4ModelRig, name: str) -> int:
    return rig.target.counters()[name].value


# --- looks ---------------------------------------------------------------------------------------


def test_a_look_asks_the_switch(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"x")))
    rig.clock.now += 3
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.counters.pkts_in, state.counters.pkts_out, state.idle_ms) == (1, 0, 3000)
    assert rig.target.lookup(scene.signature(client=(IPV4.client, 9))) is None


def test_a_switch_that_says_nothing_is_waited_for_once_a_while(
    rig: P4ModelRig, scene: Scene
) -> None:
    rig.apply(InstallFlow(scene.entry()))
    rig.switch.unanswered = -1
    began = rig.clock.now
    assert rig.target.lookup(scene.signature()) is not None
    assert rig.clock.now - began == pytest.approx(LOOK_S)
    assert rig.target.lookup(scene.signature()) is not None
    assert rig.target.scan(None, 10)[0] != []
    assert rig.clock.now - began == pytest.approx(LOOK_S)
    rig.clock.now += SULK_S
    rig.switch.unanswered = 0
    scene.send(scene.inbound(scene.to_vip(b"x")))
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 1


def test_a_switch_that_is_lost_is_not_asked(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    rig.lose()
    began, asked = rig.clock.now, rig.switch.questions
    assert rig.target.lookup(scene.signature()) is not None
    assert len(rig.target.oldest(5)) == 1
    assert (rig.clock.now, rig.switch.questions) == (began, asked)
    assert rig.target.counters()["switch_lost"].value == 1


def test_a_question_that_is_lost_is_asked_again(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"x")))
    rig.switch.unanswered = 1
    began = rig.switch.questions
    events = pass_over(rig, stats=True)
    (moved,) = [event for event in events if isinstance(event, FlowMoved)]
    assert moved.state.counters.pkts_in == 1
    assert rig.switch.questions == began + 2
    assert value(rig, "report_unanswered") == 0


def test_a_flow_that_the_switch_says_nothing_of_is_given_up_and_counted(
    rig: P4ModelRig, scene: Scene
) -> None:
    rig.apply(InstallFlow(scene.entry(idle_timeout_s=1)))
    rig.switch.unanswered = -1
    rig.clock.now += 2
    (event,) = pass_over(rig, stats=True)
    assert isinstance(event, FlowIdle)  # as far as is known
    rig.switch.unanswered = 0
    assert value(rig, "report_unanswered") == 1


def test_a_fence_that_gets_no_answer_is_counted(rig: P4ModelRig) -> None:
    rig.switch.unanswered = 1
    assert rig.p4.settle()  # the driver gave it up; nobody waits for ever
    assert value(rig, "report_unanswered") == 1


def test_a_scan_in_pieces_sees_each_flow_once(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(*scene.some_flows(10))
    seen: list[int] = []
    cursor: bytes | None = None
    while True:
        found, cursor = rig.target.scan(cursor, 3)
        seen += [state.entry.signature.src_port for state in found]
        if cursor is None:
            break
    assert seen == list(range(2000, 2010))


def test_the_oldest_are_looked_at_again_before_they_are_told(rig: P4ModelRig, scene: Scene) -> None:
    """The agent would end a flow that only it believes to be idle."""
    rig.apply(*scene.some_flows(4))
    rig.clock.now += 50
    scene.send(scene.inbound(scene.segment((IPV4.client, 2000), scene.vip, b"x")))
    rig.clock.now += 1
    ports = [state.entry.signature.src_port for state in rig.target.oldest(2)]
    assert 2000 not in ports
    assert len(ports) == 2
    (*_, last) = rig.target.oldest(4)
    assert (last.entry.signature.src_port, last.idle_ms) == (2000, 1000)


# --- passes --------------------------------------------------------------------------------------


def test_a_pass_tells_who_moved_and_only_when_asked(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(*scene.some_flows(3))
    scene.send(scene.inbound(scene.segment((IPV4.client, 2001), scene.vip, b"x")))
    assert pass_over(rig, stats=False) == []
    (moved,) = pass_over(rig, stats=True)
    assert isinstance(moved, FlowMoved)
    assert moved.state.entry.signature.src_port == 2001
    assert pass_over(rig, stats=True) == []  # it did not move since


def test_what_the_switch_found_idle_is_looked_at_first(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(*scene.some_flows(5), InstallFlow(scene.entry(idle_timeout_s=2)))
    scene.send(scene.inbound(scene.to_vip(b"x")))
    rig.clock.now += 2.5
    results = list(rig.switch.idle())
    assert isinstance(results[0], IdleTimeout)
    rig.driver.put(results)
    assert rig.target.events() == []
    assert not rig.target.sweep(1, stats=False)  # a slice of one: its turn would be the sixth
    rig.target.sweep(1, stats=False)
    (idle,) = rig.target.events()
    assert isinstance(idle, FlowIdle)
    assert (idle.state.entry.signature, idle.state.idle_ms) == (scene.signature(), 2500)
    assert pass_over(rig, stats=False) == []  # in this pass it had its turn
    (again,) = pass_over(rig, stats=False)  # but the agent left it there
    assert isinstance(again, FlowIdle)


def test_a_flow_that_went_on_is_not_idle_whatever_one_entry_says(
    rig: P4ModelRig, scene: Scene
) -> None:
    rig.apply(InstallFlow(scene.entry(idle_timeout_s=2)))
    scene.send(scene.inbound(scene.to_vip(b"x")))
    rig.clock.now += 2.5
    told = list(rig.switch.idle())
    scene.send(scene.inbound(scene.to_vip(b"just now")))
    rig.driver.put(told)
    assert pass_over(rig, stats=False) == []


def test_a_flow_that_hangs_in_its_close_ends(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry(idle_timeout_s=0)))
    scene.send(scene.inbound(scene.to_vip(flags="FA", seq=10, ack=1)))
    rig.clock.now += CLOSE_TIMEOUT_S
    (idle,) = pass_over(rig, stats=False)
    assert isinstance(idle, FlowIdle)
    assert idle.state.closing


# --- ends ----------------------------------------------------------------------------------------


def closing(scene: Scene) -> list[tuple[Side, bytes]]:
    """The client gives up, with a number that the node expects."""
    back = scene.segment(scene.node, scene.client, flags="A", seq=500, ack=100)
    return [
        scene.inbound(scene.to_vip(flags="A", seq=100, ack=500)),
        scene.outbound(back),
        scene.inbound(scene.to_vip(flags="R", seq=100)),
    ]


def test_the_end_of_a_flow_is_told_once(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    scene.send(*closing(scene))
    (closed,) = rig.events()
    assert isinstance(closed, FlowClosed)
    assert closed.state.counters.pkts_in == 2
    assert pass_over(rig, stats=True) == []


def test_an_end_whose_copy_was_lost_is_told_by_the_pass(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    (copy,) = rig.kept_from_the_agent(closing(scene))
    (closed,) = pass_over(rig, stats=False)
    assert isinstance(closed, FlowClosed)
    rig.driver.put([copy])  # it was late only
    assert rig.events() == []
    assert pass_over(rig, stats=False) == []


def test_the_end_of_an_earlier_flow_is_not_the_next_ones(rig: P4ModelRig, scene: Scene) -> None:
    """Its copy was under way while the place was given to another flow."""
    rig.apply(InstallFlow(scene.entry()))
    (copy,) = rig.kept_from_the_agent(closing(scene))
    rig.apply(RemoveFlow(scene.signature()), InstallFlow(scene.entry(serial=2)))
    rig.driver.put([copy])
    assert rig.events() == []
    assert pass_over(rig, stats=True) == []


def test_a_report_of_a_flow_that_is_gone_says_nothing(rig: P4ModelRig, scene: Scene) -> None:
    rig.apply(InstallFlow(scene.entry()))
    (copy,) = rig.kept_from_the_agent(closing(scene))
    rig.apply(RemoveFlow(scene.signature()))
    rig.driver.put([copy])
    assert rig.events() == []
