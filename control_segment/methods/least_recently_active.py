# SPDX-License-Identifier: Apache-2.0
"""The node whose latest activity of any session is the oldest (checklist B8, N19)."""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class LeastRecentlyActive:
    """Least recently active."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node that has been quiet for longest."""
        best = self._oldest(0.0)
        if best is None or best.scale >= 1 or best.takes_turn():
            return best
        return self._oldest(1.0) or best

    def _oldest(self, least: float) -> Node | None:
        """Of the nodes that have room and at least so much of their share."""
        best = None
        oldest, fewest = 0.0, 0
        for node in self._nodes:
            if node.has_room and node.scale >= least:
                last = node.last_active
                # Decisions of one wake-up share one `now`: then the fewer sessions win
                if best is None or last < oldest or (last == oldest and node.total < fewest):
                    best, oldest, fewest = node, last, node.total
        return best
