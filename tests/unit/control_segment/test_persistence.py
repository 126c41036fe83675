# SPDX-License-Identifier: Apache-2.0
"""Persistence follows the pool of the moment: what it remembers is a place, not a node."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig
from ssmb.addresses import to_text
from support.segments.dfs_double import ACK, CONFIG, Rig, changed_pool, changed_server, config

PERSISTENCE = {"kind": "source_address", "timeout_s": 60}
BLUE = CONFIG["pools"][0]
GREEN = {
    "name": "green",
    "nodes": [
        {"name": "green1", "address": "10.1.2.2", "port": 8080},
        {"name": "green2", "address": "10.1.2.3", "port": 8080},
    ],
}


def persistent(pool: str = "web", pools: list[Any] | None = None) -> ControlSegmentConfig:
    servers = changed_server(persistence=PERSISTENCE, pool=pool)
    return config(pools=pools or [BLUE, GREEN], virtual_servers=servers)


def node_of_new_session(rig: Rig, port: int) -> str:
    reply = rig.dfs.query(rig, port=port)
    assert reply is not None
    assert reply.error_code == 0
    return to_text(reply.node_ipaddr)


def test_a_client_of_another_pool_gets_a_node_of_the_virtual_servers_own() -> None:
    rig = Rig(persistent("web"))
    before = node_of_new_session(rig, 1)
    assert before == "10.1.1.2"
    rig.cs.apply_config(persistent("green"), rig.now)
    after = [node_of_new_session(rig, port) for port in (2, 3, 4)]
    assert set(after) == {"10.1.2.2"}  # remembered again, in the new pool
    rig.cs.apply_config(persistent("web"), rig.now)
    assert node_of_new_session(rig, 5) == "10.1.1.3"  # the green entry is void in its turn


def test_a_client_stays_at_a_node_that_the_new_pool_has_too() -> None:
    shared = {"name": "green", "nodes": [*GREEN["nodes"], BLUE["nodes"][0]]}
    rig = Rig(persistent("web", [BLUE, shared]))
    assert node_of_new_session(rig, 1) == "10.1.1.2"
    rig.cs.apply_config(persistent("green", [BLUE, shared]), rig.now)
    assert node_of_new_session(rig, 2) == "10.1.1.2"
    pool = rig.cs.model.pools["green"]
    assert pool.nodes["web1"].active == 1  # counted where the virtual server is now


def test_a_removed_node_is_void_and_one_that_comes_back_has_its_clients_again() -> None:
    rig = Rig(persistent())
    assert node_of_new_session(rig, 1) == "10.1.1.2"
    rig.cs.apply_config(persistent(pools=[*changed_pool(web1=None), GREEN]), rig.now)
    rig.cs.apply_config(persistent(), rig.now)
    assert [node_of_new_session(rig, port) for port in (2, 3)] == ["10.1.1.2"] * 2


def test_a_node_that_got_another_address_is_another_one() -> None:
    rig = Rig(persistent())
    assert node_of_new_session(rig, 1) == "10.1.1.2"
    moved = changed_pool(web1={"address": "10.1.1.9"})
    rig.cs.apply_config(persistent(pools=[*moved, GREEN]), rig.now)
    assert node_of_new_session(rig, 2) != "10.1.1.2"


@pytest.mark.parametrize("gone", ["another pool", "removed", "draining", "down"])
def test_a_udp_clients_next_flow_goes_where_new_clients_go(gone: str) -> None:
    rig = Rig(config(pools=[BLUE, GREEN]))
    first = rig.dfs.query(rig, serial=5, dst_port=53, protocol=17)
    assert first is not None
    assert to_text(first.node_ipaddr) == "10.1.1.2"
    dns = {**CONFIG["virtual_servers"][1], "pool": "green" if gone == "another pool" else "web"}
    web1 = {"another pool": {}, "removed": None}.get(gone, {"state": gone})
    changed = config(
        pools=[*changed_pool(web1=web1), GREEN],
        virtual_servers=[CONFIG["virtual_servers"][0], dns],
    )
    rig.cs.apply_config(changed, rig.now)
    again = rig.dfs.query(rig, serial=5, dst_port=53, protocol=17)
    assert again == first  # a repeated QUERY gets the same REPLY
    second = rig.dfs.query(rig, serial=6, dst_port=53, protocol=17)
    assert second is not None
    assert second.error_code == 0
    assert second.node_ipaddr != first.node_ipaddr
    assert len(rig.cs.table) == 1


def test_a_tcp_connection_cannot_move_and_keeps_the_node_of_another_pool() -> None:
    rig = Rig(persistent("web"))
    first = rig.dfs.query(rig, port=1, serial=5)
    rig.cs.apply_config(persistent("green"), rig.now)
    again = rig.dfs.query(rig, port=1, serial=6, tcp_flags=ACK)
    assert first is not None
    assert again == first._replace(serial=6)
