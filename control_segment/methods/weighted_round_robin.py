# SPDX-License-Identifier: Apache-2.0
"""Weighted round robin, smooth: weights 5, 1, 1 give a a b a c a a, not a a a a a b c.

The algorithm is nginx's (upstream round robin): each node's current weight grows by its weight, the
highest wins and pays the sum of the weights.

What a node is owed survives a change: current weights are parts of a round, and are kept as such.
A new round at each change would begin with the same nodes each time, and with frequent changes the
last ones would get nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class WeightedRoundRobin:
    """Smooth weighted round robin."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()
        self._current: list[float] = []  # each node's current weight
        self._total = 0.0  # of the weights that it was made with

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes, and go on in the round."""
        total = sum(node.weight * node.scale for node in nodes)
        owed = dict(zip(self._nodes, self._current, strict=True))
        self._current = [owed.get(node, 0) * total / (self._total or 1) for node in nodes]
        self._nodes, self._total = tuple(nodes), total

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node with the highest current weight."""
        current = self._current
        best: int | None = None
        total = 0.0
        for index, node in enumerate(self._nodes):
            if node.has_room:
                weight = node.weight * node.scale
                total += weight
                current[index] += weight
                if best is None or current[index] > current[best]:
                    best = index
        if best is None:
            return None
        current[best] -= total
        return self._nodes[best]
