# SPDX-License-Identifier: Apache-2.0
"""Grants in seeded schedules of loss, delay, restarts, changes and take-over (wire protocol 13.1):
no flow goes to a node of an old generation after the bound, no limit is exceeded, and when all is
quiet both planes have counted the same."""

from __future__ import annotations

import pytest

from support.octets.frames import SYN
from support.segments.grid import Dfs, End, Grid
from support.segments.planes import Weather
from support.soak import seeds

pytestmark = pytest.mark.soak

ROUGH = {"loss": 0.05, "doubling": 0.05, "late": 0.05}
SEEDS = pytest.mark.parametrize("seed", seeds(6))


def ahead_of(grid: Grid) -> int:
    """Flows that took grants, as the CSs counted them."""
    models = [member.cs.model for member in grid.members]
    return sum(server.ahead for model in models for server in model.virtual_servers.values())


def check_quiet(grid: Grid) -> None:
    """Nobody has anything left of anything."""
    assert grid.wrongs == []
    for dfs in grid.dfss:
        assert dfs.target.flow_count() == 0
        assert dfs.agent.outbox.faults.take_log() == []
        for state in dfs.target.grant_states():
            assert state.given == state.taken
    for member in grid.members:
        cs = member.cs
        if not all(peer.is_active for peer in cs.peers.values()):
            continue  # it waits, and what it knew is another one's
        assert len(cs.table) == len(cs.table.sessions)
        assert [node.active for node in cs.model.every_node()] == [0] * len(cs.model.every_node())
        assert [node.granted for node in cs.model.every_node()] == [0] * len(cs.model.every_node())
        for server in cs.model.virtual_servers.values():
            assert (server.active, server.granted) == (0, 0)
        for peer in cs.peers.values():
            assert peer.grants is not None
            assert peer.grants.outstanding == {}
            assert peer.grants.rings == {}
        assert cs.faults.take_log() == []


@SEEDS
def test_in_fair_weather_nearly_every_flow_is_answered_ahead(seed: int) -> None:
    grid = Grid(seed, dfss=2)
    grid.run(1)
    grid.crowd(1500, 2.5)
    grid.run(5)
    taken = sum(dfs.taken for dfs in grid.dfss)
    assert taken > 1350
    grid.run(30)
    check_quiet(grid)
    assert ahead_of(grid) == taken
    (server,) = grid.cs.model.virtual_servers.values()
    assert server.total == 1500


@SEEDS
def test_rough_weather_loses_no_count(seed: int) -> None:
    grid = Grid(seed, dfss=2, tcp_idle_timeout_s=20, stats_interval_s=2)
    grid.weather = Weather(**ROUGH)
    grid.run(3)
    grid.crowd(1500, 3)
    grid.run(10)
    taken = sum(dfs.taken for dfs in grid.dfss)
    assert taken > 1000
    grid.run(100)
    check_quiet(grid)
    assert ahead_of(grid) == taken


@SEEDS
@pytest.mark.parametrize("method", ["round_robin", "least_connections", "source_hash", "maglev"])
def test_a_closed_node_gets_no_flow_after_the_bound(seed: int, method: str) -> None:
    grid = Grid(seed, dfss=2, method=method, tcp_idle_timeout_s=20, stats_interval_s=2)
    grid.weather = Weather(loss=0.2, doubling=0.1, late=0.2)
    grid.run(5)
    grid.crowd(2000, 4)
    for turn in range(15):
        node = turn % 4
        grid.at(0.5 + turn * 0.25, grid.set_node_for, node, grid.dice.choice(["draining", "down"]))
    for turn in range(0, 15, 4):  # nobody hears of some at once
        grid.at(0.49 + turn * 0.25, setattr, grid, "grants_lost", 0.97)
        grid.at(0.53 + turn * 0.25, setattr, grid, "grants_lost", 0.0)
    grid.run(15)
    assert sum(dfs.taken for dfs in grid.dfss) > 500
    grid.run(100)
    check_quiet(grid)
    if method in ("round_robin", "least_connections"):
        assert grid.latest_s > 0  # there was something to be late with


@SEEDS
def test_the_bound_holds_where_most_of_what_revokes_grants_is_lost(seed: int) -> None:
    """And nothing else is: leases would be extended in time if nobody looked."""
    grid = Grid(seed, tcp_idle_timeout_s=20)
    grid.run(2)
    for turn in range(10):
        begin = turn * 0.9
        grid.at(begin, setattr, grid, "grants_lost", 0.0)
        grid.at(begin, grid.crowd, 250, 0.4, 1000 * turn, 0.1)
        grid.at(begin + 0.4, setattr, grid, "grants_lost", 0.97)
        grid.at(begin + 0.41, grid.set_node_for, turn % 4, "draining", 0.3)
        grid.at(begin + 0.41, grid.crowd, 30, 0.3, 1000 * turn + 500, 0.1)  # the stock lasts
    grid.at(9.0, setattr, grid, "grants_lost", 0.0)
    grid.run(12)
    assert grid.dfss[0].taken > 500
    assert grid.latest_s > 0.02
    grid.run(60)
    check_quiet(grid)


