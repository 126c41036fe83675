# SPDX-License-Identifier: Apache-2.0
"""DFSs that hold each other's flows (wire protocol 14), in virtual time: packets go to another one
in mid-session, machines die and come back, and no connection ends wrong."""

from __future__ import annotations

import pytest

from control_segment.peers import Filling
from support.segments.team_grid import TeamGrid
from support.soak import SOAKING, seeds

IDLE_S = 300 if SOAKING else 60
"""When a flow that nobody uses goes; what is said to be silent for long is measured by it."""
SERVER = {"idle_timeout_s": IDLE_S}


def crowd(grid: TeamGrid, count: int, within_s: float, *, blocks: int, pause_s: float) -> None:
    for number in range(count):
        pause = grid.dice.uniform(0, 2 * pause_s)
        grid.at(grid.dice.uniform(0, within_s), grid.begin, number, blocks, pause)


def fillings(grid: TeamGrid) -> list[Filling]:
    team = grid.cs.dispatch.pairs.teams["edge"]
    return [member.filling for member in team.members]


def check_equal(grid: TeamGrid) -> None:
    """Both data paths have the same flows, with the same nodes and serials; but for those that
    begin or end while we look, which are no others a moment later."""
    first, second = (grid.flows_of(dfs) for dfs in grid.dfss)
    differing = first.keys() ^ second.keys()
    assert len(differing) < 10
    grid.run(0.05)
    later = [grid.flows_of(dfs).keys() for dfs in grid.dfss]
    assert not differing & (later[0] ^ later[1])
    for session in first.keys() & second.keys():
        state, other = first[session], second[session].entry
        assert (state.entry.serial, state.entry.node_ipaddr) == (other.serial, other.node_ipaddr)


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("grants", [True, False])
def test_the_other_member_has_every_flow_and_none_when_all_are_over(
    seed: int, grants: bool
) -> None:
    grid = TeamGrid(seed, grants=grants)
    grid.run(2)
    crowd(grid, 300, 3, blocks=4, pause_s=2.0)
    grid.run(5)
    assert len(grid.flows_of(grid.dfss[1])) > 100
    check_equal(grid)
    node = grid.cs.model.every_node()
    assert sum(each.active for each in node) == len(grid.cs.table) > 100  # once each
    grid.run(60)
    assert grid.wrongs == []
    assert grid.finished() == 300
    check_equal(grid)
    assert len(grid.flows_of(grid.dfss[1])) == len(grid.cs.table) == 0
    assert sum(each.total for each in node) == 300


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("grants", [True, False])
def test_the_machine_of_one_dies_and_no_connection_does(seed: int, grants: bool) -> None:
    grid = TeamGrid(seed, grants=grants, server=SERVER)
    grid.run(2)
    assert fillings(grid) == [Filling.COMPLETE] * 2
    first, second = grid.dfss
    crowd(grid, 400, 6, blocks=6, pause_s=1.0)

    def fails() -> None:
        grid.machine_dies(first)
        grid.way_in = grid.way_back = lambda client: second

    grid.at(3.0, fails)
    grid.run(60)
    assert grid.wrongs == []
    assert grid.finished() == 400
    assert len(grid.flows_of(second)) == 0
    grid.run(IDLE_S + 100)
    assert len(grid.cs.table) == 0


@pytest.mark.parametrize("seed", seeds(2))
def test_a_member_that_comes_back_is_filled_before_it_counts_as_complete(seed: int) -> None:
    grid = TeamGrid(seed)
    grid.run(2)
    second = grid.dfss[1]
    crowd(grid, 400, 2, blocks=10, pause_s=2.0)
    grid.run(3)
    grid.machine_dies(second)
    grid.run(1)
    assert Filling.AWAY in fillings(grid)
    grid.machine_boots(second)
    for _ in range(200):
        grid.run(0.05)
        if fillings(grid) == [Filling.COMPLETE] * 2:
            break
    assert fillings(grid) == [Filling.COMPLETE] * 2
    check_equal(grid)
    assert len(grid.flows_of(second)) > 300
    grid.way_in = grid.way_back = lambda client: second
    grid.run(90)
    assert grid.wrongs == []
    assert grid.finished() == 400


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("dies_at", [3.0, 1.07 * IDLE_S, 1.67 * IDLE_S])
def test_a_connection_that_is_silent_for_long_goes_on_at_the_other_machine(
    seed: int, dies_at: float
) -> None:
    """Its flow is idle, or gone, when the machine dies, or becomes so afterwards."""
    grid = TeamGrid(seed, server=SERVER)
    grid.run(2)
    first, second = grid.dfss
    for number in range(20):
        pause_s = IDLE_S * grid.dice.choice((2 / 3, 7 / 3))
        grid.at(grid.dice.uniform(0, 1), grid.begin, number, 2, pause_s)

    def fails() -> None:
        grid.machine_dies(first)
        grid.way_in = grid.way_back = lambda client: second

    grid.at(dies_at, fails)
    grid.run(8 * IDLE_S)
    assert grid.wrongs == []
    assert grid.finished() == 20
    assert len(grid.flows_of(second)) == 0


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("grants", [True, False])
def test_with_multipath_packets_move_in_mid_flow_each_direction_by_itself(
    seed: int, grants: bool
) -> None:
    grid = TeamGrid(seed, kind="multipath", dfss=3, grants=grants)
    grid.run(2)
    moved = 0

    def anywhere(client: object) -> object:
        return grid.dfss[hash((client, moved)) % 3]

    def anywhere_back(client: object) -> object:
        return grid.dfss[hash((client, moved, "back")) % 3]

    def move() -> None:
        nonlocal moved
        moved += 1
        grid.at(1.0, move)

    grid.way_in, grid.way_back = anywhere, anywhere_back  # type: ignore[assignment]
    move()
    crowd(grid, 300, 6, blocks=8, pause_s=1.0)
    grid.run(90)
    assert grid.wrongs == []
    assert grid.strays == 0
    assert grid.finished() == 300


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("pause_s", [50.0, 700.0])
def test_the_data_path_boots_and_the_node_speaks_first(seed: int, pause_s: float) -> None:
    """Agent and data path start anew, with an empty table: what a node says then is asked about."""
    grid = TeamGrid(seed, kind=None, dfss=1)
    grid.run(2)
    (dfs,) = grid.dfss
    for number in range(20):
        grid.at(grid.dice.uniform(0, 1), grid.begin, number, 2, pause_s)
    grid.run(10)
    grid.run(pause_s * 0.9)
    grid.machine_dies(dfs)
    grid.run(1)
    grid.machine_boots(dfs)
    for talk in grid.talks.values():
        grid.at(grid.dice.uniform(0, 4), grid.push, talk, b"news of " + talk.question(0))
    grid.run(3 * pause_s + 100)
    assert grid.strays == 0
    assert grid.wrongs == []
    assert grid.finished() == 20
    assert all(b"news of" in talk.mine.got for talk in grid.talks.values())
