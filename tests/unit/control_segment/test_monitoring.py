# SPDX-License-Identifier: Apache-2.0
"""What monitors find, and what follows for nodes: new sessions, flows, events, slow start."""

from __future__ import annotations

from typing import Any

import pytest

from admin import answers
from admin.happened import Happened
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target
from control_segment.health_news import PER_SECOND
from control_segment.nodes import Health, Node
from control_segment.runtime import admin
from packets.parse import SYN
from ssmb.constants import UDP, Asking, CloseReason, ErrorCode
from ssmb.messages import Query, Reap, Reply
from support.segments.dfs_double import CONFIG, Rig, config

WEB1, WEB2, WEB3 = (Target("tcp", f"10.1.1.{number}", 8080) for number in (2, 3, 4))
DOWN, UP = Said("down", reason="refused"), Said("up")


def monitored(**pool: Any) -> dict[str, Any]:
    monitors = [{"name": "tcp", "kind": "tcp"}, {"name": "ping", "kind": "icmp"}]
    return {
        "monitors": monitors,
        "pools": [{**CONFIG["pools"][0], "monitors": ["tcp"], **pool}],
    }


def rig_of(**pool: Any) -> Rig:
    rig = Rig(config(**monitored(**pool)))
    rig.advance(0.1)
    return rig


def say(rig: Rig, **said: Said) -> None:
    places = {"web1": WEB1, "web2": WEB2, "web3": WEB3}
    rig.cs.monitoring.came([(places[name], said[name]) for name in said], rig.now)
    rig.settle()


def node_of(rig: Rig, name: str) -> Node:
    return rig.cs.model.pools["web"].nodes[name]


def chosen(rig: Rig, count: int = 12, protocol: int = 6) -> list[int]:
    """So many new sessions; how many each node got."""
    before = rig.active()
    for _ in range(count):
        rig.now += 1e-6
        rig.dfs.query(rig, port=20000 + rig.dfs.serial, protocol=protocol)
    return [after - before[name] for name, after in rig.active().items()]


def answered(rig: Rig) -> list[answers.Node]:
    said = admin.handle(rig.cs, "nodes", {}, rig.now)
    assert isinstance(said, list)
    return said


def take(rig: Rig) -> list[Happened]:
    happened = rig.cs.happened[:]
    rig.cs.happened.clear()
    return happened


def test_a_node_is_up_until_a_monitor_finds_it_down() -> None:
    rig = rig_of()
    assert node_of(rig, "web1").health is Health.UNKNOWN
    assert chosen(rig) == [4, 4, 4]
    say(rig, web1=DOWN)
    assert chosen(rig) == [0, 6, 6]
    say(rig, web1=UP)
    assert chosen(rig) == [4, 4, 4]


def test_a_node_without_monitors_has_no_health() -> None:
    rig = rig_of(monitors=[])
    assert node_of(rig, "web1").health is None
    assert not rig.cs.monitoring.is_wanted


@pytest.mark.parametrize("state", ["draining", "down"])
def test_a_node_needs_both_its_state_and_its_health(state: str) -> None:
    rig = rig_of()
    say(rig, web1=DOWN)
    rig.cs.set_nodes("web", ["web1"], weight=None, state=state, now=rig.now)
    say(rig, web1=UP)
    assert chosen(rig) == [0, 6, 6]
    rig.cs.set_nodes("web", ["web1"], weight=None, state="enabled", now=rig.now)
    assert chosen(rig) == [4, 4, 4]
    assert node_of(rig, "web1").state.value == "enabled"


def test_a_node_must_pass_every_monitor_of_its_pool() -> None:
    rig = rig_of(monitors=["tcp", "ping"])
    ping = Target("ping", "10.1.1.2", 0)
    say(rig, web1=UP)
    assert node_of(rig, "web1").health is Health.UNKNOWN
    rig.cs.monitoring.came([(ping, DOWN)], rig.now)
    assert node_of(rig, "web1").health_reason == "ping: refused"
    assert chosen(rig) == [0, 6, 6]
    rig.cs.monitoring.came([(ping, UP)], rig.now)
    assert node_of(rig, "web1").health is Health.UP


