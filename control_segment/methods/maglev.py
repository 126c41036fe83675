# SPDX-License-Identifier: Apache-2.0
"""Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): one table look-up a pick.

The node follows from the session's key, so it is the same after a restart, at every CS, and for a
session whose record was lost.  A node that comes or goes moves few sessions beside its own.
Weights: a node of weight w takes w turns where others take one (as katran does).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import gcd
from typing import Final

from control_segment.methods.hashing import hash64
from control_segment.nodes import Node

# A prime, as the permutation needs.  A hundred entries a node keep shares within 1 % (the paper's
# rule), so this is for 160 nodes.  It must not depend on the nodes: another size moves everybody.
# The paper's 65537 takes four times as long to fill, and QUERYs wait meanwhile.
TABLE_SIZE: Final = 16381
_EMPTY: Final = 0xFFFF


class Maglev:
    """Maglev."""

    consistent = True

    def __init__(self, table_size: int = TABLE_SIZE) -> None:
        self._size = table_size
        self._nodes: tuple[Node, ...] = ()
        self._table = array("H")

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Build the table anew."""
        self._nodes = tuple(nodes)
        self._table = _build(self._nodes, self._size) if nodes else array("H")

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the key's node; if that is full, the next entries' first that is not."""
        if not self._nodes:
            return None
        table, size = self._table, self._size
        index = hash64(key) % size
        node = self._nodes[table[index]]
        if node.has_room:
            return node
        if not any(other.has_room for other in self._nodes):
            return None
        # Every node with weight owns entries, so this ends
        for step in range(1, size):
            node = self._nodes[table[(index + step) % size]]
            if node.has_room:
                return node
        return None


def _build(nodes: Sequence[Node], size: int) -> array[int]:
    """Fill the table: in turns, each node takes the next free entry of its own permutation."""
    divisor = gcd(*(node.weight for node in nodes))
    turns = [node.weight // divisor for node in nodes]
    positions, skips = [], []
    for node in nodes:
        seed = hash64(node.name.encode())
        positions.append((seed & 0xFFFFFFFF) % size)
        skips.append((seed >> 32) % (size - 1) + 1)
    table = array("H", [_EMPTY]) * size
    left = size
    while True:
        for index, turn in enumerate(turns):
            position, skip = positions[index], skips[index]
            for _ in range(turn):
                while table[position] != _EMPTY:
                    position = (position + skip) % size
                table[position] = index
                left -= 1
                if not left:
                    return table
            positions[index] = position
