# SPDX-License-Identifier: Apache-2.0
"""What a recording says: gaps, delays, losses, and the verdict.  Pure: values in, values out.

Times in results are milliseconds; those that end in `_at_ms` count from the failure, and are
negative before it.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from splitplane.drill.recording import Attempt, LongFlow, Recording

BUCKET_S: Final = 0.1
_NAMED: Final = 3  # of failures of one kind, by their own words


class Gap(NamedTuple):
    """A time without an event; seconds."""

    length_s: float
    from_s: float


def longest_gap(times: Iterable[float], start_s: float, end_s: float) -> Gap:
    """The longest time between neighbours in *times* of which a part is within start to end.

    The gap over the start begins with the last event before it.  One that is open at the end ends
    there, so that a service that never comes back has a gap as long as was watched.
    """
    longest = Gap(0.0, start_s)
    last = start_s
    for time in sorted(times):
        if time > end_s:
            break
        if time > start_s:
            longest = max(longest, Gap(time - last, last))
        last = time
    if last < end_s:
        longest = max(longest, Gap(end_s - last, last))
    return longest


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* (0 to 1) of the values are; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long connects took, each from when it was due."""

    connects: int
    median_ms: float
    p99_ms: float
    slowest_ms: float
    slowest_at_ms: float
    longest_gap_ms: float  # between two successful new connections
    longest_gap_at_ms: float  # when it began


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTally:
    """The long flows of one kind."""

    flows: int
    broken: int
    wrong: int
    octets: int
    slowest_ms: float  # the longest wait for the other end, after the failure
    slowest_at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Of the new connections in one time of BUCKET_S."""

    at_ms: float  # its beginning
    due: int
    answered: int  # that ended well in it
    failed: int  # that ended otherwise in it
    median_ms: float | None  # until the whole answer was there, of those due in it
    slowest_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the clients saw of one failure."""

    attempts: int
    broken: int
    wrong: int
    before: Delays
    after: Delays
    flows: dict[str, FlowTally]
    lag_ms: float  # of the load generator itself: a delay of less is not to be believed
    buckets: list[Bucket]
    lost: list[str]  # in sentences; empty: nothing


def measure(recording: Recording, failure_s: float) -> Measurement:
    """Evaluate; *failure_s* is when the failure really happened."""
    attempts = recording.attempts
    begin = recording.under_way_s or recording.started_s
    end = max((attempt.due_s for attempt in attempts), default=failure_s)
    outcomes = Counter(attempt.outcome for attempt in attempts)
    return Measurement(
        attempts=len(attempts),
        broken=outcomes["broken"],
        wrong=outcomes["wrong"],
        before=_delays(attempts, begin, min(failure_s, end), failure_s),
        after=_delays(attempts, failure_s, end, failure_s),
        flows={
            kind: _tally([flow for flow in recording.flows if flow.flow == kind], failure_s)
            for kind in dict.fromkeys(flow.flow for flow in recording.flows)
        },
        lag_ms=1000 * max((each.begun_s - each.due_s for each in attempts), default=0.0),
        buckets=list(_buckets(attempts, failure_s)),
        lost=list(_losses(recording, failure_s)),
    )


def _delays(attempts: Sequence[Attempt], start: float, end: float, failure_s: float) -> Delays:
    """Of the connects due from *start* to *end*; a gap is between successes."""
    took = [
        (attempt.connected_s - attempt.due_s, attempt.due_s)
        for attempt in attempts
        if attempt.connected_s is not None and start <= attempt.due_s <= end
    ]
    slowest, slowest_at = max(took, default=(0.0, failure_s))
    gap = longest_gap(_successes(attempts), start, end)
    return Delays(
        connects=len(took),
        median_ms=1000 * (statistics.median(wait for wait, _ in took) if took else 0.0),
        p99_ms=1000 * percentile([wait for wait, _ in took], 0.99),
        slowest_ms=1000 * slowest,
        slowest_at_ms=1000 * (slowest_at - failure_s),
        longest_gap_ms=1000 * gap.length_s,
        longest_gap_at_ms=1000 * (gap.from_s - failure_s),
    )


