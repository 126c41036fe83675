# SPDX-License-Identifier: Apache-2.0
"""The node with the fewest sessions for its weight.

It compares (active + 1) / weight, the load as it will be with the new session: with `active` alone,
all idle nodes would be equal and the weights would count only under load.  A node that fails:
`least_connections`.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class WeightedLeastConnections:
    """Weighted least connections."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node that will be the least loaded for its weight."""
        best = None
        lowest, oldest = 0.0, 0.0
        for node in self._nodes:
            if node.has_room:
                load = (node.active + 1) / (node.weight * node.scale)
                if node.failing:
                    load *= node.reluctance(now)
                if best is None or load < lowest or (load == lowest and node.last_active < oldest):
                    best, lowest, oldest = node, load, node.last_active
        return best
