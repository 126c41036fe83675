# SPDX-License-Identifier: Apache-2.0
"""The node that answers fastest, for its weight and the sessions that it has.

It compares response time * (active + 1) / weight.  By response time alone every session would
go to one node between two measurements.

* A node that could not be measured counts as the slowest that was: it gets sessions, but no more
  than it would by least connections.
* A time is only believed for a while; then the node counts as not measured.
* A connect that failed is the worst response there is, at once.  Only where a node never answered
  does silence say nothing, for it may not be reachable from here although the DFS reaches it.
* What the data path saw fail counts too (`least_connections`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from control_segment.nodes import Node

WORST_MS: Final = 1000.0  # of a failed connect; the runtime waits for so long
FRESH_S: Final = 30.0  # how long a time is believed: many measurements, one every few seconds
_UNMEASURED_MS: Final = 1.0  # all nodes equal when none was measured
_SMOOTHING: Final = 1 / 8  # as TCP smooths its round-trip time (RFC 6298)


class _Response:
    """What the measurements of one node say."""

    __slots__ = ("failed", "response_ms", "when")

    def __init__(self) -> None:
        self.response_ms = 0.0  # smoothed; 0: none yet
        self.when = 0.0
        self.failed = False

    def measured(self, response_ms: float, now: float) -> None:
        if self.failed or not self.is_fresh(now):  # what came before is not of this life
            self.response_ms = response_ms
        else:
            self.response_ms += (response_ms - self.response_ms) * _SMOOTHING
        self.when, self.failed = now, False

    def is_fresh(self, now: float) -> bool:
        return self.response_ms > 0 and now - self.when < FRESH_S


class FastestResponse:
    """Fastest response."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()
        self._responses: dict[Node, _Response] = {}  # of draining nodes too

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple(nodes)
        known = self._responses.items()
        self._responses = {node: value for node, value in known if not node.removed}

    def response_measured(self, node: Node, response_ms: float, now: float) -> None:
        """Take one measurement of how fast a node answers."""
        self._responses.setdefault(node, _Response()).measured(response_ms, now)

    def response_failed(self, node: Node, now: float, *, refused: bool) -> None:
        """A connect failed: the node refused it, or there was no answer."""
        if refused or node in self._responses:
            response = self._responses.setdefault(node, _Response())
            response.response_ms, response.when, response.failed = WORST_MS, now, True

    def response_ms(self, node: Node, now: float) -> float | None:
        """Return the smoothed response time, None if there is no fresh one."""
        response = self._responses.get(node)
        if response is None or response.failed or not response.is_fresh(now):
            return None
        return response.response_ms

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the node with the lowest response time for its load."""
        believed = {
            node: response for node, response in self._responses.items() if response.is_fresh(now)
        }
        times = [it.response_ms for it in believed.values() if not it.failed]
        slowest = max(times, default=0.0) or _UNMEASURED_MS
        best = None
        lowest, oldest = 0.0, 0.0
        for node in self._nodes:
            if node.has_room:
                response = believed.get(node)
                score = (node.active + 1) / (node.weight * node.scale)
                score *= slowest if response is None else response.response_ms
                if node.failing:
                    score *= node.reluctance(now)
                if (
                    best is None
                    or score < lowest
                    or (score == lowest and node.last_active < oldest)
                ):
                    best, lowest, oldest = node, score, node.last_active
        return best
