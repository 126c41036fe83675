# SPDX-License-Identifier: Apache-2.0
"""A fallback pool takes new sessions while the virtual server's own has no node that does."""

from __future__ import annotations

from typing import Any

import pytest

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig, PoolConfig
from control_segment.model import finish
from control_segment.runtime import admin
from splitplane.config import parse
from ssmb.addresses import from_text, to_text
from ssmb.constants import ErrorCode, Flag, ForwardMode
from ssmb.messages import FlowState
from support.requests import request
from support.segments.content_rig import ContentRig, content_config
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    SERVER,
    Rig,
    changed_pool,
    changed_server,
    config,
)
from support.segments.grid import Grid, Member

SORRY: dict[str, Any] = {
    "name": "sorry",
    "method": "maglev",
    "nodes": [{"name": "sorry1", "address": "10.1.1.200", "port": 8081}],
}
WEB, FALLBACK = {"10.1.1.2", "10.1.1.3", "10.1.1.4"}, "10.1.1.200"
HEAD = """\
segment_id: 1
ssmb: {address: 192.0.2.1}
laboratory_no_authentication: true
data_flow_segments: [{address: 192.0.2.2}]
"""


def with_fallback(*pools: Any, **server: Any) -> ControlSegmentConfig:
    servers = changed_server(fallback_pool="sorry", **server)
    servers[1] = {**servers[1], "fallback_pool": "sorry"}
    return config(pools=[*(pools or changed_pool()), SORRY], virtual_servers=servers)


def node_of(rig: Rig, port: int, **query: Any) -> str:
    reply = rig.dfs.query(rig, port=port, **query)
    assert reply is not None
    return to_text(reply.node_ipaddr) if reply.error_code == 0 else ErrorCode(reply.error_code).name


def set_all(rig: Rig, **changes: Any) -> None:
    rig.cs.set_nodes(
        "web",
        ["web1", "web2", "web3"],
        weight=changes.get("weight"),
        state=changes.get("state"),
        now=rig.now,
    )


def described(rig: Rig) -> Any:
    servers: Any = admin.handle(rig.cs, "virtual_servers", {}, rig.now)
    return servers[0]


@pytest.mark.parametrize("gone", ["own", "fallback", "server"])
def test_nothing_is_said_of_what_a_reload_is_replacing(gone: str) -> None:
    """Nodes change while it is in force and has not been looked at yet."""
    (web,) = changed_pool()
    other, late = {**web, "name": "other"}, {**SORRY, "name": "late"}
    pools = [web, SORRY, other, late]
    if gone == "fallback":
        web["nodes"] = [{**node, "state": "down"} for node in web["nodes"]]
    server = changed_server(fallback_pool="sorry")[0]
    rig = Rig(config(pools=pools, virtual_servers=[server]))
    rig.cs.set_nodes("late", ["sorry1"], weight=2, state=None, now=rig.now)
    assert [each.kind for each in rig.cs.happened] == ["fallback_begun"] * (gone == "fallback")
    rig.cs.happened.clear()
    left = {"own": [SORRY, other, late], "fallback": [web, other, late], "server": [other, late]}
    after = {"own": {"pool": "other"}, "fallback": {"fallback_pool": "late"}, "server": {}}
    servers = [] if gone == "server" else [{**server, **after[gone]}]
    outcome = finish(rig.cs.applying(config(pools=left[gone], virtual_servers=servers)))
    for _ in rig.cs.looking(outcome):
        rig.cs.set_nodes("late", ["sorry1"], weight=5, state=None, now=rig.now)
    rig.cs.announce(outcome, rig.now)
    assert [each.what for each in rig.cs.happened] == []


@pytest.mark.parametrize("off", [{"state": "down"}, {"state": "draining"}, {"weight": 0}])
@pytest.mark.parametrize("method", ["round_robin", "source_hash", "least_connections"])
def test_new_sessions_go_to_the_fallback_pool_and_back(off: dict[str, Any], method: str) -> None:
    rig = Rig(with_fallback(*changed_pool(method)))
    assert node_of(rig, 1) in WEB
    assert (described(rig).serving_pool, described(rig).fallback_pool) == ("web", "sorry")
    set_all(rig, **off)
    assert node_of(rig, 2) == FALLBACK
    assert (described(rig).serving_pool, described(rig).pool) == ("sorry", "web")
    set_all(rig, state="enabled", weight=1)
    assert node_of(rig, 3) in WEB
    assert node_of(rig, 2, serial=rig.dfs.serial - 1) == FALLBACK  # its session stays
    assert described(rig).serving_pool == "web"


def test_one_node_that_takes_sessions_keeps_the_fallback_pool_out() -> None:
    rig = Rig(with_fallback())
    rig.cs.set_nodes("web", ["web1", "web2"], weight=None, state="down", now=rig.now)
    assert {node_of(rig, port) for port in range(1, 6)} == {"10.1.1.4"}


