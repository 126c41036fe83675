# SPDX-License-Identifier: Apache-2.0
"""DFSs that hold each other's spliced flows (docs/design/0010, 0012), in virtual time: offsets
reach the spares, machines die under connections that are spliced, collected or in between."""

from __future__ import annotations

import pytest

from ssmb.messages import Translation
from support.segments.agent_rig import CLIENT
from support.segments.asking import NODES_EACH, POOLS, Ask
from support.segments.grid import Dfs, End
from support.segments.planes import Weather
from support.segments.proxied_team import ProxiedTeam
from support.soak import part, seeds

pytestmark = pytest.mark.soak

CLIENTS = part(200, 4)
IDLE_S = 40


def begin(grid: ProxiedTeam, count: int, within_s: float, more: int, pause_s: float) -> None:
    dice = grid.dice
    for number in range(count):
        pause = dice.uniform(0, 2 * pause_s)
        ask = Ask((CLIENT[0], 2000 + number), dice.randrange(POOLS), dice.randrange(more), pause)
        grid.at(dice.uniform(0, within_s), grid.ask, ask)


def by(grid: ProxiedTeam, number: int) -> dict[End, tuple[int, Translation]]:
    """The serial and translation of what a member has."""
    found = grid.spliced(grid.dfss[number])
    return {
        client: (state.entry.serial, state.entry.translation._replace(idle_timeout=0))
        for client, state in found.items()
    }


@pytest.mark.parametrize("seed", seeds(3))
def test_the_other_member_has_every_spliced_flow_with_its_offsets(seed: int) -> None:
    grid = ProxiedTeam(seed)
    grid.run(2)
    begin(grid, CLIENTS, 3, more=4, pause_s=3.0)
    grid.run(4)
    first = by(grid, 0)
    grid.run(0.05)
    second = by(grid, 1)
    still = {client: has for client, has in by(grid, 0).items() if first.get(client) == has}
    assert len(still) > CLIENTS // 5
    assert {client: second.get(client) for client in still} == still
    assert any(has[1].ack_offset for has in still.values())
    grid.run(120)
    assert grid.wrongs == []
    assert (len(grid.done), grid.resets) == (CLIENTS, [])
    assert [len(grid.flows_of(dfs)) for dfs in grid.dfss] == [0, 0]
    assert len(grid.cs.table) == 0


@pytest.mark.parametrize("rough", [False, True], ids=["fair", "rough"])
@pytest.mark.parametrize("seed", seeds(6))
def test_the_machine_of_one_dies_and_what_is_spliced_goes_on(seed: int, rough: bool) -> None:
    """So does what was not acknowledged: its client repeats it.  What the CS had not heard of yet
    is reset: the rest of a request, and what was spliced within the last 10 ms, or in rough weather
    within the time in which the CS asks about it."""
    grid = ProxiedTeam(seed, server={"idle_timeout_s": IDLE_S}, stats_interval_s=5)
    if rough:
        grid.weather = Weather(0.05, 0.05, 0.05)
    grid.run(3)
    first, second = grid.dfss
    begin(grid, CLIENTS, 6, more=6, pause_s=1.0)
    acknowledged: set[End] = set()
    at_both: set[End] = set()
    known: set[End] = set()  # spliced for so long that the CS has heard of it

    def before() -> None:
        known.update(grid.spliced(first))

    def fails() -> None:
        for session, each in first.agent.handshakes.table.by_session.items():
            if each.connection.client.acked:
                acknowledged.add((session.src_ipaddr, session.src_port))
        known.intersection_update(grid.spliced(first))
        at_both.update(grid.spliced(second))
        grid.machine_dies(first)
        grid.way_in = grid.way_back = lambda client: second

    grid.at(3.0 - (2.0 if rough else 0.012), before)
    grid.at(3.0, fails)
    grid.run(90)
    reset = {ask.client for ask in grid.resets}
    assert grid.wrongs == []
    assert len(grid.done) + len(reset) == CLIENTS
    assert len(at_both) > CLIENTS // 20
    assert not reset & (known | at_both)
    if not rough:
        assert len(reset - acknowledged) <= CLIENTS // 50
        assert len(grid.flows_of(second)) == 0
    grid.machine_boots(first)
    grid.run(IDLE_S + 20)
    assert [node.active for node in grid.cs.model.every_node()] == [0] * POOLS * NODES_EACH


@pytest.mark.parametrize("seed", seeds(3))
def test_with_multipath_a_spliced_flow_may_pass_any_member_each_direction_by_itself(
    seed: int,
) -> None:
    """Until it is spliced everywhere, a connection stays at one member."""
    grid = ProxiedTeam(seed, kind="multipath", dfss=3)
    grid.run(2)
    moved = 0
    everywhere: set[End] = set()

    def way(client: End, direction: str) -> Dfs:
        is_free = client in everywhere
        return grid.dfss[hash((client, moved, direction) if is_free else client) % 3]

    def move() -> None:
        nonlocal moved
        moved += 1
        has = [set(grid.spliced(dfs)) for dfs in grid.dfss]
        everywhere.update(has[0] & has[1] & has[2])
        grid.at(0.5, move)

    grid.way_in = lambda client: way(client, "in")
    grid.way_back = lambda client: way(client, "back")
    move()
    begin(grid, CLIENTS, 6, more=8, pause_s=1.0)
    grid.run(120)
    assert grid.wrongs == []
    assert (len(grid.done), grid.resets) == (CLIENTS, [])
    assert len(everywhere) > CLIENTS // 2
