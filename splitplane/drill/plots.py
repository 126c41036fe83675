# SPDX-License-Identifier: Apache-2.0
"""The plots of a drill: PNG files, and SVG for the report.  Nothing else needs matplotlib."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from admin.errors import MachineError
from splitplane.drill.recording import Progress
from splitplane.drill.results import Played
from splitplane.drill.roles import SILENT
from splitplane.drill.runner import Round

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GOOD, _BAD, _NEUTRAL, _LINE = "#1a7f37", "#cf222e", "#8c959f", "#0969da"
_WAITS, _CLAIMS = "#d0d7de", "#bf8700"
_DOTS_PER_INCH: Final = 110
_CONTEXT_S: Final = 2.0  # before the failure, that is shown
_STEP_S: Final = 0.5  # of the throughput
_STYLE: Final[Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # text stays text
}


def require_matplotlib() -> None:
    """MachineError that says what to install, before a drill begins."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"the plots need matplotlib, which cannot be loaded ({error}); install it with:"
            " pip install 'splitplane[drill]' (in a checkout: make drill), or give --no-plots"
        ) from None


def draw_round(title: str, round_: Round) -> Figure:
    """Four panels above each other with one time axis: seconds from the failure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(10, 10), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        segments = len({change.segment for change in round_.roles})
        heights = [3, 4, 3, 0.6 + 0.6 * segments]
        rows: Any = figure.subplots(4, 1, sharex=True, height_ratios=heights)
        _draw_rates(rows[0], round_)
        _draw_delays(rows[1], round_)
        _draw_throughput(rows[2], round_)
        _draw_roles(rows[3], round_)
        _mark_steps(rows, round_)
        rows[-1].set_xlabel("time from the failure (s)")
        rows[-1].set_xlim(-_CONTEXT_S, _end_s(round_))
    return figure


def _end_s(round_: Round) -> float:
    dues = [attempt.due_s for attempt in round_.recording.attempts]
    return max(dues, default=round_.failure_s + 1) - round_.failure_s


def _mark_steps(rows: Sequence[Axes], round_: Round) -> None:
    marks = {round(step.at_s - round_.failure_s, 2): step.says for step in round_.done}
    several = len(round_.failures) > 1
    for row in rows:
        for at in marks:
            row.axvline(at, color="black", linewidth=0.3 if several else 1, linestyle="--")
    if several:
        return  # as many words have no room
    for number, (at, says) in enumerate(marks.items()):
        rows[0].annotate(
            says,
            (at, 1 - 0.1 * number),
            xycoords=("data", "axes fraction"),
            xytext=(4, -9),
            textcoords="offset points",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )


def _draw_rates(axes: Axes, round_: Round) -> None:
    buckets = round_.measurement.buckets
    times = [bucket.at_ms / 1000 for bucket in buckets]
    per_s = 1000 / (buckets[1].at_ms - buckets[0].at_ms) if len(buckets) > 1 else 1.0
    for values, colour, label in (
        ([bucket.due for bucket in buckets], _NEUTRAL, "due"),
        ([bucket.answered for bucket in buckets], _GOOD, "answered"),
        ([bucket.failed for bucket in buckets], _BAD, "failed"),
    ):
        rates = [value * per_s for value in values]
        axes.step(times, rates, where="post", color=colour, label=label, linewidth=1.2)
    axes.set_title("HTTP requests on new connections")
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.3)
    axes.legend(loc="upper right", fontsize=8)


def _draw_delays(axes: Axes, round_: Round) -> None:
    well, failed = [], []
    for attempt in round_.recording.attempts:
        at = attempt.due_s - round_.failure_s
        if attempt.connected_s is not None and attempt.outcome == "ok":
            well.append((at, 1000 * (attempt.connected_s - attempt.due_s)))
        elif attempt.outcome != "ok":
            failed.append((at, 1000 * (attempt.ended_s - attempt.due_s)))
    for points, colour, marker, label in (
        (well, _LINE, ".", "connected"),
        (failed, _BAD, "x", "failed"),
    ):
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, s=10, c=colour, marker=marker, label=label, rasterized=True)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Delay of each new connection, from when it was due")
    axes.set_ylabel("until connected (ms)")
    if well or failed:
        axes.legend(loc="upper right", fontsize=8)


def _draw_throughput(axes: Axes, round_: Round) -> None:
    times, rates = throughput(round_.recording.progress, round_.failure_s)
    axes.step(times, rates, where="post", color=_LINE, linewidth=1.2)
    axes.set_title("Long flows (downloads, uploads, UDP): octets that arrived and were right")
    axes.set_ylabel("kB/s")
    axes.set_ylim(bottom=0)


def throughput(
    progress: Sequence[Sequence[Progress]], failure_s: float
) -> tuple[list[float], list[float]]:
    """Seconds from the failure, and kB/s from each to the next; the sum over load processes."""
    risen: Counter[int] = Counter()
    for counts in progress:
        for before, after in pairwise(counts):
            risen[int((after.at_s - failure_s) // _STEP_S)] += after.octets - before.octets
    numbers = range(min(risen, default=0), max(risen, default=-1) + 1)
    return (
        [number * _STEP_S for number in numbers],
        [risen[number] / _STEP_S / 1000 for number in numbers],
    )


def _draw_roles(axes: Axes, round_: Round) -> None:
    names = sorted({change.segment for change in round_.roles}, reverse=True)
    end = _end_s(round_)
    for row, name in enumerate(names):
        changes = [change for change in round_.roles if change.segment == name]
        times = [change.at_s - round_.failure_s for change in changes]
        for change, begins, ends in zip(changes, times, [*times[1:], end], strict=True):
            begin, until = max(-_CONTEXT_S, begins), min(ends, end)
            if until <= begin:
                continue
            colour = _colour(change.role)
            axes.barh(row, until - begin, left=begin, height=0.7, color=colour, edgecolor="white")
            if until - begin > end / 12:
                axes.text(begin + 0.05, row, change.role, va="center", fontsize=8, clip_on=True)
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Roles, as the segments answered at their admin sockets")
    axes.set_ylabel("segment")
    axes.grid(visible=False, axis="y")


def _colour(role: str) -> str:
    if role == SILENT or role == "obeys no CS":
        return "#ffb3b8"
    if role == "active" or role.startswith("obeys"):
        return "#aceebb"
    return "#fae17d" if role.startswith("claim") else _WAITS


def draw_summary(scenarios: Sequence[Played]) -> Figure:
    """The longest gap of each scenario's rounds, and that of the time before the failure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        scenarios = [played for played in scenarios if played.rounds]
        figure = Figure(figsize=(10, 1.2 + 0.45 * len(scenarios)), layout="constrained")
        axes = figure.subplots()
        for row, played in enumerate(reversed(scenarios)):
            for each in played.rounds:
                colour = _GOOD if each.passed else _BAD
                axes.plot(max(1.0, each.measurement.after.longest_gap_ms), row, "o", color=colour)
                before = max(1.0, each.measurement.before.longest_gap_ms)
                axes.plot(before, row, "|", color=_NEUTRAL, markersize=12)
        axes.set_yticks(range(len(scenarios)), [played.name for played in reversed(scenarios)])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(
            "longest gap between two successful new connections (ms)\n"
            "dot: from the failure on, green: nothing was lost, red: the round failed;"
            " bar: before the failure"
        )
        axes.set_title("Gaps in new connections, a dot for each round")
        axes.margins(y=0.5 / max(1, len(scenarios)))
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """For people, and for pages that take no HTML."""
    figure.savefig(path, format="png", dpi=_DOTS_PER_INCH)


def to_svg(figure: Figure) -> str:
    """The element alone, to be put into HTML."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(out, format="svg", dpi=_DOTS_PER_INCH)
    text = out.getvalue()
    return text[text.index("<svg") :]
