# SPDX-License-Identifier: Apache-2.0
"""What a real CS and a real DFS expose."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from admin.answers import (
    CS_STATUS,
    NODES,
    ApiLinkStatus,
    DataFlowSegmentStatus,
    Identity,
    Messages,
    VirtualServer,
)
from admin.metrics import cs, dfs
from admin.metrics.collecting import Asking
from admin.metrics.exposition import Exposition
from admin.metrics.tables import AnyGroup, AnyReading
from control_segment.runtime.runtime import ControlSegmentRuntime
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from support.segments.both import with_a_flow

CS = Identity(role="cs", segment_id=1, release="1.2.3", pid=1)
DFS = Identity(role="dfs", segment_id=256, release="1.2.3", pid=1)
SERVED = {"virtual_server": "www", "pool": "web"}


class Exposed:
    """What a scrape says, by metric and labels."""

    def __init__(self, readings: list[AnyReading]) -> None:
        text = b"".join(Exposition("").pieces(readings)).decode()
        self.families = {family.name for family in text_string_to_metric_families(text)}
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._values, key
                self._values[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, frozenset(labels.items())))

    def lacks(self, groups: tuple[AnyGroup, ...]) -> set[str]:
        """Metrics of these groups that have no sample."""
        wanted = {
            metric.name + "_info" if metric.kind == "info" else metric.name
            for group in groups
            for metric in group.metrics
        }
        return wanted - {name for name, _ in self._values}


def test_both_segments_expose_the_flow_that_they_have() -> None:
    async def story(of_cs: ControlSegmentRuntime, of_dfs: DataFlowSegmentRuntime) -> None:
        at_cs = Exposed(await cs.collect(CS, Asking(of_cs.handle_admin), 100))
        assert at_cs("splitplane_cs_flows") == 1
        assert at_cs("splitplane_cs_virtual_server_sessions_total", **SERVED) == 1
        assert at_cs("splitplane_cs_messages_received_total", type="QUERY") == 1
        assert at_cs("splitplane_cs_nodes", state="enabled") == 1
        assert at_cs("splitplane_cs_pool_active_sessions", pool="web") == 1
        assert at_cs("splitplane_cs_role", role="active") == 1
        assert at_cs("splitplane_cs_role", role="standby") == 0
        assert at_cs("splitplane_cs_dropped_total", reason="bad_seal", normal="false") == 0
        assert at_cs("splitplane_cs_series_left_out", of="nodes") == 0
        decided = {"virtual_server": "shop", "rule": "a", "action": "pool"}
        assert at_cs("splitplane_cs_rule_connections_total", **decided) == 0
        unmatched = "splitplane_cs_virtual_server_unmatched_total"
        assert at_cs(unmatched, virtual_server="shop", pool="web") == 0
        assert at_cs(unmatched, **SERVED) is None
        at_dfs = Exposed(await dfs.collect(DFS, Asking(of_dfs.handle_admin), 100))
        assert at_dfs("splitplane_dfs_flows") == 1
        assert at_dfs("splitplane_dfs_virtual_servers") == 3
        assert at_dfs("splitplane_dfs_group_has_active", group_id="1") == 1
        assert at_dfs("splitplane_dfs_cs_active", group_id="1", cs="cs-1") == 1
        assert at_dfs("splitplane_dfs_events_total", event="new_flows", normal="true") == 1
        assert at_dfs("splitplane_dfs_dropped_total", reason="no_route", normal="false") == 0
        # what this CS, this DFS and this node have no value for
        assert at_cs.lacks(cs.GROUPS) <= {
            "splitplane_cs_api_linked",
            "splitplane_cs_generation",
            "splitplane_cs_member_heard_seconds",
            "splitplane_cs_member_reach",
            "splitplane_cs_member_same_configuration",
            "splitplane_cs_node_response_seconds",
            "splitplane_cs_node_up",  # no monitor looks
            "splitplane_cs_virtual_server_uses_fallback_pool",
            "splitplane_cs_refusals_total",
        }
        assert at_dfs.lacks(dfs.GROUPS) <= {
            "splitplane_dfs_api_linked",
            "splitplane_dfs_cs_heartbeat_seconds",
            "splitplane_dfs_virtual_server_grants",
            "splitplane_dfs_virtual_server_asked_total",
            "splitplane_dfs_virtual_server_answered_ahead_total",
        }

    with_a_flow(story)


def test_with_too_many_things_there_are_only_sums() -> None:
    async def story(of_cs: ControlSegmentRuntime, of_dfs: DataFlowSegmentRuntime) -> None:
        at_cs = Exposed(await cs.collect(CS, Asking(of_cs.handle_admin), 1))
        assert at_cs("splitplane_cs_series_left_out", of="virtual_servers") == 3
        assert "splitplane_cs_virtual_server_active_sessions" not in at_cs.families
        assert "splitplane_cs_node_active_sessions" in at_cs.families
        at_cs = Exposed(await cs.collect(CS, Asking(of_cs.handle_admin), 0))
        assert at_cs("splitplane_cs_series_left_out", of="nodes") == 1
        assert at_cs("splitplane_cs_series_left_out", of="rules") == 1
        assert "splitplane_cs_node_active_sessions" not in at_cs.families
        assert at_cs("splitplane_cs_nodes", state="enabled") == 1
        at_dfs = Exposed(await dfs.collect(DFS, Asking(of_dfs.handle_admin), 1))
        assert at_dfs("splitplane_dfs_series_left_out", of="virtual_servers") == 3
        assert "splitplane_dfs_virtual_server_has_cs" not in at_dfs.families
        assert at_dfs("splitplane_dfs_virtual_servers") == 3

    with_a_flow(story)


def test_what_a_dfs_says_of_grants_is_by_virtual_server_and_reason() -> None:
    server = VirtualServer(
        address="10.0.0.1", port="*", protocol="tcp", group_id=1, forward_mode="nat",
        answer_arp=True, granted=5, answered_ahead=6, asked=9,
        asked_because={"empty": 7, "lease": 2}, active_cs=1,
    )  # fmt: skip
    labels = {"address": "10.0.0.1", "port": "*", "protocol": "tcp"}

    def answer(command: str, arguments: dict[str, object]) -> object:
        return {
            "virtual_servers": [server],
            "status": DataFlowSegmentStatus(
                segment_id=256, boot_id=1, uptime_s=1.0, laboratory=False, flows=0,
                flow_capacity=9, adopted=False, pending=0, negative=0, lingering=0, held_octets=0,
                groups=[],
            ),
            "messages": Messages(sent={}, received={}, dropped={}),
            "counters": {},
        }[command]  # fmt: skip

    exposed = Exposed(asyncio.run(dfs.collect(DFS, Asking(answer), 1)))
    assert exposed("splitplane_dfs_virtual_server_grants", **labels) == 5
    assert exposed("splitplane_dfs_virtual_server_answered_ahead_total", **labels) == 6
    asked = "splitplane_dfs_virtual_server_asked_total"
    assert exposed(asked, **labels, reason="empty") == 7
    assert exposed(asked, **labels, reason="lease") == 2


def test_a_removed_node_is_counted_without_series_and_a_dead_one_is_found_down() -> None:
    """Another node with its name may be there by now, and a series must be unique."""

    async def story(of_cs: ControlSegmentRuntime, of_dfs: DataFlowSegmentRuntime) -> None:
        nodes: Any = of_cs.handle_admin(NODES.name, {})
        found = replace(nodes[0], name="two", health="down", effective_weight=0.0, active=0)
        removed = replace(nodes[0], state="removed", active=4, effective_weight=0.0)
        both = [*nodes, found, removed]
        api = ApiLinkStatus(url="u", linked=False, linked_ms=None, reason="gone", generation=7)

        def answer(command: str, arguments: dict[str, object]) -> object:
            if command == NODES.name:
                return both
            said: Any = of_cs.handle_admin(command, arguments)
            return replace(said, api=api) if command == CS_STATUS.name else said

        at_cs = Exposed(await cs.collect(CS, Asking(answer), 100))
        labels = {"pool": "web", "node": "one", "address": f"{nodes[0].address}:{nodes[0].port}"}
        assert at_cs("splitplane_cs_node_active_sessions", **labels) == 1
        assert at_cs("splitplane_cs_nodes", state="removed") == 1
        assert at_cs("splitplane_cs_pool_nodes", pool="web", state="removed") == 1
        assert at_cs("splitplane_cs_pool_active_sessions", pool="web") == 5
        assert at_cs("splitplane_cs_pool_available_nodes", pool="web") == 1
        assert at_cs("splitplane_cs_node_up", **{**labels, "node": "two"}) == 0
        assert at_cs("splitplane_cs_node_up", **labels) is None
        assert at_cs("splitplane_cs_monitored_nodes", health="down") == 1
        assert at_cs("splitplane_cs_api_linked") == 0
        assert at_cs("splitplane_cs_generation") == 7

    with_a_flow(story)
