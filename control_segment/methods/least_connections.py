# SPDX-License-Identifier: Apache-2.0
"""The node with the fewest sessions; among equals the one that has waited longest for one."""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class LeastConnections:
    """Least connections."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the least loaded node that has room."""
        best = None
        fewest, oldest = 0, 0.0
        for node in self._nodes:
            if node.has_room:
                active = node.active
                if (
                    best is None
                    or active < fewest
                    or (active == fewest and node.last_active < oldest)
                ):
                    best, fewest, oldest = node, active, node.last_active
        return best
