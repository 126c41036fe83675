# SPDX-License-Identifier: Apache-2.0
"""Another configuration while running: living sessions never move, DFSs are told the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig, SettingsConfig
from control_segment.runtime import admin
from csmb.constants import Flag as VsFlag
from csmb.messages import AddVs, Config, DelVs, GetVsList, VsList
from ssmb.addresses import from_text
from ssmb.constants import ErrorCode
from support.segments.dfs_double import (
    ACK,
    CONFIG,
    SERVER,
    DfsDouble,
    Rig,
    changed_pool,
    changed_server,
    config,
)


def told(rig: Rig) -> list[Any]:
    messages, rig.dfs.csmb = rig.dfs.csmb, []
    return messages


def reload(rig: Rig, **changes: Any) -> list[Any]:
    told(rig)
    rig.cs.apply_config(config(**changes), rig.now)
    rig.settle()
    return told(rig)


def test_at_ready_the_dfs_gets_the_configuration_and_the_whole_list() -> None:
    rig = Rig(config(settings={"stats_interval_s": 7}))
    settings, servers = told(rig)
    assert isinstance(settings, Config)
    assert settings.stats_interval == 7
    assert isinstance(servers, VsList)
    assert servers.vs_total == 2
    assert {(entry.virt_port, entry.protocol) for entry in servers.entries} == {(80, 6), (53, 17)}


def test_the_list_comes_again_when_asked_for() -> None:
    rig = Rig()
    told(rig)
    rig.dfs.connection.send(GetVsList(), rig.now)
    rig.settle()
    rig.advance(0)
    (servers,) = told(rig)
    assert servers.vs_total == 2


def test_who_asks_for_the_list_without_end_gets_one_per_turn() -> None:
    """Each request of 12 octets would cost a list, while QUERYs wait."""
    rig = Rig()
    told(rig)
    for _ in range(1000):
        rig.dfs.connection.send(GetVsList(), rig.now)
    rig.settle()
    rig.advance(0)
    assert [each.vs_total for each in told(rig)] == [2]
    rig.dfs.connection.send(GetVsList(), rig.now)  # a request after that is a new one
    rig.settle()
    rig.advance(0)
    assert [each.vs_total for each in told(rig)] == [2]


def test_a_list_that_was_asked_for_ends_as_what_is_in_force() -> None:
    """What changes while it waits comes behind it."""
    rig = Rig()
    told(rig)
    rig.dfs.connection.send(GetVsList(), rig.now)
    rig.settle()
    rig.cs.apply_config(config(virtual_servers=changed_server(port=81)), rig.now)
    rig.settle()
    rig.advance(0)
    assert [each.__class__ for each in told(rig)] == [VsList, DelVs, AddVs]


def test_a_long_list_comes_in_parts() -> None:
    servers = [
        {
            "name": f"s{port}",
            "address": "203.0.113.10",
            "port": port,
            "protocol": "tcp",
            "pool": "web",
        }
        for port in range(1, 101)
    ]
    rig = Rig(config(virtual_servers=servers))
    parts = [message for message in told(rig) if isinstance(message, VsList)]
    assert len(parts) > 1
    assert [bool(part.flags & VsFlag.MORE) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert sum(len(part.entries) for part in parts) == 100


def test_a_dfs_without_ipv6_is_not_told_of_ipv6() -> None:
    pools = [*CONFIG["pools"], {"name": "six"}]
    six = {"name": "s", "address": "2001:db8::1", "port": 80, "protocol": "tcp", "pool": "six"}
    servers = [*CONFIG["virtual_servers"], six]
    rig = Rig(config(pools=pools, virtual_servers=servers), DfsDouble(csmb_versions=((1, 0),)))
    (listed,) = (message for message in told(rig) if isinstance(message, VsList))
    assert listed.vs_total == len(listed.entries) == 2


def test_a_reload_tells_only_what_changed() -> None:
    rig = Rig()
    assert reload(rig) == []
    (added,) = reload(rig, virtual_servers=changed_server(idle_timeout_s=9))
    assert isinstance(added, AddVs)
    assert (added.virt_port, added.idle_timeout) == (80, 9)
    removed, new = reload(rig, virtual_servers=changed_server(port=81))
    assert isinstance(removed, DelVs)
    assert removed.virt_port == 80
    assert isinstance(new, AddVs)
    assert new.virt_port == 81
    (settings,) = reload(
        rig, virtual_servers=changed_server(port=81), settings={"tcp_idle_timeout_s": 8}
    )
    assert isinstance(settings, Config)


def test_no_reload_moves_a_living_session() -> None:
    rig = Rig()
    replies = {port: rig.dfs.query(rig, port=port) for port in range(1, 10)}
    reloads: tuple[dict[str, Any], ...] = (
        {"pools": changed_pool(web1={"weight": 100}, web2={"weight": 0})},
        {"pools": changed_pool(web1={"state": "draining"})},
        {"pools": changed_pool(web1=None, web2=None)},
        {"pools": changed_pool("maglev", web3={"address": "10.1.1.99"})},
        {"virtual_servers": changed_server(forward_mode="l2")},
        {"virtual_servers": [CONFIG["virtual_servers"][1]]},
        {"virtual_servers": [], "pools": []},
    )
    for changes in reloads:
        reload(rig, **changes)
        for port, reply in replies.items():
            assert reply is not None
            again = rig.dfs.query(rig, port=port, tcp_flags=ACK)
            assert again is not None
            assert again._replace(serial=reply.serial) == reply


def test_a_removed_node_drains_and_is_forgotten_with_its_last_session() -> None:
    rig = Rig()
    for port in range(1, 4):
        rig.dfs.query(rig, port=port)
    reload(rig, pools=changed_pool(web1=None))
    pool = rig.cs.model.pools["web"]
    assert [node.name for node in pool.leaving.values()] == ["web1"]
    for port in range(10, 20):
        rig.dfs.query(rig, port=port)
    assert next(iter(pool.leaving.values())).active == 1
    for flow in list(rig.cs.table.by_key.values()):
        if flow.node.removed:
            rig.cs.table.end(flow)
    rig.advance(1.1)
    assert pool.leaving == {}


def test_a_node_that_stays_keeps_its_sessions_and_counters() -> None:
    rig = Rig()
    for port in range(1, 4):
        rig.dfs.query(rig, port=port)
    reload(rig, pools=changed_pool(web1={"weight": 5, "connection_limit": 1}))
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert (node.active, node.total, node.weight, node.has_room) == (1, 1, 5, False)


def test_a_node_with_another_address_is_another_node() -> None:
    rig = Rig()
    rig.dfs.query(rig, port=1)
    reload(rig, pools=changed_pool(web1={"address": "10.1.1.99"}))
    assert rig.active()["web1"] == 0
    replies = [rig.dfs.query(rig, port=port) for port in range(2, 8)]
    nodes = {reply.node_ipaddr for reply in replies if reply is not None}
    assert from_text("10.1.1.99") in nodes
    assert from_text("10.1.1.2") not in nodes


RELOADED = {"settings", "monitors", "pools", "virtual_servers"}


@pytest.mark.parametrize("field", sorted(ControlSegmentConfig.model_fields.keys() - RELOADED))
def test_what_needs_a_restart_is_refused_by_name_and_nothing_changes(field: str) -> None:
    rig = Rig()
    told(rig)
    changed = config(virtual_servers=[], pools=[]).model_copy(update={field: "another"})
    with pytest.raises(ValueError, match=f"{field} cannot be changed"):
        rig.cs.apply_config(changed, rig.now)
    rig.settle()
    assert told(rig) == []
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == 0


# Setting -> where a living CS or its DFS shows that the new value is in force
IN_FORCE: dict[str, Callable[[Rig, list[Any]], object]] = {
    "hello_interval_s": lambda rig, _: rig.dfs.cs_hello.hello_interval,
    "tcp_idle_timeout_s": lambda _, said: said[0].tcp_idle_timeout,
    "udp_idle_timeout_s": lambda _, said: said[0].udp_idle_timeout,
    "query_timeout_ms": lambda _, said: said[0].query_timeout,
    "stats_interval_s": lambda _, said: said[0].stats_interval,
    "flow_buffer_max": lambda _, said: said[0].flow_buffer_max,
    "session_timeout_s": lambda rig, _: rig.cs.table.session_timeout_s,
    "flow_capacity": lambda rig, _: rig.cs.table.capacity,
    "drain_timeout_s": lambda rig, _: rig.cs.config.settings.drain_timeout_s,
    "grants": lambda rig, _: rig.cs.grants.choices.enabled,
}


@pytest.mark.parametrize("setting", SettingsConfig.model_fields)
def test_every_setting_is_in_force_on_living_connections_after_a_reload(setting: str) -> None:
    rig = Rig()
    is_switch = SettingsConfig.model_fields[setting].annotation is bool
    value = False if is_switch else 2500
    said = reload(rig, settings={setting: value})
    assert IN_FORCE[setting](rig, said) == value


def test_flows_of_no_virtual_server_idle_by_the_reloaded_setting() -> None:
    rig = Rig()
    reload(rig, settings={"tcp_idle_timeout_s": 2500})
    assert rig.cs.model.strangers.idle_s == 2500


def test_weights_change_a_thousand_times_under_living_sessions() -> None:
    rig = Rig(config(pools=changed_pool("weighted_round_robin")))
    replies = {port: rig.dfs.query(rig, port=port) for port in range(1, 50)}
    for turn in range(1000):
        name = f"web{turn % 3 + 1}"
        admin.handle(rig.cs, "set_node", {"pool": "web", "node": name, "weight": turn % 7}, rig.now)
        port = turn % 49 + 1
        again, before = rig.dfs.query(rig, port=port, tcp_flags=ACK), replies[port]
        assert again is not None
        assert before is not None
        assert again.node_ipaddr == before.node_ipaddr


def test_a_reload_while_disconnected_is_told_at_the_next_ready() -> None:
    rig = Rig()
    rig.dfs.disconnect(rig)
    told(rig)
    rig.cs.apply_config(config(virtual_servers=[]), rig.now)
    rig.dfs.connect(rig)
    listed = [message for message in told(rig) if isinstance(message, VsList)]
    assert [message.vs_total for message in listed] == [0]


def test_a_virtual_server_that_is_removed_takes_no_new_sessions() -> None:
    rig = Rig()
    reload(rig, virtual_servers=[CONFIG["virtual_servers"][1]])
    reply = rig.dfs.query(rig, server=SERVER)
    assert reply is not None
    assert reply.error_code != 0


# --- what leaves and comes back -------------------------------------------------------------------


def test_a_virtual_server_that_comes_back_counts_its_living_sessions() -> None:
    limited = changed_server(connection_limit=2)
    rig = Rig(config(virtual_servers=limited))
    for port in (1, 2):
        rig.dfs.query(rig, port=port)
    rig.cs.apply_config(config(virtual_servers=limited[1:]), rig.now)
    rig.settle()
    rig.advance(10)
    rig.cs.apply_config(config(virtual_servers=limited), rig.now)
    rig.settle()
    (server,) = [each for each in rig.cs.model.virtual_servers.values() if each.name == "www"]
    assert (server.active, server.removed) == (2, False)
    refused = rig.dfs.query(rig, port=3)
    assert refused is not None
    assert refused.error_code == ErrorCode.BUSY
    announced = [each.virt_port for each in rig.dfs.csmb if isinstance(each, AddVs)]
    assert announced.count(80) == 1  # and the DFS has it again


def test_a_virtual_server_that_left_is_forgotten_with_its_last_session() -> None:
    rig = Rig()
    rig.dfs.query(rig, port=1)
    rig.cs.apply_config(config(virtual_servers=CONFIG["virtual_servers"][1:]), rig.now)
    assert len(rig.cs.model.removed_servers) == 1
    rig.cs.table.end(next(iter(rig.cs.table.by_key.values())))
    rig.advance(2)
    assert not rig.cs.model.removed_servers


@pytest.mark.parametrize("away", ["node", "pool"])
def test_a_node_that_comes_back_counts_its_living_sessions(away: str) -> None:
    limited = changed_pool(web1={"connection_limit": 1}, web2=None, web3=None)
    rig = Rig(config(pools=limited))
    rig.dfs.query(rig, port=1)
    other = {"name": "other", "nodes": CONFIG["pools"][0]["nodes"][1:]}
    servers = [{**server, "pool": "other"} for server in CONFIG["virtual_servers"]]
    pools = [other] if away == "pool" else [{**limited[0], "nodes": other["nodes"]}, other]
    rig.cs.apply_config(config(pools=pools, virtual_servers=servers), rig.now)
    rig.advance(10)
    rig.cs.apply_config(config(pools=limited), rig.now)
    rig.advance(10)
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert (node.active, node.removed) == (1, False)
    assert not rig.cs.model.removed_pools
    assert not rig.cs.model.pools["web"].leaving
    refused = rig.dfs.query(rig, port=2)
    assert refused is not None
    assert refused.error_code == ErrorCode.BUSY


def test_a_node_with_another_name_is_the_same_server_and_counts_on() -> None:
    rig = Rig(config(pools=changed_pool("maglev", web2=None, web3=None)))
    rig.dfs.query(rig, port=1)
    renamed = changed_pool("maglev", web1={"name": "renamed"}, web2=None, web3=None)
    rig.cs.apply_config(config(pools=renamed), rig.now)
    assert rig.active() == {"renamed": 1}
