# SPDX-License-Identifier: Apache-2.0
"""What the segments of a group do and say when something fails, line by line: transcripts/*.txt.

A changed transcript is read before it is kept.  To write them anew:

    SPLITPLANE_WRITE_TRANSCRIPTS=1 .venv/bin/python -m pytest tests/simulation/test_transcripts.py
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from support.segments.agent_rig import CLIENT
from support.segments.group_grid import GroupGrid
from support.segments.group_parts import Part

FOLDER: Final = Path(__file__).parent / "transcripts"
CLIENTS: Final = 40


def group(css: int = 2, dfss: int = 2) -> GroupGrid:
    """A quiet group, and clients that come all the time."""
    grid = GroupGrid(1, css=css, dfss=dfss)
    grid.is_steady = grid.hears_logs = True
    for number in range(CLIENTS):
        client = CLIENT[0][:15] + bytes([number + 1]), 2000 + number
        grid.at(1 + number / 4, grid.open, grid.dfss[number % dfss], client, 100.0)
    grid.run(4.9)
    grid.tell("the CSs have said so far what they say at every start")
    grid.story = grid.story[-1:]
    return grid


def do(grid: GroupGrid, what: str, seconds: float, *actions: Callable[[], object]) -> None:
    """Write it down, do it, and let time pass."""
    grid.tell(f"> {what}")
    for action in actions:
        action()
    grid.run(seconds)


def kill() -> GroupGrid:
    """The active CS's process ends, and comes back: it does not take the role away again."""
    grid = group()
    first = grid.members[0]
    do(grid, "CS 1 is killed", 3, lambda: grid.kill(first))
    do(grid, "CS 1 is started", 12, lambda: grid.start(first))
    return grid


def hang() -> GroupGrid:
    """The active CS does nothing for three seconds.  Its connections stand all the time."""
    grid = group()
    first = grid.members[0]
    do(grid, "CS 1 hangs", 3, lambda: grid.hang(first))
    do(grid, "CS 1 goes on", 10, lambda: grid.resume(first))
    return grid


def most_dfss() -> GroupGrid:
    """The active CS is cut off from two of three DFSs; the CSs reach each other."""
    grid = group(dfss=3)
    first, _ = grid.members
    far = grid.dfss[1:]
    ways = [(first, dfs) for dfs in far], [(dfs, first) for dfs in far]
    do(grid, "CS 1 | DFS 2 DFS 3", 6, lambda: grid.close(*ways[0], *ways[1]))
    do(grid, "the network is whole", 40, grid.heal)
    return grid


def one_way() -> GroupGrid:
    """What the active CS sends to the DFSs is lost; it hears them."""
    grid = group()
    first = grid.members[0]
    ways = [(first, dfs) for dfs in grid.dfss]
    do(grid, "nothing comes through from CS 1 to the DFSs", 6, lambda: grid.close(*ways))
    do(grid, "the network is whole", 40, grid.heal)
    return grid


def split() -> GroupGrid:
    """The network falls apart in the middle: each DFS has a CS.  Then one of them gets both."""
    grid = group()
    near: list[Part] = [grid.members[0], grid.dfss[0]]
    far: list[Part] = [grid.members[1], grid.dfss[1]]
    do(grid, "CS 1 DFS 1 | CS 2 DFS 2", 6, lambda: grid.separate(near, far))
    do(grid, "the network is whole", 40, grid.heal)
    return grid


def switch_over() -> GroupGrid:
    """An operator moves the role, and moves it back."""
    grid = group()
    for number, member in enumerate(grid.members, 1):
        name_successor = member.cs.group.name_successor
        do(grid, f"switchover, ordered at CS {number}", 4, partial(name_successor, None, grid.now))
    return grid


def old_epoch() -> GroupGrid:
    """A CS comes back with its first epoch to DFSs that have started again, and to no other CS."""
    grid = group()
    first, second = grid.members
    do(grid, "CS 1 is killed", 3, lambda: grid.kill(first))
    do(grid, "CS 2 is killed", 1, lambda: grid.kill(second))
    for dfs in grid.dfss:
        do(grid, f"{dfs.name} is killed", 0.5, partial(grid.kill, dfs))
        do(grid, f"{dfs.name} is started", 0.5, partial(grid.start, dfs))
    do(grid, "CS 1 is started", 10, lambda: grid.start(first))
    return grid


SCENES: Final = (kill, hang, most_dfss, one_way, split, switch_over, old_epoch)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_they_do_and_say_what_the_transcript_says(scene: Callable[[], GroupGrid]) -> None:
    grid = scene()
    assert grid.wrongs == []
    assert len(grid.opened) == CLIENTS  # each of them, whatever failed meanwhile
    written = "\n".join([str(scene.__doc__), "", *grid.story, ""])
    path = FOLDER / f"{scene.__name__}.txt"
    if os.environ.get("SPLITPLANE_WRITE_TRANSCRIPTS"):
        path.write_text(written)
    kept = path.read_text()
    changes = difflib.unified_diff(kept.splitlines(), written.splitlines(), "kept", "now", n=2)
    assert written == kept, "\n".join(changes)


def test_every_transcript_has_a_scene() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {scene.__name__ for scene in SCENES}
