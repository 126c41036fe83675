# SPDX-License-Identifier: Apache-2.0
"""The table of bench/failover.py: what the clients saw of each failure."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from failover_table import Case, Figures, notes, table

KILL = Case("nginx", "its proxy", "kill")
QUIET = Figures(
    gap_s=0.005, has_recovered=True, connect_s=0.002, attempts=1000, failed=0, wrong=0,
    downloads=10, downloads_broken=0, uploads=10, uploads_broken=0, idle=10, idle_broken=0,
    stall_s=0.1, lag_s=0.001, takeovers=0, foreign_share=0.0,
)  # fmt: skip


def shown(*rounds: Figures) -> dict[str, str]:
    head, _, row = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table({KILL: rounds}, {})
    )
    return dict(zip(head, row, strict=True))


def test_times_are_medians_or_the_worst_and_numbers_are_sums() -> None:
    row = shown(
        replace(QUIET, gap_s=0.04, connect_s=1.03, failed=2),
        replace(QUIET, gap_s=0.05, connect_s=1.01, idle_broken=3),
        replace(QUIET, gap_s=0.9, connect_s=1.02, downloads_broken=10, stall_s=0.0),
    )
    assert row["gap s: median (worst)"] == "0.050 (0.900)"
    assert row["slowest connect s"] == "1.030"
    assert row["failed new connections"] == "2 of 3,000"
    assert row["downloads broken"] == "10 of 30"
    assert row["idle connections broken"] == "3 of 30"
    assert row["longest stall of a download s"] == "0.100"
    assert notes({KILL: [QUIET]}, {}) == []


def test_a_gap_that_was_open_at_the_end_is_not_shown_as_one_that_ended() -> None:
    lost = replace(QUIET, gap_s=12.0, has_recovered=False)
    slow = replace(QUIET, gap_s=13.0)
    assert shown(lost, lost, slow)["gap s: median (worst)"] == "> 12.000 (> 12.000)"
    assert shown(lost, slow, slow)["gap s: median (worst)"] == "13.000 (> 12.000)"
    (note,) = notes({KILL: [lost, slow]}, {})
    assert note.startswith("nginx, its proxy, kill: ")
    assert "1 of 2 rounds" in note


def test_downloads_that_all_broke_have_no_stall() -> None:
    row = shown(replace(QUIET, downloads_broken=10, stall_s=0.0))
    assert row["longest stall of a download s"] == "-"


def test_what_spoils_a_figure_is_said() -> None:
    rounds = [replace(QUIET, takeovers=2, wrong=1), replace(QUIET, lag_s=0.3, foreign_share=0.4)]
    said = "\n".join(notes({KILL: rounds}, {}))
    assert "1 connections brought wrong octets" in said
    assert "2 take-overs that the failure does not explain" in said
    assert "up to 0.300 s late" in said
    assert "40%" in said


def test_a_case_without_figures_has_a_row_and_a_reason() -> None:
    power = Case("splitplane", "DFS's machine", "power off")
    lines = table({KILL: [QUIET]}, {power: "there is one"})
    assert lines[-1].startswith("| splitplane | DFS's machine | power off | - |")
    assert lines[-1].count("|") == lines[0].count("|") == lines[-2].count("|")
    assert notes({}, {power: "there is one"}) == [
        "splitplane, DFS's machine, power off has no figures: there is one."
    ]
