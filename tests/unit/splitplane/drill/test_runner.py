# SPDX-License-Identifier: Apache-2.0
"""What makes a series of failures a failed one, and whether a next one may come."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from splitplane.drill.field import Field
from splitplane.drill.roles import is_redundant
from splitplane.drill.runner import Failure, Times, _Caused, _ready, wrong


def failure(before: str | None, after: str | None) -> Failure:
    return Failure(at_s=1.0, gap_ms=200.0, ready_ms=None, active_before=before, active_after=after)


SERIES = [failure("cs1", "cs2"), failure("cs2", "cs1"), failure("cs1", "cs2")]


@pytest.mark.parametrize(
    ("expected", "failures", "said"),
    [
        ("another", SERIES, []),
        ("same", SERIES[:1], ["cs2 is active at the end, and there was no need for that"]),
        ("another", [*SERIES, failure("cs2", "cs2")], ["failure 4: no other CS took over: cs2"]),
        ("either", [failure("cs1", None), *SERIES], ["failure 1: no CS is active at the end"]),
        ("another", [failure(None, None)] * 2, []),  # the deployment's sockets are not known
    ],
)
def test_each_failure_of_a_series_is_judged(
    expected: str, failures: list[Failure], said: list[str]
) -> None:
    problems = list(wrong(expected, failures, len(failures)))
    assert len(problems) == len(said)
    assert all(problem.startswith(start) for problem, start in zip(problems, said, strict=True))


def test_a_series_that_is_too_short_is_a_problem() -> None:
    (problem,) = wrong("another", SERIES, 5)
    assert problem.startswith("only 3 of 5 failures in a row")


def test_the_load_lasts_for_all_failures() -> None:
    times = Times(settle_s=4, outage_s=1, after_s=2, failures=100)
    assert (times.period_s, times.seconds) == (3, 304)


class Answering:
    """A deployment whose DFS is too late with some of its answers."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = iter(answers)

    def active(self) -> str | None:
        return next(self._answers)

    def is_ready(self) -> bool:
        return True


class Sleeping:
    """Loads that go on."""

    times = 0

    def sleep_until(self, due: float) -> None:
        self.times += 1


@pytest.mark.parametrize(
    ("before", "answers", "after"),
    [("cs1", [None, None, "cs2"], "cs2"), ("cs1", ["cs1"], "cs1"), (None, [None], None)],
)
def test_a_late_answer_does_not_count_as_no_cs(
    before: str | None, answers: list[str | None], after: str | None
) -> None:
    """None: no socket of a DFS is known, and there is nothing to wait for."""
    deployment: Any = Answering(*answers)
    loads: Any = Sleeping()
    caused = _Caused(time.monotonic(), [], before)
    due = _ready(deployment, caused, math.inf, math.inf, loads)
    assert (due, caused.active_after) == (math.inf, after)
    assert loads.times == len(answers) - 1


def test_who_is_to_fail_is_asked_until_the_dfs_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Field.__new__(Field)
    answers = iter([None, None, "cs2"])
    monkeypatch.setattr(Field, "active", lambda _: next(answers))
    field.choose_victim()
    assert field.victim == "cs2"


WHOLE: dict[str, Any] = {"ready": True, "ssmb_authenticated": True, "sync": {"running": False}}
COPY = {"complete": True, "differs": False}


def cs(**dfs: Any) -> dict[str, Any]:
    return {"role": "cs", "data_flow_segments": [{**WHOLE, **dfs}]}


DFS = {"role": "dfs", "groups": [{"active": {"segment_id": 1}}]}
DFS_ALONE = {"role": "dfs", "groups": [{"active": None}]}


@pytest.mark.parametrize(
    ("statuses", "redundant"),
    [
        ([DFS, cs(), cs(copy=COPY)], True),
        ([], True),  # nothing is known
        ([DFS, None, cs(copy=COPY)], False),
        ([DFS_ALONE, cs(copy=COPY)], False),
        ([DFS, cs(), cs(copy={**COPY, "complete": False})], False),
        ([DFS, cs(), cs(copy={**COPY, "differs": True})], True),  # by what has ended
        ([DFS, cs(ready=False)], False),
        ([DFS, cs(ssmb_authenticated=False)], False),
        ([DFS, cs(sync=None)], False),
        ([DFS, cs(sync={"running": True})], False),
    ],
)
def test_a_next_failure_waits_until_all_is_redundant(
    statuses: list[dict[str, Any] | None], redundant: bool
) -> None:
    assert is_redundant(statuses) is redundant
