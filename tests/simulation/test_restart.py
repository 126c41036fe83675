# SPDX-License-Identifier: Apache-2.0
"""The only CS is killed and started again: SYNC gives it back what it knew of living flows (11.4).

Flows, what nodes and virtual servers have, counters, where clients are at home, and grants.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from control_segment.segment import ControlSegment
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import session_key
from data_flow_segment.targets.contract import FlowState
from ssmb.addresses import from_text
from ssmb.serials import is_cs_originated
from support.octets.frames import ACK
from support.segments.grid import Grid
from support.segments.planes import Weather

AWAY_S: Final = 0.7  # long enough for every lease to be over
FOR_EVER_S: Final = 1e6
PERSISTENT: Final[dict[str, Any]] = {"persistence": {"kind": "source_address", "timeout_s": 600}}
WAYS: Final[dict[str, Any]] = {
    "asked": {"grants": False},
    "granted": {"grants": True},
}


def client(number: int) -> tuple[bytes, int]:
    return from_text(f"198.51.{number // 200}.{number % 200 + 1}"), 10_000 + number


def open_many(grid: Grid, first: int, count: int, within_s: float = 1.0) -> None:
    """Connections that stay."""
    for number in range(first, first + count):
        dfs = grid.dfss[number % len(grid.dfss)]
        grid.at(within_s * (number - first) / count, grid.open, dfs, client(number), FOR_EVER_S)


def server_of(cs: ControlSegment) -> VirtualServer:
    (server,) = cs.model.virtual_servers.values()
    return server


def states(grid: Grid) -> dict[bytes, tuple[int, FlowState]]:
    """Every flow of every DFS, and whose it is: the truth."""
    found = {}
    for dfs in grid.dfss:
        flows, cursor = dfs.target.scan(None, 10_000)
        assert cursor is None
        for state in flows:
            found[session_key(*state.entry.signature[:5])] = dfs.agent.segment_id, state
    return found


def assert_knows_all(grid: Grid) -> None:
    """The CS's table is what the DFSs have, and its counts follow from it."""
    cs, truth = grid.cs, states(grid)
    known = {
        key: (flow.peer.segment_id, flow.serial, flow.node.address)
        for key, flow in cs.table.by_key.items()
        if flow not in cs.table.sessions
    }
    assert known == {
        key: (dfs_id, state.entry.serial, state.entry.node_ipaddr)
        for key, (dfs_id, state) in truth.items()
    }
    server = server_of(cs)
    assert server.active - server.granted == len(truth)
    for node in server.pool.nodes.values():
        here = sum(state.entry.node_ipaddr == node.address for _, state in truth.values())
        assert node.active - node.granted == here == grid.by_node[node.address]


def restart(grid: Grid) -> None:
    """kill -9, and a new process."""
    (member,) = grid.members
    member.kill()
    grid.run(AWAY_S)
    member.start()
    grid.run(3)
    assert not any(peer.sync.is_running for peer in member.cs.peers.values())


