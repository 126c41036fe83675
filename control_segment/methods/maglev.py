# SPDX-License-Identifier: Apache-2.0
"""Maglev hashing: one look-up per pick, in a table (`control_segment.methods.table`).

The node follows from the session's key, so it is the same after a restart, at every CS, and for a
session whose record was lost.  A node that comes or goes moves few sessions other than its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from control_segment.methods import table
from control_segment.methods.hashing import hash64
from control_segment.nodes import Node

# Entries after a full node's that are looked at for one that has room.  Beyond them nearly all
# nodes are full, and it is cheaper to ask each node than to go on through its many entries.
_LOOKED_AT: Final = 64


class Maglev:
    """Maglev."""

    consistent = True
    by_source = False

    def __init__(self, table_size: int = table.TABLE_SIZE) -> None:
        self._size = table_size
        self._nodes: tuple[Node, ...] = ()
        self._table = array("H")

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Rebuild the table."""
        self._nodes = tuple(nodes)
        self._table = self.build(table.members_of(nodes))

    def build(self, members: Sequence[table.Member]) -> array[int]:
        """Return the table for these names and weights; `prepare` takes it if it is kept."""
        return table.shared(members, self._size)

    @property
    def nodes(self) -> Sequence[Node]:
        """What the table's entries are indexes of."""
        return self._nodes

    @property
    def table(self) -> array[int]:
        """The table, which no one may change."""
        return self._table

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return the key's node; if that is full, the next entries' first that is not."""
        if not self._nodes:
            return None
        owners, nodes, hashed = self._table, self._nodes, hash64(key)
        index = hashed % len(owners)
        node = nodes[owners[index]]
        if node.has_room:
            return node
        for step in range(1, _LOOKED_AT):
            node = nodes[owners[(index + step) % len(owners)]]
            if node.has_room:
                return node
        left = [node for node in nodes if node.has_room]
        return left[hashed % len(left)] if left else None