@SEEDS
def test_limits_hold_over_several_dfss(seed: int) -> None:
    grid = Grid(
        seed,
        dfss=3,
        nodes=3,
        node_limit=25,
        method="least_connections",
        server={"connection_limit": 60},
        tcp_idle_timeout_s=2,
        stats_interval_s=1,
    )
    grid.weather = Weather(loss=0.01, doubling=0.05, late=0.05)
    grid.run(3)
    grid.crowd(1500, 6, life_s=0.1)
    grid.at(6.5, grid.crowd, 2500, 4, 1500, 0.5)  # far more than fit
    grid.run(15)
    assert sum(dfs.taken for dfs in grid.dfss) > 300
    assert grid.most_live > 40
    assert grid.refused
    grid.run(100)
    check_quiet(grid)


@SEEDS
def test_a_restarted_agent_begins_with_another_lease(seed: int) -> None:
    grid = Grid(seed, dfss=2, server={"connection_limit": 400}, tcp_idle_timeout_s=20)
    grid.weather = Weather(**ROUGH)
    grid.run(3)
    grid.crowd(1500, 4)
    for at in (1.0, 2.5):
        grid.at(at, grid.dfss[0].kill)
        grid.at(at + 0.3, grid.dfss[0].start)
    grid.run(100)
    check_quiet(grid)
    assert 0 < ahead_of(grid) <= sum(dfs.taken for dfs in grid.dfss)


@SEEDS
def test_a_connection_that_breaks_leaves_no_grant_behind(seed: int) -> None:
    grid = Grid(seed, dfss=2, server={"connection_limit": 400}, tcp_idle_timeout_s=20)
    grid.weather = Weather(**ROUGH)
    grid.run(3)
    grid.crowd(1500, 4)
    for at in (1.0, 2.5):
        grid.at(at, grid.members[0].cut, grid.dfss[1])
    grid.run(100)
    check_quiet(grid)


@SEEDS
def test_a_restarted_cs_finds_what_took_the_grants_of_the_one_before(seed: int) -> None:
    grid = Grid(seed, dfss=2, tcp_idle_timeout_s=20)
    grid.weather = Weather(**ROUGH)
    grid.run(3)
    grid.crowd(1500, 4)
    for at in (1.0, 2.5):
        grid.at(at, grid.members[0].kill)
        grid.at(at + 0.3, grid.members[0].start)
    for turn in range(8):
        grid.at(0.5 * (turn + 1), grid.set_node_for, turn % 4, "draining")
    grid.run(100)
    check_quiet(grid)


@SEEDS
def test_the_second_cs_takes_over_and_the_grants_of_the_first_are_void(seed: int) -> None:
    grid = Grid(seed, dfss=2, css=2, hello_interval_s=1, tcp_idle_timeout_s=20)
    grid.weather = Weather(**ROUGH)
    grid.run(5)
    grid.crowd(4000, 12)
    grid.at(3.0, grid.members[0].kill)
    grid.at(9.0, grid.members[0].start)
    for turn in range(10):
        grid.at(1.0 + turn, grid.set_node_for, turn % 4, "draining")
    grid.run(25)
    assert [cs.cs.grants.peers[0].is_active for cs in grid.members] == [False, True]
    assert grid.members[1].cs.model.every_node()[0].total > 0
    grid.run(100)
    check_quiet(grid)


class Rerouted(Grid):
    """What a client sends after its SYN goes by another DFS."""

    is_rerouted = False

    def _from_client(self, dfs: Dfs, client: End, flags: int, seq: int, ack: int) -> None:
        if self.is_rerouted and not flags & SYN:
            dfs = self.dfss[1 - dfs.number]
        super()._from_client(dfs, client, flags, seq, ack)


@SEEDS
def test_a_connection_that_moves_behind_its_first_packet_stays_at_its_node(seed: int) -> None:
    """The CS has not heard yet that it took a grant."""
    grid = Rerouted(seed, dfss=2)
    grid.run(2)
    grid.crowd(600, 3, life_s=60)
    grid.run(2)
    assert all(dfs.taken > 50 for dfs in grid.dfss)
    before = set(grid.live)
    grid.is_rerouted = True
    grid.run(2)
    moved = {place: node for place, node in grid.live.items() if place not in before}
    assert len(moved) > 100
    for (dfs, client), node in moved.items():
        state = grid.dfss[1 - dfs.number].target.lookup(grid._signature(client))
        assert state is not None
        assert state.entry.node_ipaddr == node
    drops = grid.cs.statistics.drops
    assert drops["waits_for_taken"] > 10
    assert grid.cs.statistics.refused["UNKNOWN"] == 0
    assert grid.refused == set()


@SEEDS
def test_the_same_client_ports_again_and_again(seed: int) -> None:
    grid = Grid(seed, tcp_idle_timeout_s=20, stats_interval_s=2)
    grid.weather = Weather(loss=0.1, doubling=0.1, late=0.2)
    grid.run(3)
    for repeat in range(40):
        grid.at(repeat * 0.25, grid.again, 40)
    grid.run(15)
    assert grid.dfss[0].taken > 300
    grid.run(100)
    check_quiet(grid)


@SEEDS
def test_a_full_table_gives_grants_back_and_nobody_is_lost(seed: int) -> None:
    grid = Grid(seed, flow_capacity=60, tcp_idle_timeout_s=20, stats_interval_s=2)
    grid.weather = Weather(**ROUGH)
    grid.run(3)
    grid.crowd(1500, 8, life_s=0.4)
    grid.run(15)
    (state,) = grid.dfss[0].target.grant_states()
    assert state.counts.full > 0
    assert state.counts.taken > 10
    grid.run(100)
    check_quiet(grid)
