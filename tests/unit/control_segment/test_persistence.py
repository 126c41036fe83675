# SPDX-License-Identifier: Apache-2.0
"""Persistence follows the pool of the moment: what it remembers is a place, not a node."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig
from ssmb.addresses import from_text, to_text
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


# --- groups: "match across services" --------------------------------------------------------------


def grouped(group: str | None = "shop", *, timeout_s: int = 60) -> ControlSegmentConfig:
    """Ports 80 and 443 of one address, over nodes that have a port for each."""
    persistence: dict[str, Any] = {"kind": "source_address", "timeout_s": timeout_s}
    if group is not None:
        persistence["group"] = group
    secure = {
        "name": "secure",
        "nodes": [{**node, "port": 8443} for node in reversed(BLUE["nodes"])],
    }
    www = CONFIG["virtual_servers"][0]
    return config(
        pools=[BLUE, secure],
        virtual_servers=[
            {**www, "persistence": persistence},
            {**www, "name": "wwws", "port": 443, "pool": "secure", "persistence": persistence},
        ],
    )


def test_virtual_servers_of_a_group_send_a_client_to_the_same_server() -> None:
    rig = Rig(grouped())
    for number in range(1, 4):
        client = from_text(f"198.51.100.{number}")
        first = rig.dfs.query(rig, client=client, port=1)
        second = rig.dfs.query(rig, client=client, port=2, dst_port=443)
        third = rig.dfs.query(rig, client=client, port=3)
        assert first is not None
        assert second is not None
        assert third is not None
        assert first.node_ipaddr == second.node_ipaddr == third.node_ipaddr
        assert (first.node_port, second.node_port, third.node_port) == (8080, 8443, 8080)


def test_virtual_servers_without_a_group_know_nothing_of_each_other() -> None:
    rig = Rig(grouped(None))
    first = rig.dfs.query(rig, port=1)
    second = rig.dfs.query(rig, port=2, dst_port=443)
    assert first is not None
    assert second is not None
    assert first.node_ipaddr != second.node_ipaddr


def test_a_group_ends_and_begins_by_reload() -> None:
    rig = Rig(grouped(None))
    for port in (80, 443):
        rig.dfs.query(rig, port=port, dst_port=port)
    www, wwws = rig.cs.model.virtual_servers.values()
    assert www.persistence is not wwws.persistence
    rig.cs.apply_config(grouped(timeout_s=90), rig.now)
    assert www.persistence is wwws.persistence
    assert www.persistence is not None
    assert www.persistence.timeout_s == 90
    assert set(rig.cs.model.persistence.by_name) == {"group shop"}
    rig.cs.apply_config(grouped(None), rig.now)
    assert www.persistence is not wwws.persistence
    assert set(rig.cs.model.persistence.by_name) == {
        "virtual server 203.0.113.10 80 tcp",
        "virtual server 203.0.113.10 443 tcp",
    }