def test_without_a_node_that_is_up_new_flows_are_refused_as_ever() -> None:
    rig = rig_of()
    say(rig, web1=DOWN, web2=DOWN, web3=DOWN)
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == ErrorCode.NOTAVAIL
    kinds = [event.kind for event in take(rig)]
    assert kinds == ["node_down", "node_down", "node_down", "pool_down"]
    say(rig, web2=UP)
    assert [event.kind for event in take(rig)] == ["node_up", "pool_up"]


def test_events_say_which_node_and_why() -> None:
    rig = rig_of()
    say(rig, web1=DOWN)
    say(rig, web1=UP)
    subject = {"pool": "web", "node": "web1"}
    assert take(rig) == [
        Happened("warning", "node_down", "node web1 of pool web is down: tcp: refused", subject),
        Happened("info", "node_up", "node web1 of pool web is up", subject),
    ]
    say(rig, web1=UP._replace(warning="its certificate is valid for 3 days"))
    (event,) = take(rig)
    assert event.kind == "monitor_warning"
    assert "monitor tcp: its certificate is valid for 3 days" in event.what


@pytest.mark.parametrize(("resets", "ended"), [(False, 0), (True, 1)])
def test_connections_of_a_dead_node_are_reset_or_left(resets: bool, ended: int) -> None:
    rig = rig_of(reset_when_dead=resets)
    reply = rig.dfs.query(rig)
    assert reply is not None
    say(rig, web1=DOWN)
    rig.advance(0.05)
    reaps = [message for message in rig.dfs.ssmb if isinstance(message, Reap)]
    assert len(reaps) == ended
    assert all(reap.detail == CloseReason.NODE_FAIL for reap in reaps)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("asking", [Asking.UNANSWERED, Asking.HALF_OPEN, Asking.SILENT])
def test_an_unfinished_handshake_with_a_dead_node_goes_elsewhere(
    asking: Asking, resets: bool
) -> None:
    """Whatever becomes of its connections, which a SYN may be a stranger's on."""
    rig = rig_of(reset_when_dead=resets)
    reply = rig.dfs.query(rig)
    assert reply is not None
    say(rig, web1=DOWN)
    query = Query(0, 0, reply.serial, *reply.signature, SYN, asking)
    (answer,) = [each for each in rig.dfs.tell(rig, query) if isinstance(each, Reply)]
    is_moved = answer.node_ipaddr != reply.node_ipaddr
    assert is_moved == (resets or asking != Asking.SILENT)


def test_udp_flows_of_a_dead_node_go_elsewhere() -> None:
    rig = rig_of()
    assert rig.dfs.query(rig, protocol=UDP, dst_port=53) is not None
    say(rig, web1=DOWN)
    rig.advance(0.05)
    (reap,) = [message for message in rig.dfs.ssmb if isinstance(message, Reap)]
    assert reap.detail == CloseReason.NODE_FAIL


def test_a_reload_keeps_what_is_known_of_unchanged_nodes() -> None:
    rig = rig_of()
    say(rig, web1=DOWN, web2=UP)
    changed = [{**node, "weight": 3} for node in CONFIG["pools"][0]["nodes"]]
    rig.cs.apply_config(config(**monitored(nodes=changed)), rig.now)
    rig.advance(0.1)
    assert [node_of(rig, name).health for name in ("web1", "web2", "web3")] == [
        Health.DOWN,
        Health.UP,
        Health.UNKNOWN,
    ]
    assert chosen(rig) == [0, 6, 6]


def test_a_node_at_another_address_is_another_one() -> None:
    rig = rig_of()
    say(rig, web1=DOWN)
    moved = [{**CONFIG["pools"][0]["nodes"][0], "address": "10.1.1.9"}]
    rig.cs.apply_config(config(**monitored(nodes=moved)), rig.now)
    rig.advance(0.1)
    assert node_of(rig, "web1").health is Health.UNKNOWN


