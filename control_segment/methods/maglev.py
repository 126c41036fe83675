# SPDX-License-Identifier: Apache-2.0
"""Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): one table look-up per pick.

The node follows from the session's key, so it is the same after a restart, at every CS, and for a
session whose record was lost.  A node that comes or goes moves few sessions other than its own.
Weights: a node of weight w takes w turns where others take one (as katran does).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress, cycle, islice, repeat
from math import gcd
from typing import Final

from control_segment.methods.hashing import hash64
from control_segment.nodes import Node

# A hundred entries per node keep shares within 1 % (the paper's rule), so this is for 160 nodes.
# It must not depend on the nodes: another size moves every client.
TABLE_SIZE: Final = 16381
# A permutation that Python's C code can walk: in strides of a node's own, over one residue class
# after the other, the classes in an order of its own too.  Against the paper's (a stride anywhere
# below the size) this halves the time to fill, during which QUERYs wait: about 5 ms.  As few
# sessions move as with the paper's: strides below a hundred move more, longer ones take longer.
_STRIDES: Final = tuple(
    number for number in range(128, 512) if all(number % factor for factor in range(2, 23))
)


class Maglev:
    """Maglev."""

    consistent = True

    def __init__(self, table_size: int = TABLE_SIZE) -> None:
        self._size = table_size
        self._nodes: tuple[Node, ...] = ()
        self._table = array("H")

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Rebuild the table."""
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
    is_free = bytearray(b"\x01") * size
    view = memoryview(is_free)  # whose slices show what becomes of the entries
    turns: list[Iterator[tuple[int, Callable[[], int]]]] = []
    for index, node in enumerate(nodes):
        next_free = chain.from_iterable(_free_entries(node, view)).__next__
        turns.append(repeat((index, next_free), node.weight // divisor))
    one_round = list(islice(chain.from_iterable(turns), size))
    table = array("H", bytes(2 * size))
    for index, next_free in islice(cycle(one_round), size):
        position = next_free()
        is_free[position] = 0
        table[position] = index
    return table


def _free_entries(node: Node, is_free: memoryview) -> Iterator[Iterator[int]]:
    """Yield the walks that make up a node's permutation, over entries that are free by then."""
    size, seed = len(is_free), hash64(node.name.encode())
    first, stride = (seed & 0xFFFF_FFFF) % size, _STRIDES[(seed >> 32 & 0xFFFF) % len(_STRIDES)]
    yield compress(range(first, size, stride), is_free[first::stride])
    skip = (seed >> 48) % (stride - 1) + 1  # of classes; a stride is a prime, so all are reached
    for number in range(1, stride + 1):
        start = (first + number * skip) % stride
        yield compress(range(start, size, stride), is_free[start::stride])
