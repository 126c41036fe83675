# SPDX-License-Identifier: Apache-2.0
"""Write a drill's report: one HTML page that needs nothing else, the plots as PNG, and JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from splitplane.drill.measure import Delays, Measurement
from splitplane.drill.results import Drill, Played, in_a_row, method, timeline, to_json
from splitplane.drill.runner import Round

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
       color: #1f2328; background: white }
table { border-collapse: collapse; margin: 1em 0 }
th, td { text-align: right; padding: .25em .7em; border-bottom: 1px solid #d0d7de }
th:first-child, td:first-child, td.text, th.text { text-align: left }
.good { color: #1a7f37; font-weight: 600 } .bad { color: #cf222e; font-weight: 600 }
svg { max-width: 100%; height: auto } h2 { margin-top: 2.5em }
"""


def write_json(drill: Drill, folder: Path) -> Path:
    """result.json."""
    path = folder / "result.json"
    path.write_text(json.dumps(to_json(drill), indent=1) + "\n")
    return path


def write_html(drill: Drill, folder: Path, *, plots: bool) -> Path:
    """report.html; with *plots* also the PNG files beside it."""
    path = folder / "report.html"
    path.write_text("\n".join(_page(drill, folder, plots=plots)) + "\n")
    return path


def _page(drill: Drill, folder: Path, *, plots: bool) -> Iterator[str]:
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield f"<title>Failover drill</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>Failover drill: {_verdict(passed=drill.passed)}</h1>"
    yield (
        f"<p>splitplane {_text(drill.release)}; {_text(drill.deployment)}; timings:"
        f" {_text(drill.timings)}; {_text(drill.machine)}</p>"
    )
    yield from _summary(drill)
    if plots:
        yield _figure_of_all(drill, folder)
    yield "<h2>What was measured, and how</h2><ul>"
    yield from (f"<li>{_text(sentence)}</li>" for sentence in method(drill.plan, drill.loads))
    yield "</ul>"
    for played in drill.scenarios:
        yield from _without_a_round(played)
        for number, round_ in enumerate(played.rounds, 1):
            yield from _round(played, number, round_, folder, plots=plots)
    yield "</body></html>"


def _without_a_round(played: Played) -> Iterator[str]:
    for error in played.errors:
        yield f"<h2>{_text(f'{played.name}: {played.title}')}: {_verdict(passed=False)}</h2>"
        yield f'<p class="bad">It could not be carried out: {_text(error)}</p>'
    if played.skipped:
        yield f"<h2>{_text(f'{played.name}: {played.title}')}: skipped</h2>"
        yield f"<p>{_text(played.skipped)}</p>"


def _verdict(*, passed: bool) -> str:
    return '<span class="good">passed</span>' if passed else '<span class="bad">failed</span>'


SUMMARY: Final = (
    "scenario",
    "round",
    "failures",
    "result",
    "gap (ms)",
    "slowest (ms)",
    "new failed",
    "long broken",
    "wrong",
    "active",
)


def summary_rows(drill: Drill) -> Iterator[tuple[str, ...]]:
    """The cells below SUMMARY, one row for each round."""
    for played in drill.scenarios:
        for number, round_ in enumerate(played.rounds, 1):
            found = round_.measurement
            tallies = found.flows.values()
            yield (
                played.name,
                str(number),
                str(len(round_.failures)),
                "passed" if round_.passed else "failed",
                f"{found.after.longest_gap_ms:.0f}",
                f"{found.after.slowest_ms:.0f}",
                f"{found.broken}/{found.attempts}",
                f"{sum(each.broken for each in tallies)}/{sum(each.flows for each in tallies)}",
                str(found.wrong + sum(each.wrong for each in tallies)),
                f"{round_.active_before or '?'} > {round_.active_after or '?'}",
            )


def _summary(drill: Drill) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{_text(name)}</th>" for name in SUMMARY) + "</tr>"
    for row in summary_rows(drill):
        result = row[SUMMARY.index("result")]
        kind = "good" if result == "passed" else "bad"
        cells = [
            f'<td class="{kind}">{cell}</td>' if cell == result else f"<td>{_text(cell)}</td>"
            for cell in row
        ]
        yield "<tr>" + "".join(cells) + "</tr>"
    yield (
        "</table><p>gap: the longest time between two successful new connections; slowest: the"
        " slowest connect; new failed, long broken: of the new connections and of the long flows;"
        " wrong: connections and flows with wrong octets; active: the CS that the DFS obeyed before"
        " the failure and at the end.</p>"
    )


def _figure_of_all(drill: Drill, folder: Path) -> str:
    from splitplane.drill import plots

    figure = plots.draw_summary(drill.scenarios)
    plots.save_png(figure, folder / "summary.png")
    return plots.to_svg(figure)


def _round(
    played: Played, number: int, round_: Round, folder: Path, *, plots: bool
) -> Iterator[str]:
    of = f", round {number}" if len(played.rounds) > 1 else ""
    title = f"{played.name}{of}: {played.title}"
    yield f"<h2>{_text(title)}: {_verdict(passed=round_.passed)}</h2>"
    if round_.problems:
        yield "<ul>"
        yield from (f'<li class="bad">{_text(problem)}</li>' for problem in round_.problems)
        yield "</ul>"
    if plots:
        yield _figure(title, played.name, number, round_, folder)
    yield from _delays(round_.measurement)
    yield from _flows(round_.measurement)
    if len(round_.failures) > 1:
        yield f"<p>{_text(in_a_row(round_.failures))}.</p>"
    yield '<table><tr><th>from the failure</th><th class="text">what happened</th></tr>'
    for at_ms, what in timeline(round_):
        yield f'<tr><td>{at_ms / 1000:+.3f} s</td><td class="text">{_text(what)}</td></tr>'
    yield "</table>"


def _figure(title: str, name: str, number: int, round_: Round, folder: Path) -> str:
    from splitplane.drill import plots

    figure = plots.draw_round(title, round_)
    plots.save_png(figure, folder / f"{name}-{number}.png")
    return plots.to_svg(figure)


def _delays(found: Measurement) -> Iterator[str]:
    yield (
        "<table><tr><th>new connections</th><th>number</th><th>median (ms)</th><th>99 % (ms)</th>"
        "<th>slowest (ms)</th><th>longest gap (ms)</th></tr>"
    )
    parts: tuple[tuple[str, Delays], ...] = (
        ("before the failure", found.before),
        ("from the failure on", found.after),
    )
    for name, delays in parts:
        figures = (delays.median_ms, delays.p99_ms, delays.slowest_ms, delays.longest_gap_ms)
        cells = "".join(f"<td>{figure:.1f}</td>" for figure in figures)
        yield f"<tr><td>{name}</td><td>{delays.connects}</td>{cells}</tr>"
    yield f"</table><p>The load generator itself was at most {found.lag_ms:.1f} ms late.</p>"


def _flows(found: Measurement) -> Iterator[str]:
    yield (
        "<table><tr><th>long flows</th><th>number</th><th>broken</th><th>wrong octets</th>"
        "<th>octets that were right</th><th>longest wait (ms)</th><th>that began at (ms)</th></tr>"
    )
    for kind, tally in found.flows.items():
        cells = [str(count) for count in (tally.flows, tally.broken, tally.wrong)]
        cells += [f"{tally.octets:,}", f"{tally.slowest_ms:.0f}", f"{tally.slowest_at_ms:+.0f}"]
        yield f"<tr><td>{kind}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _text(text: str) -> str:
    return html.escape(text)