def replies(cs: ControlSegment) -> dict[bytes, tuple[Any, ...]]:
    """What a repeated QUERY would get."""
    return {
        key: (flow.head, flow.tail, flow.node.name, flow.virtual_server.name)
        for key, flow in cs.table.by_key.items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_flows_and_what_nodes_and_virtual_servers_have_are_as_before(way: str) -> None:
    grid = Grid(1, dfss=2, **WAYS[way])
    grid.run(2)
    open_many(grid, 0, 200)
    grid.run(3)
    before = replies(grid.cs)
    assert_knows_all(grid)
    granted = sum(is_cs_originated(state.entry.serial) for _, state in states(grid).values())
    assert (granted > 100) == (way == "granted")
    restart(grid)
    assert_knows_all(grid)
    assert replies(grid.cs) == before
    assert grid.wrongs == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_a_cs_that_dies_among_new_connections_knows_all_of_them_afterwards(
    way: str, seed: int
) -> None:
    """Also what took grants that it could not hear of any more, in bad weather."""
    grid = Grid(seed, dfss=2, **WAYS[way])
    grid.run(2)
    grid.weather = Weather(loss=0.05, doubling=0.05, late=0.05)
    open_many(grid, 0, 600, within_s=2.0)
    grid.run(1)
    assert len(grid.live) > 100
    restart(grid)
    grid.run(20)
    assert_knows_all(grid)
    assert len(grid.live) == 600
    assert grid.wrongs == []


def test_counters_of_flows_are_as_counted_by_the_dfss_after_the_next_stats() -> None:
    grid = Grid(1, dfss=2, stats_interval_s=10, tcp_idle_timeout_s=60, grants=False)
    grid.run(2)
    open_many(grid, 0, 60)
    grid.run(2)
    for number in range(60):
        for turn in range(number % 5):
            dfs = grid.dfss[number % 2]
            grid.at(0.1 * turn, grid.send, dfs, client(number), ACK)
    grid.run(15)
    restart(grid)
    moving = [number for number in range(60) if number % 3]
    for number in moving:
        grid.send(grid.dfss[number % 2], client(number), ACK)
    grid.run(12)
    truth = states(grid)

    def counted(numbers: list[int]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        here, there = list[tuple[int, ...]](), list[tuple[int, ...]]()
        for key, flow in grid.cs.table.by_key.items():
            if int.from_bytes(key[32:34], "big") - 10_000 in numbers:
                here.append((flow.pkts_in, flow.bytes_in, flow.pkts_out, flow.bytes_out))
                there.append(tuple(truth[key][1].counters))
        return here, there

    here, there = counted(moving)
    assert len(here) == 40
    assert here == there
    grid.run(150)  # those that moved no more were asked about, or have ended: with their counters
    nodes = server_of(grid.cs).pool.nodes.values()
    assert sum(node.pkts_in for node in nodes) == sum(
        state.counters.pkts_in for _, state in truth.values()
    )
    assert sum(node.bytes_out for node in nodes) == sum(
        state.counters.bytes_out for _, state in truth.values()
    )


@pytest.mark.parametrize("way", WAYS)
def test_clients_are_at_home_where_they_were(way: str) -> None:
    grid = Grid(1, dfss=2, server=PERSISTENT, **WAYS[way])
    grid.run(2)
    open_many(grid, 0, 120)
    grid.run(2)

    def homes() -> list[str | None]:
        server = server_of(grid.cs)
        nodes = [server.remembered_node(client(number)[0], grid.now) for number in range(120)]
        return [None if node is None else node.name for node in nodes]

    before = homes()
    assert None not in before
    restart(grid)
    assert homes() == before
    grid.set_node(0, weight=50)  # whatever the method would choose now
    for number in range(120):
        address, port = client(number)
        grid.open(grid.dfss[number % 2], (address, port + 20_000), FOR_EVER_S)
    grid.run(5)
    assert homes() == before
    assert_knows_all(grid)


@pytest.mark.parametrize("seed", range(4))
def test_a_limit_is_reached_and_not_exceeded_after_a_restart_with_grants_out(seed: int) -> None:
    """A grant that was lost from the count would let one too many in; one that is counted twice,
    one too few."""
    grid = Grid(seed, dfss=2, server={"connection_limit": 400})
    grid.run(2)
    open_many(grid, 0, 300, within_s=1.5)
    grid.run(1)
    assert server_of(grid.cs).granted > 0
    restart(grid)
    grid.run(5)
    assert len(grid.live) == 300
    assert_knows_all(grid)
    open_many(grid, 300, 200, within_s=2.0)
    grid.run(20)
    assert len(grid.live) == 400
    assert grid.wrongs == []
    assert_knows_all(grid)
    grid.run(10)
    assert server_of(grid.cs).granted == 0
    assert all(dfs.agent.outbox.faults.take_log() == [] for dfs in grid.dfss)
