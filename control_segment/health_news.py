# SPDX-License-Identifier: Apache-2.0
"""What people hear of nodes' health: an event for each, but a sum where many change at once."""

from __future__ import annotations

from typing import Final

from admin.happened import Happened, Severity
from control_segment.health.targets import Target
from control_segment.nodes import Node
from control_segment.pools import Pool

PER_SECOND: Final = 50  # events about nodes; more would fill logs and databases


class HealthNews:
    """Of one CS.  Only while it probes: another CS says what it has found by itself."""

    def __init__(self, happened: list[Happened]) -> None:
        self.is_told = False
        self._happened = happened
        self._empty: set[str] = set()  # pools that lost their last node
        self._second = 0  # which the counts are of
        self._count = 0
        self._left_out = {"down": 0, "up": 0}

    def node_changed(self, pool: Pool, node: Node, now: float) -> None:
        """A node is dead now, or no longer."""
        if not self.is_told:
            return
        if self._is_too_much(now):
            self._left_out["down" if node.is_dead else "up"] += 1
            return
        where = f"node {node.name} of pool {pool.name}"
        if node.is_dead:
            what = f"{where} is down: {node.health_reason}"
            self._tell("warning", "node_down", what, pool, node)
        else:
            self._tell("info", "node_up", f"{where} is up", pool, node)

    def warn(self, target: Target, warning: str, pool: Pool, node: Node, now: float) -> None:
        """A monitor has something to say although it may find the node up."""
        if self.is_told and not self._is_too_much(now):
            what = f"node {node.name} of pool {pool.name}: monitor {target.monitor}: {warning}"
            self._tell("warning", "monitor_warning", what, pool, node)

    def pool_changed(self, pool: Pool) -> None:
        """It may have lost its last node, or have one again."""
        is_empty = not pool.takes_sessions
        if not self.is_told or is_empty == (pool.name in self._empty):
            return
        subject = {"pool": pool.name}
        if is_empty:
            self._empty.add(pool.name)
            what = f"pool {pool.name}: no node takes new sessions"
            self._happened.append(Happened("error", "pool_down", what, subject))
        else:
            self._empty.discard(pool.name)
            what = f"pool {pool.name}: a node takes new sessions again"
            self._happened.append(Happened("info", "pool_up", what, subject))

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._second + 1.0 if any(self._left_out.values()) else None

    def handle_timer(self, now: float) -> None:
        """Say how many were left out."""
        if not any(self._left_out.values()) or now < self._second + 1:
            return
        down, up = self._left_out["down"], self._left_out["up"]
        self._left_out = {"down": 0, "up": 0}
        what = f"{down} more nodes were found down, and {up} up: splitplane show nodes has them"
        self._happened.append(Happened("warning", "nodes_changed", what))

    def _is_too_much(self, now: float) -> bool:
        if int(now) != self._second:
            self.handle_timer(now)
            self._second, self._count = int(now), 0
        self._count += 1
        return self._count > PER_SECOND

    def _tell(self, severity: Severity, kind: str, what: str, pool: Pool, node: Node) -> None:
        subject = {"pool": pool.name, "node": node.name}
        self._happened.append(Happened(severity, kind, what, subject))
