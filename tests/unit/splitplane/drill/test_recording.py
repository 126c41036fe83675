# SPDX-License-Identifier: Apache-2.0
"""What a load saw comes back from its lines, also of several processes and of killed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitplane.drill.recording import (
    Attempt,
    Ended,
    Event,
    LongFlow,
    Plan,
    Progress,
    Recording,
    Started,
    UnderWay,
    from_line,
    plan_from_json,
    plan_to_json,
    to_line,
)

ADDRESS = "203.0.113.10"
FLOW = LongFlow(flow="download", number=1, address=ADDRESS, began_s=1.0, ended_s=9.5, octets=7)
LOG: tuple[Event, ...] = (
    Started(at_s=1.0),
    UnderWay(at_s=1.5, flows=1),
    Attempt(due_s=2.0, begun_s=2.1, connected_s=2.2, ended_s=2.3, address=ADDRESS, server="s"),
    Attempt(
        due_s=1.0,
        begun_s=1.1,
        connected_s=None,
        ended_s=11.0,
        address=ADDRESS,
        outcome="broken",
        failure="no route",
    ),
    Progress(at_s=3.0, octets=12),
    FLOW,
    Ended(at_s=12.0),
)


@pytest.mark.parametrize("event", LOG, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    assert from_line(to_line(event)) == event


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"event":"ended"}', '{"event":"x","at_s":1}'])
def test_another_line_is_named_as_no_event(line: str) -> None:
    with pytest.raises(ValueError, match="not an event of a load"):
        from_line(line)


def test_a_plan_comes_back_from_its_json() -> None:
    plan = Plan(addresses=(ADDRESS, "2001:db8::1"), seconds=7.5, failure_s=2)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_recordings_of_several_processes_are_one(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_text("".join(to_line(event) + "\n" for event in LOG))
    recording = Recording.read(*files)
    assert (recording.started_s, recording.under_way_s, recording.ended_s) == (1.0, 1.5, 12.0)
    assert [attempt.due_s for attempt in recording.attempts] == [1.0, 1.0, 2.0, 2.0]
    assert recording.flows == (FLOW, FLOW)


def test_a_killed_process_leaves_a_recording_without_an_end(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    text = "".join(to_line(event) + "\n" for event in LOG)
    whole.write_text(text)
    cut.write_text(text[:-20])  # in the middle of its last line
    recording = Recording.read(whole, cut)
    assert recording.ended_s is None
    assert recording.under_way_s == 1.5
    assert len(recording.attempts) == 4
