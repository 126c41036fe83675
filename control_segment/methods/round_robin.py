# SPDX-License-Identifier: Apache-2.0
"""One after the other; weights count only as "none" and "some"."""

from __future__ import annotations

from collections.abc import Sequence

from control_segment.nodes import Node


class RoundRobin:
    """Round robin."""

    consistent = False

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] = ()
        self._next = 0

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes; go on with the first that is still there from the next one on."""
        places = {node: index for index, node in enumerate(nodes)}
        following = self._nodes[self._next :] + self._nodes[: self._next]
        self._next = next((places[node] for node in following if node in places), 0)
        self._nodes = tuple(nodes)

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the next node that has room."""
        nodes, index = self._nodes, self._next
        passed: Node | None = None  # it has room, but it is another one's turn
        for _ in nodes:
            node = nodes[index]
            index = index + 1 if index + 1 < len(nodes) else 0
            if node.has_room:
                if node.scale >= 1 or node.takes_turn():
                    self._next = index
                    return node
                passed = passed or node
        return passed