def test_a_pool_without_its_monitors_has_all_its_nodes_back() -> None:
    rig = rig_of()
    say(rig, web1=DOWN)
    rig.cs.apply_config(config(**monitored(monitors=[])), rig.now)
    rig.advance(0.1)
    assert node_of(rig, "web1").health is None
    assert chosen(rig) == [4, 4, 4]


def orders(rig: Rig) -> tuple[list[Target], dict[Target, Said]]:
    forget: list[Target] = []
    watch: dict[Target, Said] = {}
    while rig.cs.monitoring.has_order:
        order = rig.cs.monitoring.take_order()
        forget += order.forget
        watch |= {target: said for target, _, said in order.watch}
    return forget, watch


def test_a_target_is_watched_once_however_many_pools_use_it() -> None:
    pool = monitored()["pools"][0]
    rig = Rig(config(monitors=monitored()["monitors"], pools=[pool, {**pool, "name": "other"}]))
    rig.advance(0.1)
    assert orders(rig) == ([], dict.fromkeys((WEB1, WEB2, WEB3), Said()))
    say(rig, web1=DOWN)
    assert node_of(rig, "web1").is_dead
    assert rig.cs.model.pools["other"].nodes["web1"].is_dead


def test_what_a_reload_takes_away_is_forgotten_and_what_it_changes_is_watched_anew() -> None:
    rig = rig_of()
    orders(rig)
    say(rig, web2=DOWN)
    left = CONFIG["pools"][0]["nodes"][1:]
    rig.cs.apply_config(config(**monitored(nodes=left)), rig.now)
    rig.advance(0.1)
    assert orders(rig) == ([WEB1], {})
    changes = monitored(nodes=left)
    changes["monitors"][0] = {**changes["monitors"][0], "fall": 9}
    rig.cs.apply_config(config(**changes), rig.now)
    rig.advance(0.1)
    assert orders(rig) == ([], {WEB2: DOWN, WEB3: Said()})


def test_whoever_probes_anew_is_given_what_is_known() -> None:
    rig = rig_of()
    orders(rig)
    say(rig, web1=DOWN)
    rig.cs.monitoring.order_all()
    assert orders(rig) == ([], {WEB1: DOWN, WEB2: Said(), WEB3: Said()})


def test_an_agent_drains_its_node_and_puts_it_out_of_service() -> None:
    rig = rig_of()
    say(rig, web1=UP._replace(order=Order.DRAIN))
    node = node_of(rig, "web1")
    assert (node.health, node.is_dead) == (Health.UP, False)
    assert node.health_reason == "tcp: its agent says drain"
    assert chosen(rig) == [0, 6, 6]
    say(rig, web1=UP._replace(order=Order.MAINTENANCE))
    assert node.is_dead
    say(rig, web1=UP)
    assert chosen(rig) == [4, 4, 4]


@pytest.mark.parametrize(
    "method", ["weighted_round_robin", "weighted_least_connections", "least_connections"]
)
def test_an_agent_gives_its_node_a_part_of_its_weight(method: str) -> None:
    rig = rig_of(method=method)
    say(rig, web1=Said("up", percent=50))
    assert chosen(rig, 15) == [3, 6, 6]
    say(rig, web1=Said("up", percent=0))
    assert chosen(rig)[0] == 0
    assert answered(rig)[0].effective_weight == 0


def test_an_agent_gives_its_node_a_part_of_a_table() -> None:
    rig = rig_of(method="maglev")
    tabled = rig.cs.model.pools["web"].tabled
    assert tabled is not None
    say(rig, web1=Said("up", percent=50))
    shares = [tabled.table.count(index) / len(tabled.table) for index in range(3)]
    assert shares == pytest.approx([0.2, 0.4, 0.4], abs=0.001)


METHODS = ["round_robin", "weighted_round_robin", "least_recently_active"]


