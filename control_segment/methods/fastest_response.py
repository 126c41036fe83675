# SPDX-License-Identifier: Apache-2.0
"""The node that answers fastest, for its weight and the sessions that it has.

Compared is response time * (active + 1) / weight.  By the response time alone every session would
go to one node between two measurements.  A node that nobody could measure counts as the slowest
that was measured: it gets sessions, but no more than it would by least connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from control_segment.nodes import Node

_UNMEASURED_MS: Final = 1.0  # all nodes equal when none was measured


class FastestResponse:
    """Fastest response."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node with the lowest response time for its load."""
        slowest = 0.0
        for node in self._nodes:
            if node.response_ms is not None and node.response_ms > slowest:
                slowest = node.response_ms
        best = None
        lowest, oldest = 0.0, 0.0
        for node in self._nodes:
            if node.has_room:
                response_ms = node.response_ms or slowest or _UNMEASURED_MS
                score = response_ms * (node.active + 1) / node.weight
                if (
                    best is None
                    or score < lowest
                    or (score == lowest and node.last_active < oldest)
                ):
                    best, lowest, oldest = node, score, node.last_active
        return best
