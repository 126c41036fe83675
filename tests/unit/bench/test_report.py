# SPDX-License-Identifier: Apache-2.0
"""The table of bench/compare.py: medians, ratios, and which rounds count."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from report import Figures, medians, notes, slept, table


def figures(
    rate: float, *, us: float = 50, p99: float = 200, agent: float | None = None, failed: int = 0,
    foreign: float = 0.0,
) -> Figures:  # fmt: skip
    return Figures(
        rate, failed, setup_us=60, setup_p99_us=p99, processor_us=us, foreign_share=foreign,
        idle_share=0.1, agent_us=agent,
    )  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_are_those_of_medians() -> None:
    results = {
        "routing": [figures(30_000), figures(40_000), figures(100_000)],
        "haproxy": [figures(20_000, us=100)],
        "splitplane": [figures(10_000, us=150, agent=75.25)],
    }
    head, _, *rows = (cells(line) for line in table(results, {}))
    shown = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert shown["routing"]["new connections/s"] == "40,000"
    assert shown["splitplane"]["of routing"] == "0.25"
    assert shown["splitplane"]["of HAProxy"] == "0.50"
    assert shown["splitplane"]["processor us per connection"] == "150.0"
    assert shown["splitplane"]["of routing's"] == "3.00"
    assert shown["splitplane"]["agent us"] == "75.2"
    assert shown["haproxy"]["agent us"] == "-"


def test_what_nobody_measured_has_no_column_and_who_is_left_out_has_a_line() -> None:
    missing = {"nginx": "it has no table"}
    lines = table({"routing": [figures(30_000)]}, missing)
    assert "of nftables" not in lines[0]
    assert "Gbit/s up" not in lines[0]
    assert set(cells(lines[-1])) == {"nginx", "-"}
    assert len(cells(lines[-1])) == len(cells(lines[0]))
    assert notes({}, {"nginx": "it has no table"}) == [
        "nginx has no figures here: it has no table."
    ]


def test_rounds_in_which_the_processors_slept_are_left_out_and_named() -> None:
    rounds = [figures(20_000, p99=15_000), figures(38_000), figures(40_000)]
    assert medians("routing", rounds)["connections_per_s"] == 39_000
    (note,) = notes({"routing": rounds}, {})
    assert "slept between packets in 1 of 3 rounds" in note
    assert note.endswith("left out.")


def test_they_count_where_there_are_no_others() -> None:
    rounds = [figures(20_000, p99=15_000)]
    assert medians("nftables", rounds)["connections_per_s"] == 20_000
    assert "there are no others" in notes({"nftables": rounds}, {})[0]


def test_who_has_a_process_of_its_own_is_not_excused() -> None:
    assert slept("routing", figures(1, p99=15_000))
    assert not slept("routing", figures(1, p99=217))
    assert not slept("splitplane", figures(1, p99=15_000))


def test_a_processor_that_others_keep_busy_does_not_sleep() -> None:
    assert not slept("routing", figures(1, p99=15_000, foreign=0.06))


def test_failures_and_a_busy_machine_are_said() -> None:
    lines = notes({"haproxy": [figures(1, failed=2), figures(1, failed=3, foreign=0.31)]}, {})
    assert lines == [
        "haproxy: 5 connections failed.",
        "Other processes took up to 31% of the processors' time: indicative only.",
    ]
