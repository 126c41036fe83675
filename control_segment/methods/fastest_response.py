# SPDX-License-Identifier: Apache-2.0
"""The node that answers fastest, for its weight and the sessions that it has.

It compares response time * (active + 1) / weight.  By response time alone every session would
go to one node between two measurements.  A node that could not be measured counts as the slowest
that was measured: it gets sessions, but no more than it would by least connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from control_segment.nodes import Node

_UNMEASURED_MS: Final = 1.0  # all nodes equal when none was measured
_SMOOTHING: Final = 1 / 8  # as TCP smooths its round-trip time (RFC 6298)


class FastestResponse:
    """Fastest response."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()
        self._response_ms: dict[Node, float] = {}  # smoothed; of draining nodes too

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)
        measured = self._response_ms.items()
        self._response_ms = {node: value for node, value in measured if not node.removed}

    def response_measured(self, node: Node, response_ms: float) -> None:
        """Take one measurement of how fast a node answers."""
        smoothed = self._response_ms.get(node, response_ms)
        self._response_ms[node] = smoothed + (response_ms - smoothed) * _SMOOTHING

    def response_ms(self, node: Node) -> float | None:
        """Return the smoothed response time, None if the node was not measured."""
        return self._response_ms.get(node)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node with the lowest response time for its load."""
        measured = self._response_ms
        slowest = max((measured.get(node, 0.0) for node in self._nodes), default=0.0)
        slowest = slowest or _UNMEASURED_MS
        best = None
        lowest, oldest = 0.0, 0.0
        for node in self._nodes:
            if node.has_room:
                response_ms = measured.get(node) or slowest
                score = response_ms * (node.active + 1) / node.weight
                if (
                    best is None
                    or score < lowest
                    or (score == lowest and node.last_active < oldest)
                ):
                    best, lowest, oldest = node, score, node.last_active
        return best
