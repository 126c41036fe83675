# SPDX-License-Identifier: Apache-2.0
"""The result of a drill as values: what the JSON file holds, and the timeline for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from splitplane.drill.measure import percentile
from splitplane.drill.recording import Plan
from splitplane.drill.runner import Failure, Round
from splitplane.drill.scenarios import SUPERVISOR_S

FORMAT: Final = 1  # of result.json; another number when a reader of this one would be misled
_GAP_NAMED_MS: Final = 100.0  # a shorter one is no event of the timeline


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario and its rounds."""

    name: str
    title: str
    expected_active: str
    rounds: tuple[Round, ...]
    errors: tuple[str, ...] = ()  # of rounds that could not be carried out
    skipped: str = ""  # why this machine cannot do it; then there are no rounds

    @property
    def passed(self) -> bool:
        """All rounds did; one that could not be carried out did not."""
        return not self.errors and all(each.passed for each in self.rounds)


@dataclass(frozen=True, slots=True)
class Drill:
    """All of it."""

    release: str
    machine: str
    deployment: str
    timings: str
    plan: Plan
    loads: int
    scenarios: tuple[Played, ...]

    @property
    def passed(self) -> bool:
        """Nothing was lost in any round; a drill without rounds proves nothing."""
        any_round = any(each.rounds for each in self.scenarios)
        return any_round and all(each.passed for each in self.scenarios)


def method(plan: Plan, loads: int) -> list[str]:
    """What was measured, how, and what the figures do not say."""
    flows = [
        f"{loads * count} {what}"
        for count, what, port in (
            (plan.downloads, "downloads on which the node speaks first", plan.stream_port),
            (plan.uploads, "uploads with a SHA-256 from the node", plan.http_port),
            (plan.idle, "idle connections on which the client or the node speaks later", 1),
            (plan.udp_flows, f"UDP flows of {plan.udp_rate:g} datagrams/s", plan.udp_port),
        )
        if count and port
    ]
    return [
        f"Load: {loads * plan.rate:g} HTTP requests per second, each on a new connection, opened"
        f" at fixed times by {loads} client process(es) whether or not earlier ones were answered"
        f" (open loop); {', '.join(flows)}.",
        "Every octet that arrives is compared with the octet that was sent.",
        "A delay counts from the time when the connection was due. A new connection fails if its"
        f" request is not answered within {plan.timeout_s:g} s; nothing is tried again, except"
        " that the kernel repeats a lost SYN after 1, 3 and 7 s.",
        "The gap is the longest time between two successful new connections; with this load it"
        f" cannot be shorter than {1000 / (loads * plan.rate):.0f} ms.",
        "An idle connection counts as broken if the client or the node does not get its answer"
        " after the pause; a UDP flow if a datagram is not answered within 2 s, twice, or by"
        " another node.",
        "Roles are what the segments answer at their admin sockets ten times per second, so a"
        " change is known to 0.1 s; of two answers close together the order is not certain.",
        "Not measured: a power failure, hardware and cabling, other machines' clocks, a load near"
        " the capacity. In the laboratory all parts share this machine's processors, so its"
        " figures are longer than those of separate machines. An agent that was killed is started"
        f" again after {SUPERVISOR_S:g} s, as a supervisor does.",
    ]


def in_a_row(failures: Sequence[Failure]) -> str:
    """The failures of one round in a sentence."""
    gaps = [failure.gap_ms for failure in failures]
    ready = [failure.ready_ms for failure in failures if failure.ready_ms is not None]
    said = (
        f"{len(failures)} failures in a row: longest gap between new connections after each, median"
        f" {statistics.median(gaps):.0f} ms, 95 % {percentile(gaps, 0.95):.0f} ms, longest"
        f" {max(gaps):.0f} ms"
    )
    if ready:
        said += (
            f"; redundant again after the repair within a median of {statistics.median(ready):.0f}"
            f" ms, at most {max(ready):.0f} ms"
        )
    return said


def timeline(round_: Round) -> list[tuple[float, str]]:
    """(ms from the failure, what happened), in order."""
    return sorted(_events(round_), key=lambda event: event[0])


def _events(round_: Round) -> Iterator[tuple[float, str]]:
    def at_ms(time: float) -> float:
        return 1000 * (time - round_.failure_s)

    for step in round_.done:
        yield at_ms(step.at_s), step.says
    for change in round_.roles:
        yield at_ms(change.at_s), f"{change.segment}: {change.role}"
    gap_ms, begin_ms = (
        round_.measurement.after.longest_gap_ms,
        round_.measurement.after.longest_gap_at_ms,
    )
    if gap_ms >= _GAP_NAMED_MS:
        yield begin_ms, "the last new connection before the longest gap"
        yield begin_ms + gap_ms, f"the first new connection after the gap of {gap_ms:.0f} ms"
    failures = [attempt for attempt in round_.recording.attempts if attempt.outcome != "ok"]
    if failures:
        first = min(failures, key=lambda attempt: attempt.ended_s)
        yield at_ms(first.ended_s), f"the first new connection has failed: {first.failure}"
    for flow in round_.recording.flows:
        if flow.outcome != "ok":
            yield (
                at_ms(flow.ended_s),
                f"{flow.flow} {flow.number} is {flow.outcome}: {flow.failure}",
            )


def to_json(drill: Drill) -> dict[str, Any]:
    """What result.json holds."""
    return {
        "format": FORMAT,
        "what": "splitplane failover drill",
        "passed": drill.passed,
        "release": drill.release,
        "machine": drill.machine,
        "deployment": drill.deployment,
        "timings": drill.timings,
        "load": {"processes": drill.loads, "plan_of_each": asdict(drill.plan)},
        "method": method(drill.plan, drill.loads),
        "scenarios": [
            {
                "name": played.name,
                "title": played.title,
                "expected_active": played.expected_active,
                "passed": played.passed,
                "errors": list(played.errors),
                "skipped": played.skipped,
                "rounds": [_round_to_json(each) for each in played.rounds],
            }
            for played in drill.scenarios
        ],
    }


def _round_to_json(round_: Round) -> dict[str, Any]:
    return {
        "passed": round_.passed,
        "problems": list(round_.problems),
        "active_before": round_.active_before,
        "active_after": round_.active_after,
        "failures": [
            {
                "at_ms": round(1000 * (failure.at_s - round_.failure_s), 1),
                "gap_ms": round(failure.gap_ms, 3),
                "ready_ms": None if failure.ready_ms is None else round(failure.ready_ms, 1),
                "active_before": failure.active_before,
                "active_after": failure.active_after,
            }
            for failure in round_.failures
        ],
        "timeline": [{"at_ms": round(at, 1), "what": what} for at, what in timeline(round_)],
        "roles": [
            {
                "at_ms": round(1000 * (change.at_s - round_.failure_s), 1),
                "segment": change.segment,
                "role": change.role,
            }
            for change in round_.roles
        ],
        "measurement": _rounded(asdict(round_.measurement)),
    }


def _rounded(value: Any) -> Any:
    """Milliseconds with three places: more would be noise."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