def test_a_pool_that_is_full_is_not_replaced() -> None:
    limit = {"connection_limit": 1}
    pools = changed_pool(web1=limit, web2=limit, web3=limit)
    rig = Rig(with_fallback(*pools, at_limit="drop"))
    assert {node_of(rig, port) for port in range(1, 5)} == {*WEB, "CONNLIMIT"}


def test_with_both_pools_closed_the_refusal_names_both() -> None:
    rig = Rig(with_fallback())
    set_all(rig, state="down")
    rig.cs.set_nodes("sorry", ["sorry1"], weight=None, state="down", now=rig.now)
    assert node_of(rig, 1) == "NOTAVAIL"
    assert described(rig).serving_pool == "web"
    traced: Any = admin.handle(rig.cs, "trace", {}, rig.now)
    assert "no node of pool web or sorry accepts new sessions" in traced[-1].what


def test_a_remembered_client_leaves_the_fallback_pool_when_its_own_is_back() -> None:
    persistence = {"kind": "source_address", "timeout_s": 600}
    rig = Rig(with_fallback(persistence=persistence))
    set_all(rig, state="down")
    assert [node_of(rig, port) for port in (1, 2)] == [FALLBACK] * 2
    set_all(rig, state="enabled")
    assert node_of(rig, 3) in WEB


def test_udp_flows_stay_at_the_fallback_pool_and_leave_it_with_the_configuration() -> None:
    rig = Rig(with_fallback())
    set_all(rig, state="down")
    assert node_of(rig, 1, dst_port=53, protocol=17) == FALLBACK
    set_all(rig, state="enabled")
    (flow,) = rig.cs.table.by_key.values()
    assert not flow.gives_up()
    rig.cs.apply_config(config(pools=[*changed_pool(), SORRY]), rig.now)
    assert flow.gives_up()


def test_a_flow_that_is_reported_belongs_to_its_node_of_the_fallback_pool() -> None:
    rig = Rig(with_fallback())
    state = FlowState(
        flags=int(Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP),
        serial=7,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=9,
        dst_port=80,
        protocol=6,
        node_ipaddr=from_text(FALLBACK),
        node_port=8081,
        forward_mode=ForwardMode.NAT,
        idle_timeout=300,
    )
    rig.dfs.send(rig, state)
    assert rig.cs.model.pools["sorry"].nodes["sorry1"].active == 1
    assert node_of(rig, 9, serial=8, tcp_flags=ACK) == FALLBACK


def test_a_reload_gives_another_fallback_pool_or_none() -> None:
    rig = Rig(with_fallback())
    set_all(rig, state="down")
    assert node_of(rig, 1) == FALLBACK
    down = {"state": "down"}
    pools = changed_pool(web1=down, web2=down, web3=down)
    rig.cs.apply_config(config(pools=pools), rig.now)
    assert node_of(rig, 2) == "NOTAVAIL"
    rig.cs.apply_config(with_fallback(*pools), rig.now)
    assert node_of(rig, 3) == FALLBACK
    rig.cs.apply_config(with_fallback(), rig.now)
    assert node_of(rig, 4) in WEB


WRONG = {
    "is not there": (
        "{name: a, address: 203.0.113.1, port: 80, protocol: tcp, pool: web, fallback_pool: wbe}",
        "virtual_servers[0].fallback_pool: virtual server a: there is no pool 'wbe'; there are:"
        " web, six",
    ),
    "is its own": (
        "{name: a, address: 203.0.113.1, port: 80, protocol: tcp, pool: web, fallback_pool: web}",
        "virtual_servers[0].fallback_pool: virtual server a: fallback_pool is its pool web; name"
        " another one",
    ),
    "is of another family": (
        "{name: a, address: 203.0.113.1, port: 80, protocol: tcp, pool: web, fallback_pool: six}",
        "virtual_servers[0].fallback_pool: virtual server a: node six1 of pool six is IPv6"
        " (fd00:1::1) behind an IPv4 address (203.0.113.1); IPv4 and IPv6 are not translated into"
        " each other",
    ),
    "is of another family, behind any address": (
        '{name: a, address: "*", port: 80, protocol: tcp, pool: web, fallback_pool: six}',
        "virtual_servers[0].fallback_pool: virtual server a: the nodes of fallback_pool six are"
        " not of the address family of those of pool web; name a pool of the same family",
    ),
}


