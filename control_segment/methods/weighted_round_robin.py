# SPDX-License-Identifier: Apache-2.0
"""Weighted round robin, smooth: weights 5, 1, 1 give a a b a c a a, not a a a a a b c.

The algorithm is nginx's (upstream round robin): each node's current weight grows by its weight, the
highest wins and pays the sum of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class WeightedRoundRobin:
    """Smooth weighted round robin."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes, and begin a new round: old debts were made with other weights."""
        self._nodes = tuple(nodes)
        for node in nodes:
            node.current_weight = 0

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node with the highest current weight."""
        best = None
        total = highest = 0
        for node in self._nodes:
            if node.has_room:
                weight = node.weight
                total += weight
                node.current_weight = current = node.current_weight + weight
                if best is None or current > highest:
                    best, highest = node, current
        if best is not None:
            best.current_weight -= total
        return best
