# SPDX-License-Identifier: Apache-2.0
"""The result of a drill: its verdict, its timeline, and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from splitplane.drill.results import FORMAT, Drill, in_a_row, method, timeline, to_json
from support.segments import drills


def test_a_drill_passes_if_every_round_did() -> None:
    assert drills.drill(drills.round_(), drills.round_()).passed


@pytest.mark.parametrize(
    "failed",
    [
        drills.drill(drills.round_(), drills.lossy_round()),
        drills.drill(drills.round_(problems=("no CS is active at the end",))),
        drills.drill(drills.round_(), errors=("it could not be killed",)),
        drills.drill(),
        drills.drill(skipped="this machine has no nft"),
    ],
    ids=["a loss", "nobody active", "not carried out", "no rounds", "skipped"],
)
def test_a_drill_fails_by(failed: Drill) -> None:
    assert not failed.passed
    assert to_json(failed)["passed"] is False


def test_the_timeline_has_what_was_done_and_what_came_of_it_in_order() -> None:
    events = timeline(drills.round_())
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    said = [what for _, what in events]
    wanted = [
        "cs1: active",
        "the last new connection before the longest gap",
        "kill -9 of the active CS",
        "cs1: no answer",
        "cs2: active",
        "the killed CS is started again",
    ]
    assert [what for what in said if what in wanted] == wanted
    (gap,) = [(at, what) for at, what in events if "after the gap" in what]
    assert gap[0] == pytest.approx(400)
    assert gap[1].endswith("gap of 419 ms")


def test_a_short_gap_is_no_event() -> None:
    quick = drills.round_()
    events = timeline(quick)
    assert [what for _, what in events if "gap" in what]
    calm = [what for at, what in events if at < -500]
    assert calm == ["dfs: obeys cs1", "cs1: active", "cs2: standby"]


def test_a_loss_is_in_the_timeline_in_its_own_words() -> None:
    said = [what for _, what in timeline(drills.lossy_round())]
    assert "the first new connection has failed: <refused> & gone" in said


def test_the_json_has_the_figures_and_survives_a_reader() -> None:
    value = json.loads(json.dumps(to_json(drills.drill(drills.round_()))))
    assert value["format"] == FORMAT
    assert value["passed"] is True
    (scenario,) = value["scenarios"]
    (one,) = scenario["rounds"]
    assert one["active_before"] == "cs1"
    assert one["active_after"] == "cs2"
    assert one["measurement"]["after"]["longest_gap_ms"] == pytest.approx(419)
    assert one["measurement"]["flows"]["download"]["broken"] == 0
    assert {"at_ms": 400.0, "segment": "cs2", "role": "active"} in one["roles"]
    assert value["method"] == method(drills.drill().plan, 2)


def test_failures_in_a_row_are_a_sentence() -> None:
    first = drills.round_().failures[0]
    failures = [replace(first, gap_ms=gap, ready_ms=gap / 2) for gap in (200.0, 180.0, 410.0)]
    said = in_a_row([*failures, replace(first, gap_ms=190.0)])
    assert said.startswith("4 failures in a row: ")
    assert "median 195 ms, 95 % 410 ms, longest 410 ms" in said
    assert said.endswith("within a median of 100 ms, at most 205 ms")
    assert "redundant" not in in_a_row([first, first])


def test_the_method_names_the_load_and_the_shortest_gap_that_it_can_see() -> None:
    said = " ".join(method(drills.drill().plan, 2))
    assert "100 HTTP requests per second" in said
    assert "16 downloads" in said
    assert "shorter than 10 ms" in said