@pytest.mark.parametrize(("server", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_fallback_pool_that_cannot_serve_is_refused(server: str, problem: str) -> None:
    text = HEAD + (
        "pools:\n"
        "  - {name: web, nodes: [{name: web1, address: 10.1.0.1}]}\n"
        '  - {name: six, nodes: [{name: six1, address: "fd00:1::1"}]}\n'
        "virtual_servers:\n"
        f"  - {server}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "cs.yaml", ControlSegmentConfig)
    assert list(caught.value.problems) == [f"cs.yaml:9: {problem}"]


def test_a_loop_by_a_fallback_pool_is_named_at_its_field() -> None:
    text = HEAD + (
        "pools:\n"
        "  - {name: web, nodes: [{name: web1, address: 10.1.0.1}]}\n"
        "  - {name: self, nodes: [{name: one, address: 203.0.113.1, port: 80}]}\n"
        "virtual_servers:\n"
        "  - {name: a, address: 203.0.113.1, port: 80, protocol: tcp, pool: web,"
        " fallback_pool: self}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "cs.yaml", ControlSegmentConfig)
    (problem,) = caught.value.problems
    assert problem.startswith(
        "cs.yaml:9: virtual_servers[0].fallback_pool: virtual server a: node one of pool self"
    )


class SorryGrid(Grid):
    """With a fallback pool."""

    def make_member(self, config: ControlSegmentConfig) -> Member:
        servers = [
            each.model_copy(update={"fallback_pool": "sorry"}) for each in config.virtual_servers
        ]
        pools = (*config.pools, PoolConfig.model_validate(SORRY))
        return super().make_member(
            config.model_copy(update={"pools": pools, "virtual_servers": tuple(servers)})
        )


def test_grants_are_void_when_the_fallback_pool_takes_over_and_when_it_leaves() -> None:
    grid = SorryGrid(3, nodes=2)
    grid.run(1)
    grid.crowd(1400, 3.5, 0, 0.05)
    grid.run(1)
    sorry, taken = grid.cs.model.pools["sorry"].nodes["sorry1"], grid.dfss[0].taken
    assert taken > 200
    assert sorry.total == 0
    for number in (0, 1):
        grid.set_node(number, state="down")
    grid.run(1.4)
    assert sorry.total > 300
    assert grid.dfss[0].taken - taken > 200  # by grants, too
    grid.set_node(0, state="enabled")
    grid.run(0.06)  # a lease is over
    before = sorry.total - sorry.granted
    grid.run(1)
    assert (sorry.total, sorry.granted) == (before, 0)
    assert grid.dfss[0].taken - taken > 500
    assert grid.wrongs == []


OTHER: dict[str, Any] = {
    "name": "other",
    "nodes": [{"name": "other1", "address": "10.1.1.201", "port": 8082}],
}


def rule_rig(**rule: Any) -> ContentRig:
    """Requests for /img/ go to pool `images`; the virtual server has the fallback pool `sorry`."""
    rules = [{"name": "images", "match": {"path_prefix": ["/img/"]}, "pool": "images", **rule}]
    pools = [*changed_pool(), SORRY, OTHER]
    return ContentRig(content_config(pools, rules=rules, fallback_pool="sorry"))


def images_down(rig: ContentRig, state: str = "down") -> None:
    rig.cs.set_nodes("images", ["img1", "img2"], weight=None, state=state, now=rig.now)


def test_a_rule_without_a_fallback_pool_refuses_while_its_pool_takes_nothing() -> None:
    rig = rule_rig()
    assert rig.node(request("/img/a"), port=1).startswith("img")
    images_down(rig)
    assert rig.node(request("/img/a"), port=2) == "NOTAVAIL"
    assert rig.node(request("/"), port=3).startswith("web")


def test_a_rule_has_a_fallback_pool_of_its_own() -> None:
    rig = rule_rig(fallback_pool="other")
    assert rig.node(request("/img/a"), port=1).startswith("img")
    rig.cs.happened.clear()
    images_down(rig)
    (begun,) = [each for each in rig.cs.happened if each.kind == "fallback_begun"]
    assert begun.subject == {"virtual_server": "www", "rule": "images", "pool": "other"}
    assert rig.node(request("/img/a"), port=2) == "other1"
    set_all(rig, state="down")
    assert rig.node(request("/"), port=3) == "sorry1"
    assert rig.node(request("/img/a"), port=4) == "other1"
    images_down(rig, "enabled")
    assert rig.node(request("/img/a"), port=5).startswith("img")
    assert [each.kind for each in rig.cs.happened].count("fallback_over") == 1


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"pool": "web", "fallback_pool": "web"}, "fallback_pool is its pool web"),
        ({"refuse": True, "fallback_pool": "web"}, "fallback_pool is for rules with a pool"),
        ({"pool": "web", "fallback_pool": "nowhere"}, "there is no pool 'nowhere'"),
    ],
)
def test_what_a_rules_fallback_pool_cannot_be(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        content_config(rules=[{"name": "r", "match": {"path": ["/"]}, **rule}])
