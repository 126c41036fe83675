# SPDX-License-Identifier: Apache-2.0
"""Source-address persistence: a client's next session goes where its latest one went.

Bounded: where there is no room the client that was seen least recently is forgotten.  An entry says
only where the client was, by address and port.  The virtual server looks for that place in its pool
of the moment (`VirtualServer.remembered_node`), so that a node of another pool, or one that was
removed, is never used, and one that comes back is.

Virtual servers of one group share a table ("match across services").  Their nodes have other ports,
so there the address alone says which server it is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from control_segment.nodes import Place

CAPACITY: Final = 1 << 18
_PURGED_AT_ONCE: Final = 2  # more than one: a part shrinks faster than it grows
# Clients are spread over parts by their hash, so that what is done with all of them can be done
# part by part, each in less than a millisecond
_PART_SIZE: Final = 1 << 12
_SLACK: Final = 8  # a part may be larger by this share while it is unsorted

Span: TypeAlias = tuple[float, float]
"""From when until when, both included."""
NEVER: Final[Span] = (math.inf, -math.inf)

# Least recently seen first.  Not a dict: finding its first entry costs as much as was deleted in
# front of it.
_Part: TypeAlias = OrderedDict[bytes, tuple[Place, float]]


class SourceAddressPersistence:
    """Where the node of a source address was, for one virtual server or a group."""

    __slots__ = (
        "_count", "_parts", "_parts_max", "_unsorted", "changes", "is_shared", "timeout_s",
    )  # fmt: skip

    def __init__(
        self, timeout_s: int, capacity: int = CAPACITY, *, is_shared: bool = False
    ) -> None:
        self.timeout_s = timeout_s
        self.is_shared = is_shared
        self.changes = 0
        self._count = min(capacity, _PART_SIZE)  # clients in one part
        self._parts_max = max(1, capacity // _PART_SIZE)
        self._parts: dict[int, _Part] = {}  # made when needed: most tables are small
        self._unsorted: set[int] = set()  # parts that have learned something earlier than they had

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))

    def find(self, address: bytes, now: float) -> Place | None:
        """Return where the client's node was, None if that is unknown or too long ago."""
        part = self._parts.get(hash(address) % self._parts_max)
        entry = None if part is None else part.get(address)
        if entry is None or now - entry[1] >= self.timeout_s:
            return None
        return entry[0]

    def remember(self, address: bytes, place: Place, now: float) -> None:
        """A session of this client begins at the node there."""
        self.changes += 1
        number = hash(address) % self._parts_max
        part = self._parts.get(number)
        if part is None:
            part = self._parts[number] = OrderedDict()
        part[address] = place, now
        part.move_to_end(address)
        is_sorted = number not in self._unsorted
        for _ in range(_PURGED_AT_ONCE):
            oldest = next(iter(part))
            is_too_large = is_sorted and len(part) > self._count
            if not is_too_large and now - part[oldest][1] < self.timeout_s:
                break
            del part[oldest]
        if not is_sorted:
            self._relieve(number)

    def learn(self, address: bytes, place: Place, seen: float, doubted: Span = NEVER) -> bool:
        """Another process or CS knew this; False: later things are known, of it or of as many as
        there is room for.  What was noted here in that time counts less, however late it was."""
        number = hash(address) % self._parts_max
        part = self._parts.get(number)
        if part is None:
            part = self._parts[number] = OrderedDict()
        entry = part.get(address)
        if entry is not None:
            is_doubted = doubted[0] <= entry[1] <= doubted[1] and entry[0] != place
            if entry[1] >= seen and not is_doubted:
                return False
        elif (
            len(part) >= self._count
            and number not in self._unsorted
            and part[next(iter(part))][1] >= seen
        ):
            return False
        if part and part[next(reversed(part))][1] > seen:
            self._unsorted.add(number)
        self.changes += 1
        part[address] = place, seen
        part.move_to_end(address)
        if len(part) > self._count:
            self._relieve(number)
        return True

    def _relieve(self, number: int) -> None:
        """A part is too large: whoever was seen least recently goes.  Sorting takes some ms, so
        that what was learned out of order is sorted once for many."""
        part = self._parts[number]
        if number in self._unsorted:
            if len(part) <= self._count + self._count // _SLACK:
                return
            part = self._sorted(number)
        while len(part) > self._count:
            del part[next(iter(part))]

    def _sorted(self, number: int) -> _Part:
        """Return a part with the client seen least recently first."""
        self._unsorted.discard(number)
        ordered = sorted(self._parts[number].items(), key=lambda each: each[1][1])
        part = self._parts[number] = OrderedDict(ordered)
        return part

    def entries(
        self, most: int, now: float, age_max_s: float
    ) -> Iterator[list[tuple[bytes, Place, float]]]:
        """Yield the latest clients, of one part after another: address, place, when; the one seen
        last at the end.  The table may change meanwhile.
        """
        age_max_s = min(age_max_s, self.timeout_s)
        for number in list(self._parts):
            share = most // len(self._parts) + 1
            part = self._parts[number]
            if len(part) > share and number in self._unsorted:
                part = self._sorted(number)
            latest = islice(part.items(), max(0, len(part) - share), None)
            yield [(address, *entry) for address, entry in latest if now - entry[1] < age_max_s]
