# SPDX-License-Identifier: Apache-2.0
"""Two CSs and the health of nodes: the active one tells, and a take-over changes none (11.9)."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.health.machine import Said
from control_segment.health.targets import Target
from control_segment.nodes import Health
from support.segments.cs_group import CsGroup, Member, fellows

NODES = 150  # more than a datagram has room for


def place(number: int) -> Target:
    return Target("tcp", f"10.1.{1 + number // 200}.{1 + number % 200}", 8080)


def monitored() -> dict[str, Any]:
    nodes = [
        {"name": f"n{number}", "address": place(number).address, "port": 8080}
        for number in range(NODES)
    ]
    return {
        "monitors": [{"name": "tcp", "kind": "tcp"}],
        "pools": [{"name": "web", "monitors": ["tcp"], "nodes": nodes}],
    }


def settled() -> tuple[CsGroup, Member, Member]:
    group = CsGroup()
    active = group.start(1, 80, control_segments=fellows(2), active=True, **monitored())
    standby = group.start(2, 80, control_segments=fellows(1), active=False, **monitored())
    assert group.run(20, lambda: active.role == "ACTIVE" and standby.role == "STANDBY") < 20
    group.run(2)
    return group, active, standby


def find(member: Member, health: str, *numbers: int) -> None:
    """Its process that probes has found this."""
    said = Said(health, reason="refused" if health == "down" else "")
    member.cs.monitoring.came([(place(number), said) for number in numbers], member.group.now)


def down(member: Member) -> set[int]:
    nodes = member.cs.model.pools["web"].nodes
    return {number for number in range(NODES) if nodes[f"n{number}"].health is Health.DOWN}


def test_a_standby_hears_what_the_active_one_finds() -> None:
    group, active, standby = settled()
    find(active, "down", 3, 140)
    assert group.run(1, lambda: down(standby) == {3, 140}) < 0.2
    node = standby.cs.model.pools["web"].nodes["n3"]
    assert node.health_reason == "tcp: control segment 1 has found it down"
    assert not node.takes_new_sessions
    find(active, "up", 3)
    assert group.run(1, lambda: down(standby) == {140}) < 0.2


def test_only_the_active_one_probes_and_has_events() -> None:
    group, active, standby = settled()
    assert active.cs.monitoring.probes
    assert not standby.cs.monitoring.probes
    assert not standby.cs.monitoring.has_order
    find(active, "down", 1)
    group.run(1)
    assert [event.kind for event in active.cs.happened if event.kind == "node_down"]
    assert not [event for event in standby.cs.happened if event.kind == "node_down"]


def test_a_cs_that_comes_later_hears_everything() -> None:
    group = CsGroup()
    active = group.start(1, 80, control_segments=fellows(2), active=True, **monitored())
    group.run(5)
    find(active, "down", *range(0, NODES, 3))
    standby = group.start(2, 80, control_segments=fellows(1), active=False, **monitored())
    assert group.run(10, lambda: down(standby) == set(range(0, NODES, 3))) < 10


@pytest.mark.parametrize("orderly", [True, False])
def test_a_take_over_begins_with_what_is_known(orderly: bool) -> None:
    group, active, standby = settled()
    find(active, "up", *range(NODES))
    find(active, "down", 5, 6)
    group.run(1)
    if orderly:
        active.crash()
    else:
        active.lose_power()
    assert group.run(20, lambda: standby.role == "ACTIVE") < 20
    group.run(1)
    assert down(standby) == {5, 6}
    order = standby.cs.monitoring.take_order()
    known = {target: said.health for target, _, said in order.watch}
    assert len(known) == NODES
    assert {target for target, health in known.items() if health == "down"} == {place(5), place(6)}
    assert not [event for event in standby.cs.happened if event.kind.startswith("node_")]


def test_what_is_told_by_one_that_is_no_longer_active_is_not_taken() -> None:
    group, active, standby = settled()
    active.cut()
    standby.cs.group.name_successor(None, group.now, force=True)
    assert group.run(20, lambda: standby.role == "ACTIVE") < 20
    find(standby, "down", 1)
    find(active, "down", 9)
    group.run(2)
    assert down(standby) == {1}
    assert group.run(20, lambda: down(active) >= {1} and active.role == "STANDBY") < 20


def test_a_standby_with_other_nodes_passes_over_what_it_does_not_have() -> None:
    group = CsGroup()
    active = group.start(1, 80, control_segments=fellows(2), active=True, **monitored())
    fewer = monitored()
    fewer["pools"][0]["nodes"] = fewer["pools"][0]["nodes"][:10]
    standby = group.start(2, 80, control_segments=fellows(1), active=False, **fewer)
    group.run(5)
    find(active, "down", 3, 99)
    group.run(1)
    nodes = standby.cs.model.pools["web"].nodes
    assert nodes["n3"].health is Health.DOWN
    assert len(nodes) == 10
