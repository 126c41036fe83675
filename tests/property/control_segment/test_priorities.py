# SPDX-License-Identifier: Apache-2.0
"""Priority groups: whatever method, persistence or change, only active priorities are chosen."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.config import PoolConfig
from control_segment.methods import METHODS
from control_segment.nodes import Node
from control_segment.pools import Pool, table_of
from control_segment.priorities import active_of
from control_segment.wire import session_key
from ssmb.addresses import from_text, to_text
from support.segments.dfs_double import SERVER, Rig, changed_server, config

NODES = 6
CLIENTS = [from_text(f"198.51.100.{number}") for number in range(1, 9)]


class Entry(NamedTuple):
    """A node of a configuration."""

    priority: int
    weight: int
    state: str

    @property
    def is_able(self) -> bool:
        return self.state == "enabled" and self.weight > 0


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from(["enabled", "enabled", "enabled", "draining", "down"]),
    ),
    min_size=1,
    max_size=NODES,
)
MINIMA = st.integers(1, 4)


def pool_of(method: str, entries: list[Entry], minimum: int) -> dict[str, Any]:
    return {
        "name": "web",
        "method": method,
        "minimum_active": minimum,
        "nodes": [
            {
                "name": f"n{number}",
                "address": f"10.1.1.{number + 2}",
                "port": 80,
                "priority": entry.priority,
                "weight": entry.weight,
                "state": entry.state,
            }
            for number, entry in enumerate(entries)
        ],
    }


def wanted(entries: list[Entry], minimum: int) -> set[str]:
    """The rule said once more, priority by priority."""
    chosen: set[str] = set()
    for priority in sorted({entry.priority for entry in entries}, reverse=True):
        if len(chosen) < minimum:
            members = enumerate(entries)
            chosen |= {f"n{n}" for n, it in members if it.priority == priority and it.is_able}
    return chosen


@given(ENTRIES, MINIMA)
def test_lower_priorities_join_until_there_are_enough_nodes(
    entries: list[Entry], minimum: int
) -> None:
    nodes = [
        Node("web", f"n{number}", bytes(16), number, priority=entry.priority)
        for number, entry in enumerate(entries)
        if entry.is_able
    ]
    active = active_of(nodes, minimum)
    assert {node.name for node in active} == wanted(entries, minimum)
    assert active == [node for node in nodes if node in active]  # in their order


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15)
@given(changes=st.lists(st.tuples(ENTRIES, MINIMA), min_size=1, max_size=4))
def test_every_method_chooses_among_the_active_priorities_through_all_changes(
    method: str, changes: list[tuple[list[Entry], int]]
) -> None:
    pool = Pool(PoolConfig(name="web", method=method))
    for entries, minimum in changes:
        pool.apply(PoolConfig.model_validate(pool_of(method, entries, minimum)))
        expected = wanted(entries, minimum)
        takes = {name for name, node in pool.nodes.items() if node.takes_new_sessions}
        assert takes == expected
        picked: set[str | None] = set()
        for number, client in enumerate(CLIENTS * 3):
            node = pool.method.pick(session_key(client, SERVER, 4000 + number, 80, 6), 1.0)
            picked.add(None if node is None else node.name)
            if node is not None:
                node.session_started(1.0)
        assert picked <= set(expected) if expected else picked == {None}


@settings(max_examples=20)
@given(entries=ENTRIES, minimum=MINIMA)
def test_a_table_that_is_made_before_a_reload_is_the_one_that_it_needs(
    entries: list[Entry], minimum: int
) -> None:
    entry = PoolConfig.model_validate(pool_of("maglev", entries, minimum))
    make, pool = table_of(entry), Pool(entry)
    assert make is not None
    assert pool.tabled is not None
    assert pool.tabled.table is make()


@pytest.mark.parametrize("method", ["round_robin", "source_hash", "maglev"])
@settings(max_examples=8)
@given(steps=st.lists(st.tuples(ENTRIES, MINIMA, st.sampled_from(CLIENTS)), min_size=2, max_size=6))
def test_remembered_clients_and_new_ones_get_active_priorities_and_sessions_stay(
    method: str, steps: list[tuple[list[Entry], int, bytes]]
) -> None:
    servers = changed_server(persistence={"kind": "source_address", "timeout_s": 600})
    first = [Entry(number % 3, 1, "enabled") for number in range(NODES)]
    rig = Rig(config(pools=[pool_of(method, first, 1)], virtual_servers=servers))
    living: dict[tuple[bytes, int], tuple[int, bytes]] = {}  # client and port: serial and node
    for number, (entries, minimum, client) in enumerate(steps):
        pools = [pool_of(method, entries, minimum)]
        rig.cs.apply_config(config(pools=pools, virtual_servers=servers), rig.now)
        names = {to_text(it.address): it.name for it in rig.cs.model.pools["web"].nodes.values()}
        expected = wanted(entries, minimum)
        reply = rig.dfs.query(rig, port=5000 + number, client=client)
        assert reply is not None
        assert (reply.error_code == 0) == bool(expected)
        if expected:
            assert names[to_text(reply.node_ipaddr)] in expected
            living[client, 5000 + number] = rig.dfs.serial, reply.node_ipaddr
        for (old, port), (serial, node) in living.items():
            again = rig.dfs.query(rig, port=port, client=old, serial=serial)
            assert again is not None
            assert again.node_ipaddr == node
