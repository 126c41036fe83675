# SPDX-License-Identifier: Apache-2.0
"""A flow that a person wants ended, and flows that a person looks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from admin import answers
from control_segment.nodes import Health, NodeState
from control_segment.runtime import admin, admin_tables
from ssmb.constants import CloseReason
from ssmb.messages import Delete, Reap
from support.segments.dfs_double import Rig, config

FLOW = {"client": "198.51.100.7:40000", "vip": "203.0.113.10:80", "protocol": "tcp"}


def ask(rig: Rig, command: answers.Command[Any], **arguments: object) -> Any:
    answer = admin.handle(rig.cs, command.name, arguments, rig.now)
    rig.settle()
    return [each for piece in answer for each in piece] if isinstance(answer, Iterator) else answer


def reaps(rig: Rig) -> list[Reap]:
    return [message for message in rig.dfs.ssmb if isinstance(message, Reap)]


def test_an_active_flow_is_ended_with_a_reason_and_asked_about_again_if_that_was_lost() -> None:
    rig = Rig()
    rig.dfs.query(rig)
    flow = ask(rig, answers.REAP_FLOW, **FLOW)
    assert (flow.client, flow.state) == (FLOW["client"], "active")
    rig.advance(0.5)
    assert [reap.detail for reap in reaps(rig)] == [CloseReason.ADMIN]
    rig.advance(3)
    assert [reap.detail for reap in reaps(rig)] == [CloseReason.ADMIN] * 2
    rig.dfs.tell(
        rig,
        Delete(0, 0, reaps(rig)[0].serial, *reaps(rig)[0].signature, detail=CloseReason.ADMIN),
    )
    assert ask(rig, answers.FLOWS) == []
    rig.advance(10)
    assert len(reaps(rig)) == 2


def test_a_flow_that_nobody_answers_for_is_forgotten() -> None:
    rig = Rig()
    rig.dfs.query(rig)
    ask(rig, answers.REAP_FLOW, **FLOW)
    rig.advance(60)
    assert ask(rig, answers.FLOWS) == []


def test_a_flow_that_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="there is no such flow"):
        ask(Rig(), answers.REAP_FLOW, **FLOW)
    with pytest.raises(ValueError, match="give client and vip with their ports"):
        ask(Rig(), answers.REAP_FLOW, client="198.51.100.7:1")


def test_a_flow_of_a_dfs_that_is_away_is_not_ended() -> None:
    rig = Rig()
    rig.dfs.query(rig)
    rig.dfs.disconnect(rig)
    with pytest.raises(ValueError, match="dfs-256, which carries the flow, cannot be asked now"):
        ask(rig, answers.REAP_FLOW, **FLOW)
    assert len(ask(rig, answers.FLOWS)) == 1


@pytest.mark.parametrize(
    ("wanted", "ports"),
    [
        ({}, [40002, 40001, 40000]),
        ({"limit": 2}, [40002, 40001]),
        ({"client": "198.51.100.7"}, [40002, 40001, 40000]),
        ({"client": "198.51.100.7:40001"}, [40001]),
        ({"client": "198.51.100.8"}, []),
        ({"vip": "203.0.113.10:80"}, [40001, 40000]),
        ({"vip": "203.0.113.10"}, [40002, 40001, 40000]),
        ({"protocol": "udp"}, [40002]),
        ({"virtual_server": "www"}, [40001, 40000]),
        ({"pool": "web"}, [40002, 40001, 40000]),
        ({"pool": "other"}, []),
        ({"node": "web2"}, [40001]),
        ({"node": "10.1.1.2"}, [40000]),
        ({"node": "10.1.1.2:8080"}, [40000]),
        ({"node": "10.1.1.2:8081"}, []),
        ({"client": "198.51.100.7", "node": "web2", "protocol": "tcp"}, [40001]),
    ],
)
def test_flows_are_found_by_any_part(wanted: dict[str, object], ports: list[int]) -> None:
    rig = Rig()
    rig.dfs.query(rig, port=40000)
    rig.dfs.query(rig, port=40001)
    rig.dfs.query(rig, port=40002, dst_port=53, protocol=17)
    found = ask(rig, answers.FLOWS, **wanted)
    assert [int(flow.client.rpartition(":")[2]) for flow in found] == ports


def large() -> Rig:
    """Pools of three nodes and their virtual servers."""
    pools = [
        {
            "name": f"p{n}",
            "nodes": [
                {"name": f"n{i}", "address": f"10.{n}.0.{i + 1}", "port": 80} for i in range(3)
            ],
        }
        for n in range(4)
    ]
    servers = [
        {"name": f"s{n}", "address": f"198.18.0.{n + 1}", "port": 80, "protocol": "tcp",
         "pool": f"p{n}"}
        for n in range(4)
    ]  # fmt: skip
    return Rig(config(pools=pools, virtual_servers=servers))


def test_a_page_of_nodes_has_the_total_and_goes_over_pools() -> None:
    rig = large()
    page = ask(rig, answers.NODE_PAGE, offset=2, limit=5)
    assert page.total == 12
    assert [(node.pool, node.name) for node in page.items] == [
        ("p0", "n2"), ("p1", "n0"), ("p1", "n1"), ("p1", "n2"), ("p2", "n0"),
    ]  # fmt: skip
    page = ask(rig, answers.NODE_PAGE, pool="p3")
    assert (page.total, [node.name for node in page.items]) == (3, ["n0", "n1", "n2"])
    assert ask(rig, answers.NODE_PAGE, offset=12, limit=5).items == []
    assert ask(rig, answers.NODE_PAGE, pool="none") == answers.NodePage(total=0, items=[])


def test_a_page_of_virtual_servers_has_the_total() -> None:
    rig = large()
    page = ask(rig, answers.VIRTUAL_SERVER_PAGE, offset=1, limit=2)
    assert (page.total, [server.name for server in page.items]) == (4, ["s1", "s2"])
    page = ask(rig, answers.VIRTUAL_SERVER_PAGE, pool="p2")
    assert [server.name for server in page.items] == ["s2"]
    assert ask(rig, answers.VIRTUAL_SERVER_PAGE, name="s3").items[0].name == "s3"
    page = ask(rig, answers.VIRTUAL_SERVER_PAGE, names=["s3", "none", "s1"], limit=1)
    assert (page.total, [server.name for server in page.items]) == (2, ["s1"])


def test_a_page_of_nodes_may_be_of_the_first_ones_of_some_pools() -> None:
    rig = large()
    page = ask(rig, answers.NODE_PAGE, pools=["p1", "p3"], per_pool=2, limit=3)
    assert page.total == 4
    assert [(node.pool, node.name) for node in page.items] == [
        ("p1", "n0"), ("p1", "n1"), ("p3", "n0"),
    ]  # fmt: skip
    page = ask(rig, answers.NODE_PAGE, pools=["p1", "p3"], per_pool=2, offset=3)
    assert [(node.pool, node.name) for node in page.items] == [("p3", "n1")]


def test_what_to_look_at_is_counted_over_all_pools_and_some_of_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_tables, "_COUNTED", 4)  # a slice is one pool
    rig = large()
    pools = rig.cs.model.pools
    for node in (*pools["p0"].every_node(), *pools["p2"].every_node()):
        node.state = NodeState.DRAINING
    for node in (*pools["p1"].every_node(), *pools["p3"].every_node()):
        node.health = Health.DOWN
    parts = ask(rig, answers.ATTENTION)
    assert len(parts) == 5
    whole = answers.attention(parts)
    assert (whole.pools, whole.failing, whole.unserved) == (4, 6, 2)
    assert whole.failing_nodes == ["p1/n0", "p1/n1", "p1/n2", "p3/n0", "p3/n1"]
    assert whole.unserved_pools == ["p0", "p2"]
    assert [(each.pool, each.nodes) for each in whole.busiest] == [(f"p{n}", 3) for n in range(4)]


def test_the_busiest_pools_are_named_in_their_order() -> None:
    rates = [
        answers.PoolRate(pool=f"p{n}", connections_per_second=n * 7 % 10, nodes=1) for n in range(9)
    ]
    whole = answers.attention(answers.Attention(busiest=[each]) for each in rates)
    assert [each.pool for each in whole.busiest] == ["p1", "p2", "p4", "p5", "p7", "p8"]


def test_totals_are_sums_over_all_virtual_servers_and_nodes() -> None:
    rig = Rig()
    for port in range(40000, 40005):
        rig.dfs.query(rig, port=port)
    parts = ask(rig, answers.TOTALS)
    assert sum(part.virtual_servers for part in parts) == 2
    assert sum(part.nodes for part in parts) == 3
    assert sum(part.connections for part in parts) == 5
    assert sum(part.active for part in parts) == 5
    assert sum(part.nodes_down for part in parts) == 0
