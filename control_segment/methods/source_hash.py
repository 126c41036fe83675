# SPDX-License-Identifier: Apache-2.0
"""The node follows from the client's address: weighted rendezvous hashing.

Each (address, node) pair gets a score -weight / ln(u), u in (0, 1) from their hash; the highest
wins. Shares are exactly in proportion to the weights, and a node that comes or goes moves only the
clients that it gains or loses.  The cost grows with the number of nodes; `maglev` is for many.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final

from control_segment.methods.hashing import hash64
from control_segment.nodes import Node
from control_segment.wire import SRC_IPADDR

_SCALE: Final = 2.0**-64
_REMEMBERED: Final = (
    65536  # clients whose order of nodes is kept, so that most picks are one look-up
)


class SourceHash:
    """Source hash."""

    consistent = True

    def __init__(self) -> None:
        self._nodes: tuple[tuple[bytes, Node], ...] = ()
        self._first: dict[bytes, Node] = {}

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes."""
        self._nodes = tuple((node.name.encode(), node) for node in nodes)
        self._first.clear()

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the address's node; if that is full, its next one."""
        source = key[SRC_IPADDR]
        node = self._first.get(source)
        if node is not None and node.has_room:
            return node
        best = None
        highest = -1.0
        everyone = True
        for name, node in self._nodes:
            if not node.has_room:
                everyone = False
                continue
            u = (hash64(source + name) + 0.5) * _SCALE
            score = -node.weight / log(u) if u < 1.0 else float("inf")
            if score > highest:
                best, highest = node, score
        if best is not None and everyone:
            if len(self._first) >= _REMEMBERED:
                self._first.clear()
            self._first[source] = best
        return best