@pytest.mark.parametrize("method", METHODS)
def test_a_node_that_came_back_gets_its_share_little_by_little(method: str) -> None:
    rig = rig_of(method=method, slow_start_s=10)
    say(rig, web1=UP, web2=UP, web3=UP)
    assert chosen(rig, 30) == [10, 10, 10]  # it was never away
    say(rig, web1=DOWN)
    say(rig, web1=UP)
    first = chosen(rig, 60)[0]
    assert 1 <= first <= 4
    rig.advance(5)
    half = chosen(rig, 60)[0]
    assert first < half < 20
    rig.advance(6)
    assert abs(chosen(rig, 60)[0] - 20) <= 1


def test_nodes_that_all_come_back_at_once_get_everything() -> None:
    rig = rig_of(slow_start_s=10)
    say(rig, web1=DOWN, web2=DOWN, web3=DOWN)
    say(rig, web1=UP, web2=UP, web3=UP)
    assert sum(chosen(rig, 60)) == 60


def test_answers_have_the_health_beside_the_state() -> None:
    rig = rig_of()
    say(rig, web1=DOWN)
    rig.advance(2)
    first, second, _ = answered(rig)
    assert (first.state, first.health, first.health_reason) == ("enabled", "down", "tcp: refused")
    assert first.health_since_ms == 2000
    assert (first.effective_weight, second.effective_weight) == (0, 1)
    assert second.health == "unknown"


def test_a_pool_of_which_monitors_find_all_down_is_replaced_by_the_fallback_pool() -> None:
    document = monitored()
    sorry = {"name": "sorry", "nodes": [{"name": "s", "address": "10.1.1.99", "port": 80}]}
    document["pools"] = [*document["pools"], sorry]
    servers = [{**CONFIG["virtual_servers"][0], "fallback_pool": "sorry"}]
    rig = Rig(config(**document, virtual_servers=servers))
    rig.advance(0.1)
    say(rig, web1=DOWN, web2=DOWN)
    assert rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].pool.name == "web"
    say(rig, web3=DOWN)
    reply = rig.dfs.query(rig, port=1)
    assert reply is not None
    assert rig.cs.model.pools["sorry"].nodes["s"].active == 1
    say(rig, web1=UP)
    assert [each.kind for each in rig.cs.happened if "fallback" in each.kind] == [
        "fallback_begun",
        "fallback_over",
    ]
    assert chosen(rig)[0] == 12


def test_lower_priorities_join_when_monitors_find_the_higher_ones_down() -> None:
    nodes = [
        {**node, "priority": priority}
        for node, priority in zip(CONFIG["pools"][0]["nodes"], (2, 1, 1), strict=True)
    ]
    rig = rig_of(nodes=nodes)
    assert chosen(rig) == [12, 0, 0]
    say(rig, web1=DOWN)
    assert chosen(rig) == [0, 6, 6]
    say(rig, web1=UP)
    assert chosen(rig) == [12, 0, 0]


def test_very_many_changes_at_once_are_told_as_a_sum() -> None:
    nodes = [
        {"name": f"n{number}", "address": f"10.1.2.{number}", "port": 8080}
        for number in range(1, 121)
    ]
    rig = rig_of(nodes=nodes)
    targets = [Target("tcp", f"10.1.2.{number}", 8080) for number in range(1, 121)]
    rig.cs.monitoring.came([(target, DOWN) for target in targets], rig.now)
    rig.advance(2)
    kinds = [event.kind for event in take(rig)]
    assert kinds.count("node_down") == PER_SECOND
    assert kinds[-1] == "nodes_changed"
    assert "pool_down" in kinds
    rig.cs.monitoring.came([(targets[0], UP)], rig.now)
    assert [event.kind for event in take(rig)] == ["node_up", "pool_up"]


def test_the_sum_says_how_many() -> None:
    rig = rig_of()
    for _ in range(PER_SECOND):
        say(rig, web1=DOWN)
        say(rig, web1=UP)
    rig.advance(2)
    assert take(rig)[-1].what == (
        f"{PER_SECOND // 2} more nodes were found down, and {PER_SECOND // 2} up:"
        " splitplane show nodes has them"
    )
