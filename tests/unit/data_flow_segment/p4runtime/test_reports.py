# SPDX-License-Identifier: Apache-2.0
"""Questions about flows: few at a time, asked again, given up, and forgotten with their flow."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.reports import ANSWER_S, TRIES, WINDOW, Reports
from support.octets.packets import TCP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import Scene

SCENE = Scene(MemoryRig(), IPV4, TCP_PROTOCOL)
COUNT = 2 * WINDOW + 5


@pytest.fixture
def flows() -> list[SwitchFlow]:
    table = Flows(COUNT, COUNT, 0)
    return [
        table.install(SCENE.entry(signature=SCENE.signature(client=(IPV4.client, port))), 0.0)
        for port in range(1, COUNT + 1)
    ]


def test_few_are_asked_at_a_time_and_each_once(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.ask(flows)
    reports.ask(flows)
    asked: list[int] = []
    while reports:
        due = reports.due(now=1.0)
        assert 0 < len(due) <= WINDOW
        asked += due
        for index in due:
            reports.answered(index)
    assert asked == [flow.index for flow in flows]
    assert reports.unanswered == 0


def test_a_question_without_an_answer_is_repeated_and_given_up(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.ask(flows[:1])
    index, now = flows[0].index, 1.0
    for _ in range(TRIES):
        assert reports.due(now) == [index]
        assert reports.due(now + ANSWER_S / 2) == []
        assert reports.is_wanted(flows[0])
        now += 1.5 * ANSWER_S
    assert reports.due(now) == []
    assert not reports.is_wanted(flows[0])
    assert (bool(reports), reports.unanswered) == (False, 1)


def test_a_late_answer_does_no_harm(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.answered(flows[0].index)
    reports.ask(flows[:1])
    assert reports.due(1.0) == [flows[0].index]


def test_a_flow_that_went_is_not_asked_about(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.ask(flows[:3])
    reports.forget(flows[1])
    assert reports.due(1.0) == [flows[0].index, flows[2].index]
    reports.forget(flows[0])
    assert reports.due(1.0 + 2 * ANSWER_S) == [flows[2].index]
    reports.clear()
    assert not reports
    assert reports.due(9.0) == []


def test_a_look_goes_before_a_pass_over_the_table(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.ask(flows[: WINDOW + 5])
    reports.ask_first([flows[-1], flows[WINDOW + 4]])
    due = reports.due(now=1.0)
    assert due[:2] == [flows[-1].index, flows[WINDOW + 4].index]
    for index in due:
        reports.answered(index)
    # the one that both wanted is asked about once
    assert flows[WINDOW + 4].index not in reports.due(now=1.0)


def test_what_a_look_gave_up_is_not_asked_unless_a_pass_wants_it(flows: list[SwitchFlow]) -> None:
    reports = Reports()
    reports.ask(flows[:WINDOW])
    reports.due(now=1.0)  # the window is full
    reports.ask([flows[-2]])
    reports.ask_first(flows[-2:])
    reports.give_up(flows[-2:])
    assert not reports.is_wanted(flows[-1])
    for flow in flows[:WINDOW]:
        reports.answered(flow.index)
    assert reports.due(now=1.0) == [flows[-2].index]
    # asked about already: its answer is on the way, whoever wanted it
    reports.ask_first(flows[:1])
    reports.due(now=1.0)
    reports.give_up(flows[:1])
    assert reports.is_wanted(flows[0])
