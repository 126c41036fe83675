# SPDX-License-Identifier: Apache-2.0
"""Gaps, delays and the verdict, from recordings that were written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from splitplane.drill.measure import Gap, gaps_ms, longest_gap, measure, percentile
from splitplane.drill.recording import Attempt, LongFlow, Recording

ADDRESS = "203.0.113.10"
FAILURE = 10.0
FLOW = LongFlow(
    flow="download",
    number=0,
    address=ADDRESS,
    began_s=0.1,
    ended_s=21.0,
    octets=5,
    slowest_s=0.7,
    slowest_at_s=9.9,
)


def attempt(due: float, took: float = 0.01) -> Attempt:
    return Attempt(
        due_s=due, begun_s=due, connected_s=due + took, ended_s=due + 2 * took, address=ADDRESS
    )


def broken(due: float, failure: str = "refused") -> Attempt:
    return replace(attempt(due), connected_s=None, outcome="broken", failure=failure)


def recording(attempts: Iterable[Attempt], flows: Sequence[LongFlow] = (FLOW,)) -> Recording:
    return Recording(0.0, 0.5, 25.0, tuple(attempts), tuple(flows), ())


STEADY = [attempt(number / 10) for number in range(200)]


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], Gap(1, 4)),  # the last of the longest
        ([1, 2, 6, 7], Gap(4, 2)),  # over the start
        ([3.5, 4, 7], Gap(3, 4)),
        ([1, 3.5], Gap(3.5, 3.5)),  # open at the end
        ([], Gap(4, 3)),  # nothing at all
        ([3.5, 6.9, 100], Gap(3.4, 3.5)),  # what comes after the end does not shorten it
    ],
)
def test_the_longest_gap(times: list[float], gap: Gap) -> None:
    found = longest_gap(times, 3, 7)
    assert found.length_s == pytest.approx(gap.length_s)
    if times != [1, 2, 3, 4, 5, 6, 7, 8, 9]:
        assert found.from_s == gap.from_s


def test_percentiles_of_few_and_of_none() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([7.0], 0.99) == 7
    assert percentile([float(number) for number in range(100)], 0.99) == 99


def test_every_failure_has_its_own_gap_until_the_next_one() -> None:
    attempts = [each for each in STEADY if not 4.05 < each.due_s < 4.95 and each.due_s < 15]
    attempts += [attempt(due) for due in (15.5, 16.0, 16.1)]
    assert gaps_ms(recording(attempts), [2.0, 4.5, 10.0, 15.2]) == pytest.approx(
        [490, 1000, 290, 600]  # cut off at the next failure; whole from before its own
    )
    assert gaps_ms(recording(STEADY), [10.0]) == pytest.approx([100])
    assert gaps_ms(recording([]), [10.0, 12.0]) == pytest.approx([2000, 0])


def test_nothing_is_lost_where_all_is_well() -> None:
    found = measure(recording(STEADY), FAILURE)
    assert found.lost == []
    assert (found.attempts, found.broken, found.wrong) == (200, 0, 0)
    assert found.before.longest_gap_ms == pytest.approx(100)
    assert found.after.longest_gap_ms == pytest.approx(100)
    assert found.after.median_ms == pytest.approx(10)


def test_a_pause_is_a_gap_and_slow_connects_count_from_when_they_were_due() -> None:
    back = 12.3
    attempts = [
        each if not FAILURE <= each.due_s < back else attempt(each.due_s, back - each.due_s)
        for each in STEADY
    ]
    found = measure(recording(attempts), FAILURE)
    assert found.lost == []
    assert found.after.slowest_ms == pytest.approx(2300)
    assert found.after.slowest_at_ms == pytest.approx(0)
    assert found.after.longest_gap_ms == pytest.approx(1000 * (12.3 - 9.91))
    assert found.after.longest_gap_at_ms == pytest.approx(-90)
    assert found.before.longest_gap_ms == pytest.approx(100)


def test_a_service_that_never_comes_back_has_a_gap_to_the_end() -> None:
    attempts = [each if each.due_s < FAILURE else broken(each.due_s) for each in STEADY]
    found = measure(recording(attempts), FAILURE)
    assert found.after.longest_gap_ms == pytest.approx(1000 * (19.9 - 9.91))
    assert found.lost == ["100 of 200 new connections broken: 100 x refused"]


def test_wrong_octets_are_lost_and_named() -> None:
    wrong = replace(STEADY[3], outcome="wrong", failure="wrong octets within 7 from 0")
    found = measure(recording([*STEADY, wrong]), FAILURE)
    assert found.wrong == 1
    assert found.lost == [
        "1 of 201 new connections with wrong octets: 1 x wrong octets within 7 from 0"
    ]


def test_broken_flows_are_lost_and_waits_count_only_after_the_failure() -> None:
    early = replace(FLOW, number=1, slowest_s=3.0, slowest_at_s=2.0)
    cut = replace(FLOW, number=2, flow="udp", outcome="broken", failure="refused")
    found = measure(recording(STEADY, [FLOW, early, cut]), FAILURE)
    assert found.lost == ["1 of 1 udp flows broken: 1 x refused"]
    download = found.flows["download"]
    assert (download.flows, download.broken, download.octets) == (2, 0, 10)
    assert download.slowest_ms == pytest.approx(700)
    assert download.slowest_at_ms == pytest.approx(-100)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"ended_s": None}, "ended early"),
        ({"under_way_s": None}, "under way"),
        ({"under_way_s": FAILURE + 0.1}, "under way"),
        ({"attempts": ()}, "no new connection was answered"),
    ],
)
def test_a_recording_that_proves_nothing_is_not_taken_for_success(
    missing: dict[str, Any], said: str
) -> None:
    found = measure(replace(recording(STEADY), **missing), FAILURE)
    assert [sentence for sentence in found.lost if said in sentence]


def test_buckets_have_every_attempt_once() -> None:
    attempts = [each if each.due_s < 15 else broken(each.due_s) for each in STEADY]
    buckets = measure(recording(attempts), FAILURE).buckets
    assert sum(bucket.due for bucket in buckets) == 200
    assert sum(bucket.answered for bucket in buckets) == 150
    assert sum(bucket.failed for bucket in buckets) == 50
    assert buckets[0].at_ms == pytest.approx(-10_000)
    steps = [later.at_ms - earlier.at_ms for earlier, later in pairwise(buckets)]
    assert steps == pytest.approx([100] * len(steps))
