# SPDX-License-Identifier: Apache-2.0
"""Monitors: a state changes when enough probes in a row say so, and only then; every target is
probed at least once per interval."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import SHOWN, TABLE, Machine, Observed, Said, State
from control_segment.health.schedule import FIRST_S, Schedule
from control_segment.health.targets import Target

RESULTS = st.lists(st.booleans(), max_size=40)
BEFORE = st.sampled_from(["unknown", "up", "down"])
SMALL = st.integers(1, 5)


def monitor(**changes: Any) -> MonitorConfig:
    return MonitorConfig.model_validate({"name": "m", "kind": "tcp", **changes})


def expected(before: str, results: list[bool], rise: int, fall: int) -> str:
    """The same rule, said the long way round."""
    health = before
    for end in range(1, len(results) + 1):
        latest = results[:end]
        if health == "unknown" and latest[-1]:
            health = "up"
        elif health != "down" and len(latest) >= fall and not any(latest[-fall:]):
            health = "down"
        elif health == "down" and len(latest) >= rise and all(latest[-rise:]):
            health = "up"
    return health


def test_every_state_has_both_answers() -> None:
    assert set(TABLE) == {(state, passed) for state in State for passed in (True, False)}


@given(before=BEFORE, results=RESULTS, rise=SMALL, fall=SMALL)
def test_it_changes_when_enough_probes_in_a_row_say_so(
    before: str, results: list[bool], rise: int, fall: int
) -> None:
    machine = Machine(monitor(rise=rise, fall=fall), Said(before))
    for number, passed in enumerate(results):
        shown = machine.said
        changed = machine.observed(Observed(passed, "why"), float(number))
        assert changed == (machine.said != shown)
        assert machine.said.health == expected(before, results[: number + 1], rise, fall)
        assert machine.said.health == SHOWN[machine.state]
        assert machine.said.health == "down" or not machine.said.reason
        assert passed or machine.said.health != "down" or machine.said.reason == "why"


@given(results=st.lists(st.sampled_from([True, False, None]), max_size=40))
def test_what_says_nothing_changes_nothing(results: list[bool | None]) -> None:
    with_gaps, without = Machine(monitor(), Said()), Machine(monitor(), Said())
    for number, passed in enumerate(results):
        with_gaps.observed(Observed(passed, ""), float(number))
        if passed is not None:
            without.observed(Observed(passed, ""), float(number))
    assert with_gaps.said == without.said


@given(results=RESULTS)
def test_a_node_that_says_so_itself_is_believed_at_once(results: list[bool]) -> None:
    machine = Machine(monitor(rise=5, fall=5), Said("up"))
    for number, passed in enumerate(results):
        machine.observed(Observed(passed, "", certain=True), float(number))
        assert machine.said.health == ("up" if passed else "down")


DAMPED = monitor(rise=1, fall=1, damping={"downs": 3, "window_s": 60, "hold_s": 30})


@given(results=st.lists(st.booleans(), min_size=1, max_size=200))
def test_what_goes_down_too_often_is_held_down_until_it_has_passed_for_long(
    results: list[bool],
) -> None:
    machine = Machine(DAMPED, Said("up"))
    downs: list[int] = []  # when it went down
    failed_at = 0
    for now, passed in enumerate(results):
        was_up = machine.said.health == "up"
        machine.observed(Observed(passed, ""), float(now))
        is_up = machine.said.health == "up"
        if not passed:
            assert not is_up
            failed_at = now
            downs += [now] if was_up else []
        elif is_up and not was_up and len(downs) >= 3 and downs[-3] >= downs[-1] - 60:
            assert now - failed_at >= 30
        elif not is_up:
            assert len(downs) >= 3


def test_what_was_held_down_comes_up_when_its_time_is_over() -> None:
    machine = Machine(DAMPED, Said("up"))
    for now, passed in enumerate([False, True, False, True, False, True]):
        machine.observed(Observed(passed, ""), float(now))
    assert machine.state is State.HELD
    assert "too often" in machine.said.reason
    machine.observed(Observed(True, ""), 34.0)
    assert machine.state is State.HELD
    machine.observed(Observed(True, ""), 35.0)
    assert machine.said == Said("up")


@given(
    interval_ms=st.integers(20, 5000),
    fast_ms=st.none() | st.integers(20, 5000),
    targets=st.integers(1, 12),
    took=st.lists(st.floats(0, 3), min_size=1, max_size=10),
    results=st.lists(st.booleans(), min_size=1, max_size=10),
)
def test_every_target_is_probed_at_least_once_per_interval(
    interval_ms: int, fast_ms: int | None, targets: int, took: list[float], results: list[bool]
) -> None:
    fast_ms = None if fast_ms is None else min(fast_ms, interval_ms)
    configured = monitor(interval_ms=interval_ms, fast_interval_ms=fast_ms)
    schedule, interval = Schedule(), interval_ms / 1000
    for port in range(targets):
        schedule.add(Target("m", "10.1.1.2", port), configured, Said(), 1000.0)
    latest: dict[Target, tuple[float, float]] = {}  # when a probe began, and ended
    for number in range(targets * 10):
        due = schedule.get_timer()
        assert due is not None
        watch = schedule.take_due(due)
        assert watch is not None
        before = latest.get(watch.target)
        if before is None:
            assert due <= 1000 + min(FIRST_S, interval)
        else:
            assert due <= max(before[0] + interval, before[1]) + 1e-6
        ended = due + took[number % len(took)]
        latest[watch.target] = due, ended
        schedule.observed(watch, Observed(results[number % len(results)], ""), due, ended)
    assert len(latest) == targets


@given(st.integers(1, 200))
def test_probes_are_spread_over_the_interval(targets: int) -> None:
    schedule = Schedule()
    configured = monitor(interval_ms=10_000)
    for port in range(targets):
        schedule.add(Target("m", "10.1.1.2", port), configured, Said("up"), 0.0)
    places = []
    for _ in range(2 * targets):
        due = schedule.get_timer()
        assert due is not None
        watch = schedule.take_due(due)
        assert watch is not None
        schedule.observed(watch, Observed(True, ""), due, due)
        places.append(due)
    second = sorted(places[targets:])
    for tenth in range(10):  # of an interval
        start = 10.0 + tenth
        among = sum(start <= place % 10 + 10 < start + 1 for place in second)
        assert abs(among - targets / 10) <= 4


def test_what_is_no_longer_watched_is_no_longer_probed() -> None:
    schedule, target = Schedule(), Target("m", "10.1.1.2", 80)
    schedule.add(target, monitor(fall=1), Said(), 0.0)
    watch = schedule.take_due(10.0)
    assert watch is not None
    schedule.remove(target)
    assert schedule.observed(watch, Observed(False, ""), 10.0, 11.0) is None
    assert schedule.get_timer() is None
    assert len(schedule) == 0


def test_a_target_that_is_added_again_is_probed_by_its_new_monitor_alone() -> None:
    schedule, target = Schedule(), Target("m", "10.1.1.2", 80)
    schedule.add(target, monitor(), Said(), 0.0)
    schedule.add(target, monitor(fall=1), Said("up"), 0.0)
    watch = schedule.take_due(10.0)
    assert watch is not None
    assert schedule.take_due(10.0) is None
    assert schedule.observed(watch, Observed(False, "no"), 10.0, 11.0) == Said("down", reason="no")
