# SPDX-License-Identifier: Apache-2.0
"""Faults are counted one by one, and logged without filling the log."""

from __future__ import annotations

import pytest

from admin.faults import COUNTER, Faults

pytestmark = pytest.mark.faults


def fail(text: str) -> None:
    raise KeyError(text)


def stumble(faults: Faults, text: str) -> None:
    try:
        fail(text)
    except KeyError as error:
        faults.note(f"serving {text}", error)


def test_the_first_fault_at_a_place_is_logged_with_its_trace_and_each_is_counted() -> None:
    counters = {COUNTER: 0}
    faults = Faults(counters)
    stumble(faults, "one")
    (line,) = faults.take_log()
    assert line.startswith("internal error while serving one:\n")
    assert "in fail" in line
    assert line.endswith("KeyError: 'one'")
    assert faults.take_log() == []
    assert counters == {COUNTER: 1}


def test_the_same_fault_a_thousand_times_takes_four_lines() -> None:
    counters = {COUNTER: 0}
    faults = Faults(counters)
    for number in range(1, 1001):
        stumble(faults, str(number))
    lines = faults.take_log()
    assert counters == {COUNTER: 1000}
    assert len(lines) == 4
    assert lines[3] == "internal error while serving 1000: KeyError('1000'), the 1,000th of these"


def test_faults_at_other_places_are_logged_too() -> None:
    faults = Faults({COUNTER: 0})
    stumble(faults, "one")
    try:
        raise ValueError("two")
    except ValueError as error:
        faults.note("serving two", error)
    assert len(faults.take_log()) == 2
