# SPDX-License-Identifier: Apache-2.0
"""A table from hashes to nodes after Maglev (Eisenbud et al., NSDI 2016, section 3.4), weighted.

A pure function of names and weights: the same in every process, after every restart, and for every
pool with the same nodes, so that these can share it, and it can be built beside the event loop.

How many entries a node gets is counted out before any is given: its exact share, rounded by the
largest remainders, and at least one.  What the paper does with weights (a node of weight w takes w
turns in each round) ends in the middle of a round, and nodes late in it get less, or nothing.
A share is off by at most one entry of the table and, where the lightest nodes get more than theirs,
by 1 %: that is taken from all others by their shares.

The table has TABLE_SIZE entries.  It must not depend on the nodes: with another size every client
would move.  A hundred entries per node keep shares within 1 % (the paper's rule), so this is for
160 equal nodes.  For more, or where a light node would get none, each entry is cut into PIECES,
entry e into e, e + size, e + 2 * size ..., and what is counted out are pieces.  A node takes whole
entries as before and only the rest in pieces, so a pool that grows across that limit keeps nearly
all of its clients.

A node that comes or goes moves, beside its own, 1 to 2 % of the sessions of a pool with many nodes
of like weights, fewer of one with few.  Where weights are far apart, it, or a change of its weight,
moves up to 4 % with 160 nodes and 10 % with 1,000: most (8.3 % were seen) where it has a tenth of
the pool or more.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, cycle, islice
from operator import ge
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from control_segment.methods.hashing import hash64
from control_segment.nodes import Node

TABLE_SIZE: Final = 16381
PIECES: Final = 8  # 131,048 in all: a hundred and more for each of 1,000 nodes
ENTRIES_PER_NODE: Final = 100  # the paper's rule for 1 %
# A permutation that Python's C code can walk: in strides of a node's own, over one residue class
# after the other, the classes in an order of its own too.  Against the paper's (a stride anywhere
# below the size) this halves the time to fill, about 5 ms.  As few sessions move as with the
# paper's: strides below a hundred move more, longer ones take longer.
_STRIDES: Final = tuple(
    number for number in range(128, 512) if all(number % factor for factor in range(2, 23))
)
WHOLE: Final = 100  # per cent of its weight that a node has, if its agent says nothing else
_TURNS: Final = 1 << 40  # parts of the time that filling takes, finer than any two turns are apart

Member: TypeAlias = tuple[str, int]  # a node's name, and its weight, which is above 0


# Tables in use, by what they are built from.  Pools with equal nodes share one, and a table that
# was built before a reload puts it in force (`Model.applying`) is only looked up then.
_shared: WeakValueDictionary[tuple[int, tuple[Member, ...]], array[int]] = WeakValueDictionary()


def shared(members: Sequence[Member], size: int = TABLE_SIZE) -> array[int]:
    """Return the table of these members, which no one may change; built if nobody has it."""
    key = size, tuple(members)
    found = _shared.get(key)
    if found is None:
        _shared[key] = found = build(members, size)
    return found


def members_of(nodes: Sequence[Node]) -> list[Member]:
    """Return what the table of these nodes is built from.  An agent's share of the weight counts;
    slow start does not, for at each of its steps clients would move."""
    if all(node.percent == WHOLE for node in nodes):
        return [(node.name, node.weight) for node in nodes]
    return [(node.name, node.weight * node.percent) for node in nodes]


def build(members: Sequence[Member], size: int = TABLE_SIZE) -> array[int]:
    """Return, for each hash modulo the table's length, the index of its node in *members*."""
    if not members:
        return array("H")
    weights = [weight for _, weight in members]
    is_fine = size >= ENTRIES_PER_NODE * len(members) and min(weights) * size >= sum(weights)
    pieces = 1 if is_fine else PIECES
    return _fill([name for name, _ in members], entries(weights, size * pieces), size, pieces)


def entries(weights: Sequence[int], size: int) -> list[int]:
    """Return how many entries (of *size*) each node gets: its share, but no fewer than one."""
    heavy = list(range(len(weights)))
    counts = [1] * len(weights)
    while len(weights) <= size:
        total, left = sum(weights[index] for index in heavy), size - len(weights) + len(heavy)
        at_least_one = [index for index in heavy if weights[index] * left >= total]
        if len(at_least_one) == len(heavy):
            break
        heavy = at_least_one
    else:
        total, left = sum(weights), size  # there are more nodes than entries
    shares = [divmod(weights[index] * left, total) for index in heavy]
    for index, (share, _) in zip(heavy, shares, strict=True):
        counts[index] = share
    rest = left - sum(share for share, _ in shares)
    for _, index in sorted((-remainder, it) for it, (_, remainder) in enumerate(shares))[:rest]:
        counts[heavy[index]] += 1
    return counts


def _turns(counts: Sequence[int], pieces: int) -> Iterable[int]:
    """Yield the nodes in the order in which they take whole entries, each at even distances."""
    nodes = len(counts)
    if counts[0] - counts[-1] <= 1 and all(map(ge, counts, counts[1:])):  # equal weights
        return islice(cycle(range(nodes)), sum(count // pieces for count in counts))
    when: list[int] = []
    for index, count in enumerate(counts):
        step = _TURNS * pieces // count * nodes
        first = step // 2 // nodes * nodes + index
        when += range(first, first + step * (count // pieces), step)
    when.sort()
    return [moment % nodes for moment in when]


def _fill(names: Sequence[str], counts: list[int], size: int, pieces: int) -> array[int]:
    """At each turn a node takes the next free entry of its own permutation; what it gets beside
    whole entries comes last, as pieces of the next one."""
    is_free = bytearray(b"\x01") * size
    view = memoryview(is_free)  # whose slices show what becomes of the entries
    next_free: list[Callable[[], int]] = [
        chain.from_iterable(_free_entries(name, view)).__next__ for name in names
    ]
    table = array("H" if len(names) <= 0xFFFF else "L", [0]) * size
    for index in _turns(counts, pieces):
        position = next_free[index]()
        is_free[position] = 0
        table[position] = index
    table *= pieces
    taken = bytearray(size)  # pieces of entries that are not taken as a whole
    for index, count in enumerate(counts):
        missing = count % pieces
        while missing:
            position = next_free[index]()
            first = taken[position]
            last = taken[position] = min(first + missing, pieces)
            missing -= last - first
            is_free[position] = last < pieces
            for piece in range(position + first * size, position + last * size, size):
                table[piece] = index
    return table


def _free_entries(name: str, is_free: memoryview) -> Iterator[Iterator[int]]:
    """Yield the walks that make up a node's permutation, over entries that are free by then."""
    size, seed = len(is_free), hash64(name.encode())
    first, stride = (seed & 0xFFFF_FFFF) % size, _STRIDES[(seed >> 32 & 0xFFFF) % len(_STRIDES)]
    yield compress(range(first, size, stride), is_free[first::stride])
    skip = (seed >> 48) % (stride - 1) + 1  # of classes; a stride is a prime, so all are reached
    for number in range(1, stride + 1):
        start = (first + number * skip) % stride
        yield compress(range(start, size, stride), is_free[start::stride])