def _successes(attempts: Iterable[Attempt]) -> list[float]:
    """When each that was answered had connected."""
    return [
        attempt.connected_s
        for attempt in attempts
        if attempt.connected_s is not None and attempt.outcome == "ok"
    ]


def gaps_ms(recording: Recording, failures: Sequence[float]) -> list[float]:
    """The longest gap in new connections after each of these times, until the next one."""
    successes = sorted(_successes(recording.attempts))
    last = max((attempt.due_s for attempt in recording.attempts), default=0.0)
    ends = [*failures[1:], max(last, *failures)]
    lengths = []
    for start, end in zip(failures, ends, strict=True):
        # with the neighbours outside, which a gap over the start or the end needs
        first = max(0, bisect_left(successes, start) - 1)
        near = successes[first : bisect_right(successes, end)]
        lengths.append(1000 * longest_gap(near, start, end).length_s)
    return lengths


def _tally(flows: Sequence[LongFlow], failure_s: float) -> FlowTally:
    outcomes = Counter(flow.outcome for flow in flows)
    # a wait that was over before the failure has nothing to do with it
    slowest, at = max(
        (
            (flow.slowest_s, flow.slowest_at_s)
            for flow in flows
            if flow.slowest_at_s + flow.slowest_s >= failure_s
        ),
        default=(0.0, failure_s),
    )
    return FlowTally(
        flows=len(flows),
        broken=outcomes["broken"],
        wrong=outcomes["wrong"],
        octets=sum(flow.octets for flow in flows),
        slowest_ms=1000 * slowest,
        slowest_at_ms=1000 * (at - failure_s),
    )


def _buckets(attempts: Sequence[Attempt], failure_s: float) -> Iterator[Bucket]:
    due: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    waits: defaultdict[int, list[float]] = defaultdict(list)
    for attempt in attempts:
        began = _bucket(attempt.due_s, failure_s)
        due[began] += 1
        ended = _bucket(attempt.ended_s, failure_s)
        if attempt.outcome == "ok":
            answered[ended] += 1
            waits[began].append(1000 * (attempt.ended_s - attempt.due_s))
        else:
            failed[ended] += 1
    used = [*due, *answered, *failed]
    for number in range(min(used, default=0), max(used, default=-1) + 1):
        here = waits.get(number)
        yield Bucket(
            at_ms=1000 * number * BUCKET_S,
            due=due[number],
            answered=answered[number],
            failed=failed[number],
            median_ms=statistics.median(here) if here else None,
            slowest_ms=max(here) if here else None,
        )


def _bucket(time: float, failure_s: float) -> int:
    return int((time - failure_s) // BUCKET_S)


def _losses(recording: Recording, failure_s: float) -> Iterator[str]:
    """Everything that a client would call lost, and why a recording proves nothing."""
    if recording.ended_s is None:
        yield "a load process ended early: not everything was recorded"
    if recording.under_way_s is None or recording.under_way_s > failure_s:
        yield "not all long flows were under way before the failure"
    if not any(attempt.outcome == "ok" for attempt in recording.attempts):
        yield "no new connection was answered at all"
    kinds: tuple[tuple[str, Iterable[Attempt | LongFlow]], ...] = (
        ("new connections", recording.attempts),
        *(
            (f"{kind} flows", [flow for flow in recording.flows if flow.flow == kind])
            for kind in dict.fromkeys(flow.flow for flow in recording.flows)
        ),
    )
    for what, events in kinds:
        of_kind = list(events)
        for outcome, said in (("broken", "broken"), ("wrong", "with wrong octets")):
            lost = [event for event in of_kind if event.outcome == outcome]
            if lost:
                words = Counter(event.failure for event in lost).most_common(_NAMED)
                named = "; ".join(f"{count} x {failure}" for failure, count in words)
                yield f"{len(lost)} of {len(of_kind)} {what} {said}: {named}"
