# SPDX-License-Identifier: Apache-2.0
"""What bench/failover.py measured of a failure, and how it shows it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from splitplane.drill.measure import measure
from splitplane.drill.recording import FlowKind, Recording

FOREIGN_SHARE = 0.05  # of the processor time; more of it is worth a word
_ROUNDING_MS = 1e-3  # of differences of times
LATE_S = 0.05  # a load that begins its connections so late measures itself


@dataclass(frozen=True, slots=True)
class Case:
    """One failure of one device under test."""

    device: str
    part: str  # what fails
    failure: str  # and how


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What clients saw of it, in one round; times in seconds, numbers of connections."""

    gap_s: float  # the longest time in which no new connection succeeded
    has_recovered: bool  # False: the gap was open when the load ended
    connect_s: float  # the slowest connect() of those that succeeded
    attempts: int
    failed: int  # of them
    wrong: int  # connections of all kinds that brought other octets than were sent
    downloads: int
    downloads_broken: int
    uploads: int
    uploads_broken: int
    idle: int
    idle_broken: int
    stall_s: float  # the longest pause of a download that did not break; 0.0: all broke
    lag_s: float  # by which the load began a connection too late, at most
    takeovers: int  # that the failure does not explain
    foreign_share: float  # of the processors' time, 0 to 1


def figures(
    recording: Recording, failed_s: float, *, takeovers: int, foreign_share: float
) -> Figures:
    """*failed_s*: when the failure came, on the recording's clock."""
    seen = measure(recording, failed_s)
    end_ms = 1000 * (max(it.due_s for it in recording.attempts) - failed_s)
    after = seen.after

    def of(kind: FlowKind) -> tuple[int, int]:
        tally = seen.flows.get(kind)
        return (tally.flows, tally.broken + tally.wrong) if tally else (0, 0)

    return Figures(
        gap_s=after.longest_gap_ms / 1000,
        has_recovered=after.longest_gap_at_ms + after.longest_gap_ms < end_ms - _ROUNDING_MS,
        connect_s=after.slowest_ms / 1000,
        attempts=seen.attempts,
        failed=seen.broken + seen.wrong,
        wrong=seen.wrong + sum(tally.wrong for tally in seen.flows.values()),
        downloads=of("download")[0],
        downloads_broken=of("download")[1],
        uploads=of("upload")[0],
        uploads_broken=of("upload")[1],
        idle=of("idle")[0],
        idle_broken=of("idle")[1],
        stall_s=max(
            (
                it.slowest_s
                for it in recording.flows
                if it.flow == "download" and it.outcome == "ok"
            ),
            default=0.0,
        ),
        lag_s=seen.lag_ms / 1000,
        takeovers=takeovers,
        foreign_share=foreign_share,
    )


_COLUMNS = ("gap s: median (worst)", "slowest connect s", "failed new connections", "downloads broken",
            "uploads broken", "idle connections broken", "longest stall of a download s")  # fmt: skip


def table(results: Mapping[Case, Sequence[Figures]], left_out: Mapping[Case, str]) -> list[str]:
    """Lines in Markdown: a row for each case; medians for times, sums for numbers."""
    lines = [
        f"| device under test | what fails | how | {' | '.join(_COLUMNS)} |",
        f"| --- | --- | --- |{' ---: |' * len(_COLUMNS)}",
    ]
    rows = {case: _cells(rounds) for case, rounds in results.items()}
    rows |= {case: ["-"] * len(_COLUMNS) for case in left_out}
    return lines + [
        f"| {' | '.join((case.device, case.part, case.failure, *cells))} |"
        for case, cells in rows.items()
    ]


def _cells(rounds: Sequence[Figures]) -> list[str]:
    worst = max(rounds, key=lambda it: (not it.has_recovered, it.gap_s))
    median = statistics.median(it.gap_s for it in rounds)
    open_ended = sum(not it.has_recovered for it in rounds) * 2 > len(rounds)
    broken_downloads = sum(it.downloads_broken for it in rounds)
    downloads = sum(it.downloads for it in rounds)
    return [
        f"{'> ' if open_ended else ''}{median:.3f} ({_gap(worst)})",
        f"{max(it.connect_s for it in rounds):.3f}",
        _of(sum(it.failed for it in rounds), sum(it.attempts for it in rounds)),
        _of(broken_downloads, downloads),
        _of(sum(it.uploads_broken for it in rounds), sum(it.uploads for it in rounds)),
        _of(sum(it.idle_broken for it in rounds), sum(it.idle for it in rounds)),
        "-" if broken_downloads == downloads else f"{max(it.stall_s for it in rounds):.3f}",
    ]


def _gap(figures: Figures) -> str:
    return f"{'' if figures.has_recovered else '> '}{figures.gap_s:.3f}"


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def notes(results: Mapping[Case, Sequence[Figures]], left_out: Mapping[Case, str]) -> list[str]:
    """What a reader of the table must know."""
    lines = [f"{_name(case)} has no figures: {why}." for case, why in left_out.items()]
    for case, rounds in results.items():
        lost = sum(not it.has_recovered for it in rounds)
        if lost:
            lines.append(
                f"{_name(case)}: no new connection succeeded until the load ended in {lost} of"
                f" {len(rounds)} rounds."
            )
        wrong = sum(it.wrong for it in rounds)
        if wrong:
            lines.append(f"{_name(case)}: {wrong} connections brought wrong octets.")
        takeovers = sum(it.takeovers for it in rounds)
        if takeovers:
            lines.append(
                f"{_name(case)}: {takeovers} take-overs that the failure does not explain."
            )
        lag = max(it.lag_s for it in rounds)
        if lag > LATE_S:
            lines.append(
                f"{_name(case)}: the load began connections up to {lag:.3f} s late; its times are"
                " indicative only."
            )
    foreign = max((it.foreign_share for rounds in results.values() for it in rounds), default=0.0)
    if foreign > FOREIGN_SHARE:
        lines.append(
            f"Other processes took up to {foreign:.0%} of the processors' time: indicative only."
        )
    return lines


def _name(case: Case) -> str:
    return f"{case.device}, {case.part}, {case.failure}"
