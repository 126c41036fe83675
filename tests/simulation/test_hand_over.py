# SPDX-License-Identifier: Apache-2.0
"""A switch-over that was ordered while the standby lacks something (docs/design/0009)."""

from __future__ import annotations

from control_segment.group.group import HAND_OVER_S
from support.segments.agent_rig import CLIENT
from support.segments.group_grid import GroupGrid


def busy(seconds: float) -> GroupGrid:
    """Two CSs, and clients that come all the time."""
    grid = GroupGrid(1)
    grid.is_steady = grid.hears_logs = True
    for number in range(int(seconds * 4)):
        client = CLIENT[0][:15] + bytes([number % 250 + 1]), 2000 + number
        grid.at(1 + number / 4, grid.open, grid.dfss[number % 2], client, 1000.0)
    grid.run(4.9)
    return grid


def copies_lost(grid: GroupGrid, times: int) -> None:
    """The standby misses a moment's datagrams again and again, as one does that gets too little of
    a busy machine: it waits longer each time before it asks."""
    standby = grid.members[1]
    ways = [(dfs, standby) for dfs in grid.dfss]
    for _ in range(times):
        grid.close(*ways)
        grid.run(0.3)
        grid.heal()
        grid.run(0.6)


def test_it_is_carried_out_when_the_standby_has_everything_again() -> None:
    grid = busy(60)
    first, second = grid.members
    copies_lost(grid, 12)
    assert not second.cs.group.election.is_complete
    assert first.cs.group.name_successor(None, grid.now) == 2
    grid.run(2.5)
    assert (first.cs.group.election.claims, first.cs.group.successor) == (True, 2)
    grid.run(HAND_OVER_S - 2.5)
    assert second.cs.group.election.role.value == "active"
    assert (first.cs.group.election.claims, first.cs.group.successor) == (False, None)
    assert grid.wrongs == []


def test_it_lapses_and_says_so_if_the_standby_does_not_answer_any_more() -> None:
    grid = busy(60)
    first, second = grid.members
    first.cs.group.name_successor(None, grid.now)
    grid.kill(second)
    grid.run(HAND_OVER_S + 0.1)
    assert (first.cs.group.election.claims, first.cs.group.successor) == (True, None)
    assert any("has not taken over as ordered" in line for line in grid.story)


def test_an_order_is_withdrawn_by_naming_the_active_one() -> None:
    grid = busy(60)
    first, _ = grid.members
    copies_lost(grid, 12)
    first.cs.group.name_successor(2, grid.now)
    assert first.cs.group.name_successor(1, grid.now) == 1
    grid.run(HAND_OVER_S)
    assert first.cs.group.election.claims
