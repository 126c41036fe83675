# SPDX-License-Identifier: Apache-2.0
"""A large configuration comes in force step by step; no step is long, and QUERYs are answered in
between as before, until all is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from control_segment.differences import Outcome
from control_segment.links import SENT_AT_ONCE
from control_segment.methods.maglev import Maglev
from control_segment.model import SWITCHED_AT_ONCE, finish
from control_segment.pools import Pool, table_of
from control_segment.segment import NODES_AT_ONCE
from csmb.messages import AddVs, DelVs, VsList
from ssmb.addresses import from_text, to_text
from support.segments.dfs_double import CONFIG, Rig, config
from support.work import lines_run

NODES = 3


def pools(number: int, method: str = "round_robin", **node: Any) -> list[Any]:
    return [
        {
            "name": f"p{n}",
            "method": method,
            "nodes": [
                {"name": f"n{i}", "address": f"10.{i}.{n >> 8}.{n & 255}", "port": 80, **node}
                for i in range(NODES)
            ],
        }
        for n in range(number)
    ]


def servers(number: int, **fields: Any) -> list[Any]:
    return [
        {"name": f"s{n}", "address": f"198.18.{n >> 8}.{n & 255}", "port": 80, "protocol": "tcp",
         "pool": f"p{n}", **fields}
        for n in range(number)
    ]  # fmt: skip


def large(number: int, **node: Any) -> dict[str, Any]:
    return {"pools": pools(number, **node), "virtual_servers": servers(number)}


def node_of(rig: Rig, number: int, port: int) -> str | None:
    """Where a new session of a virtual server goes."""
    server = from_text(f"198.18.{number >> 8}.{number & 255}")
    reply = rig.dfs.query(rig, server=server, port=port)
    assert reply is not None
    return None if reply.error_code else to_text(reply.translation.node_ipaddr)


def steps_of(rig: Rig, changed: dict[str, Any], between: Callable[[], None]) -> Outcome:
    steps = rig.cs.applying(config(**changed))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        between()


def test_until_the_last_step_the_old_configuration_answers_and_then_the_new_one() -> None:
    rig = Rig(config(**large(20)))
    moved = large(20)
    for pool in moved["pools"]:
        for node in pool["nodes"]:
            node["address"] = node["address"].replace("10.", "172.16.", 1).rsplit(".", 1)[0]
    seen: list[str | None] = []

    def ask() -> None:
        seen.append(node_of(rig, len(seen) % 20, 2000 + len(seen)))

    changes = steps_of(rig, moved, ask)
    assert len(seen) > 20
    assert all(str(address).startswith("10.") for address in seen)
    for _ in rig.cs.looking(changes):
        ask()
    rig.cs.announce(changes, rig.now)
    assert all(str(node_of(rig, n, 1000 + n)).startswith("172.16.") for n in range(20))


def test_no_step_grows_with_the_configuration() -> None:
    def longest(number: int) -> int:
        rig = Rig(config(**large(number)))
        steps = rig.cs.applying(config(**large(number, weight=2)))
        work: list[int] = []
        outcome: list[Outcome] = []

        def step() -> None:
            assert next(steps) is None

        def look() -> None:
            next(looking)

        try:
            while True:
                work.append(lines_run(step))
        except StopIteration as end:
            outcome.append(end.value)
        looking = rig.cs.looking(outcome[0])
        try:
            while True:
                work.append(lines_run(look))
        except StopIteration:
            return max(work)

    assert longest(2 * SWITCHED_AT_ONCE) < 1.5 * longest(SWITCHED_AT_ONCE)


def test_what_did_not_change_is_not_touched() -> None:
    rig = Rig(config(**large(50)))
    pool = rig.cs.model.pools["p7"]
    server = next(iter(rig.cs.model.virtual_servers.values()))
    method, answers = pool.method, server.answers
    changed = large(50)
    changed["pools"][3]["nodes"].pop()
    rig.cs.apply_config(config(**changed), rig.now)
    assert pool.method is method
    assert server.answers is answers
    assert len(rig.cs.model.pools["p3"].nodes) == NODES - 1


def test_a_node_that_is_set_during_a_reload_is_as_configured_behind_it() -> None:
    rig = Rig(config(**large(10)))
    set_node = [lambda: rig.cs.set_nodes("p4", ["n1"], weight=7, state="down", now=rig.now)]

    def between() -> None:
        if set_node:
            set_node.pop()()

    changed = large(10)
    changed["pools"][9]["nodes"].pop()
    steps_of(rig, changed, between)
    node = rig.cs.model.pools["p4"].nodes["n1"]
    assert (node.weight, node.state.value) == (1, "enabled")


@pytest.mark.parametrize("number", [1, SENT_AT_ONCE, 3 * SENT_AT_ONCE + 1])
def test_dfss_are_sent_all_changes_some_at_a_time(number: int) -> None:
    rig = Rig(config(**large(number)))
    rig.dfs.csmb.clear()
    rig.cs.apply_config(config(), rig.now)
    rig.settle()
    assert len(rig.dfs.csmb) <= SENT_AT_ONCE
    rig.advance(0)
    gone = [message for message in rig.dfs.csmb if isinstance(message, DelVs)]
    added = [message for message in rig.dfs.csmb if isinstance(message, AddVs)]
    assert len(gone) == number
    assert len(added) == len(CONFIG["virtual_servers"])
    assert rig.dfs.csmb[:number] == gone


def test_what_a_reload_changes_while_a_long_list_is_sent_comes_behind_the_list() -> None:
    number = 60 * SENT_AT_ONCE
    rig = Rig(config(pools=pools(1), virtual_servers=servers(number, pool="p0")))
    assert not any(isinstance(message, VsList) and not message.flags for message in rig.dfs.csmb)
    rig.cs.apply_config(
        config(pools=pools(1), virtual_servers=servers(number - 1, pool="p0")), rig.now
    )
    rig.advance(0)
    *_, last, gone = rig.dfs.csmb
    assert isinstance(last, VsList)
    assert isinstance(gone, DelVs)
    entries = [e for m in rig.dfs.csmb if isinstance(m, VsList) for e in m.entries]
    assert len(entries) == number


def test_pools_with_equal_nodes_share_a_table() -> None:
    rig = Rig(config(**large(3, method="maglev")))

    def table(pool: Pool) -> object:
        assert isinstance(pool.method, Maglev)
        return pool.method._table

    one, two, three = rig.cs.model.pools.values()
    assert table(one) is table(two) is table(three)
    rig.cs.set_nodes("p1", ["n0"], weight=5, state=None, now=rig.now)
    assert table(one) is table(three) is not table(two)


def test_tables_are_built_before_anything_is_in_force() -> None:
    rig = Rig(config(**large(3, method="maglev")))
    steps = rig.cs.applying(config(**large(3, method="maglev", weight=3)))
    builds = next(steps)
    assert builds is not None
    assert steps.send(builds()) is None  # the first pool's; it is kept
    new = config(**large(3, method="maglev", weight=3))
    kept = [made() for entry in new.pools if (made := table_of(entry)) is not None]
    finish(steps)
    for pool, table in zip(rig.cs.model.pools.values(), kept, strict=True):
        assert isinstance(pool.method, Maglev)
        assert pool.method._table is table


def test_the_rates_of_many_nodes_are_looked_at_some_at_a_time() -> None:
    number = 2 * NODES_AT_ONCE // NODES + 1
    rig = Rig(config(pools=pools(number), virtual_servers=[]))
    calls: list[float] = []
    while rig.now < 1002.5:
        rig.now = max(rig.now, rig.cs.get_timer())
        calls.append(rig.now)
        rig.cs.handle_timer(rig.now)
    assert calls.count(1001.0) >= 3


@pytest.mark.parametrize("after", ["fastest_response", "maglev"])
@pytest.mark.parametrize("before", ["round_robin", "fastest_response"])
def test_a_pool_knows_whether_its_nodes_are_measured_through_a_change_of_its_method(
    before: str, after: str
) -> None:
    rig = Rig(config(**large(1, method=before)))
    rig.cs.apply_config(config(**large(1, method=after)), rig.now)
    pool = rig.cs.model.pools["p0"]
    assert (pool.measured is pool.method) == (after == "fastest_response")
