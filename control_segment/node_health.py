# SPDX-License-Identifier: Apache-2.0
"""What several monitors say of one node, and what that means for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target
from control_segment.nodes import Health, Node
from ssmb.addresses import to_text

RAMP_LEAST: Final = 0.05  # of a node's share: what slow start begins with

_WORST: Final = {"down": 0, "unknown": 1, "up": 2}
_STRICTEST: Final = {Order.MAINTENANCE: 0, Order.DRAIN: 1, Order.NONE: 2}


def target_of(monitor: MonitorConfig, node: Node) -> Target:
    """What a monitor looks at for a node."""
    port = 0 if monitor.kind == "icmp" else monitor.port or node.port
    return Target(monitor.name, to_text(node.address), port)


def together(parts: Iterable[tuple[str, Said]]) -> Said | None:
    """What the monitors of these names say of a node as one; None: there is none."""
    parts = [(name, _with_order(said)) for name, said in parts]
    if not parts:
        return None
    name, worst = min(parts, key=lambda part: _WORST[part[1].health])
    order = min((said.order for _, said in parts), key=_STRICTEST.__getitem__)
    percent = min(said.percent for _, said in parts)
    if worst.health != "down":
        name, worst = next(((name, said) for name, said in parts if said.reason), (name, worst))
    reason = f"{name}: {worst.reason}" if worst.reason else ""
    health = min((said.health for _, said in parts), key=_WORST.__getitem__)
    return Said(health, percent, order, reason)


def _with_order(said: Said) -> Said:
    if said.order is Order.MAINTENANCE:
        return said._replace(health="down", reason="its agent says maint")
    if said.order is Order.DRAIN and said.health != "down":
        return said._replace(reason="its agent says drain")
    return said


def apply(node: Node, said: Said | None, now: float) -> bool:
    """Let a node have what is said of it; return whether new sessions are balanced otherwise."""
    before = node.is_able, node.percent
    health = None if said is None else Health(said.health)
    if said is None:
        said = Said()
    if health is not node.health:
        node.health, node.health_since = health, now
    node.health_reason = said.reason
    node.is_dead = health is Health.DOWN
    node.is_closed = said.order is Order.DRAIN
    if said.percent != node.percent:
        node.rescale(percent=said.percent, ramp=node.ramp)
    return before != (node.is_able, node.percent)
