# SPDX-License-Identifier: Apache-2.0
"""A standby has what the active CS has decided (11.3), and goes on with it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from control_segment.flows import SESSION
from control_segment.group.views import Role
from control_segment.segment import ControlSegment
from ssmb.codec import encode
from ssmb.constants import Flag
from ssmb.messages import FlowSignature, Reply
from support.octets.frames import RST, SYN
from support.segments.agent_rig import DFS_ID, VIP
from support.segments.cs_group import CsGroup, Member, client, fellows, flows_of

POOL: Final = {
    "name": "web",
    "nodes": [
        {"name": f"n{number}", "address": f"10.1.1.{number + 2}", "port": 8080}
        for number in range(4)
    ],
}
SERVER: Final = {
    "name": "www",
    "address": "203.0.113.10",
    "port": 80,
    "protocol": "tcp",
    "pool": "web",
    "persistence": {"kind": "source_address", "timeout_s": 600},
}


def start(group: CsGroup, segment_id: int, *others: int, **changes: Any) -> Member:
    return group.start(
        segment_id,
        80,
        active=segment_id == 1,
        control_segments=fellows(*others),
        pools=[POOL],
        virtual_servers=[SERVER],
        **changes,
    )


@pytest.fixture
def group() -> CsGroup:
    return CsGroup()


def pair(group: CsGroup) -> tuple[Member, Member]:
    first, second = start(group, 1, 2), start(group, 2, 1)
    group.run(2)
    return first, second


def loads(cs: ControlSegment) -> dict[str, tuple[int, int]]:
    nodes = cs.model.pools["web"].nodes.values()
    return {node.name: (node.active, node.total) for node in nodes}


def recalled(member: Member, group: CsGroup, count: int) -> list[str | None]:
    (server,) = member.cs.model.virtual_servers.values()
    nodes = [server.remembered_node(client(number)[0], group.now) for number in range(count)]
    return [None if node is None else node.name for node in nodes]


def test_a_standby_has_every_flow_that_was_asked_about(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(30):
        group.send_from(client(number), SYN)
    assert len(flows_of(first.cs)) == 30
    assert flows_of(second.cs) == flows_of(first.cs)
    assert loads(second.cs) == loads(first.cs)
    for cs in (first.cs, second.cs):
        assert cs.peers[DFS_ID].tally.flows == 30
    assert first.cs.peers[DFS_ID].tally.digest == second.cs.peers[DFS_ID].tally.digest


def test_a_flow_that_ends_is_over_at_both(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(6):
        group.send_from(client(number), SYN)
    for number in range(3):
        group.send_from(client(number), RST, seq=101)
    group.run(20)
    assert len(flows_of(first.cs)) == 3
    assert flows_of(second.cs) == flows_of(first.cs)


def test_what_persistence_remembers_is_at_both(group: CsGroup) -> None:
    first, second = pair(group)
    for number in range(10):
        group.send_from(client(number), SYN)
    names = recalled(first, group, 10)
    assert None not in names
    assert recalled(second, group, 10) == names


def test_a_standby_that_starts_late_asks_for_what_is_there(group: CsGroup) -> None:
    first = start(group, 1, 2)
    group.run(1)
    for number in range(10):
        group.send_from(client(number), SYN)
    second = start(group, 2, 1)
    group.run(2)
    assert {flow[:2] for flow in flows_of(second.cs)} == {flow[:2] for flow in flows_of(first.cs)}
    assert second.cs.peers[DFS_ID].copy.is_complete


def test_a_standby_decides_on_with_what_the_active_one_knew(group: CsGroup) -> None:
    """The same session gets the same node, and a repeated QUERY the same REPLY."""
    first, second = pair(group)
    for number in range(12):
        group.send_from(client(number), SYN)
    before = {flow[0]: flow[4] for flow in flows_of(first.cs)}
    first.crash()
    group.run(30)
    assert second.cs.group.election.role is Role.ACTIVE
    peer = second.cs.peers[DFS_ID]
    for key, name in before.items():
        flow = second.cs.table.by_key[key]
        answer = second.cs.decisions.decide(peer, key, flow.serial, SYN, group.now)
        assert answer == (flow.head, flow.tail)
        assert flow.node.name == name


def test_a_flow_whose_end_was_missed_is_no_flow_of_a_standby_after_the_next_sync(
    group: CsGroup,
) -> None:
    first, second = pair(group)
    group.send_from(client(1), SYN)
    second.reachable = False
    group.send_from(client(1), RST, seq=101)
    group.run(5)
    second.reachable = True
    assert len(second.cs.table.by_key) == 1
    second.cs.order_sync(group.now)
    group.run(5)
    states = [flow.state for flow in second.cs.table.by_key.values()]
    assert states in ([], [SESSION])
    assert second.cs.peers[DFS_ID].tally.flows == first.cs.peers[DFS_ID].tally.flows == 0


def test_copies_from_a_dfs_at_which_this_cs_is_active_change_nothing(group: CsGroup) -> None:
    first, _ = pair(group)
    group.send_from(client(1), SYN)
    before = flows_of(first.cs)
    (source, port), (vip, vip_port) = client(7), VIP
    signature = FlowSignature(source, vip, port, vip_port, 6)
    octets = encode(Reply(0, Flag.REPLICA, 5, *signature), 2)
    peer = first.cs.peers[DFS_ID]
    drops = first.cs.statistics.drops["invalid_msg"]
    first.cs.dispatch.receive(peer, octets, group.now)
    assert flows_of(first.cs) == before
    assert first.cs.statistics.drops["invalid_msg"] == drops + 1


def test_a_cs_without_a_standby_knows_by_sync_where_clients_are_at_home(group: CsGroup) -> None:
    first = start(group, 1, 2)
    group.run(1)
    for number in range(8):
        group.send_from(client(number), SYN)
    before = recalled(first, group, 8)
    first.crash()
    again = start(group, 1, 2)
    group.run(5)
    assert len(again.cs.table) == 8
    assert recalled(again, group, 8) == before


def test_css_that_would_decide_otherwise_say_so(group: CsGroup) -> None:
    first, second = pair(group)

    def same(member: Member) -> bool | None:
        (other,) = member.cs.group.describe(group.now)
        return other.same_configuration

    assert (same(first), same(second)) == (True, True)
    first.cs.set_nodes("web", ["n1"], weight=None, state="draining", now=group.now)
    group.run(1)
    assert (same(first), same(second)) == (False, False)
    for member in (first, second):
        assert sum("other virtual servers, pools, nodes" in line for line in member.log) == 1
    second.cs.set_nodes("web", ["n1"], weight=None, state="draining", now=group.now)
    group.run(1)
    assert (same(first), same(second)) == (True, True)
