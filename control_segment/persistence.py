# SPDX-License-Identifier: Apache-2.0
"""Source-address persistence: a client's next session goes where its latest one went.

Bounded: when the table is full the client that was seen least recently is forgotten.  An entry says
only where the client was, by address and port.  The virtual server looks for that place in its pool
of the moment (`VirtualServer.remembered_node`), so that a node of another pool, or one that was
removed, is never used, and one that comes back is.

Virtual servers of one group share a table ("match across services").  Their nodes have other ports,
so there the address alone says which server it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from control_segment.nodes import Place

CAPACITY: Final = 1 << 18
_PURGED_AT_ONCE: Final = 2  # more than one: the table shrinks faster than it grows


class SourceAddressPersistence:
    """Where the node of a source address was, for one virtual server or a group."""

    __slots__ = ("_capacity", "_clients", "changes", "is_shared", "timeout_s")

    def __init__(
        self, timeout_s: int, capacity: int = CAPACITY, *, is_shared: bool = False
    ) -> None:
        self.timeout_s = timeout_s
        self.is_shared = is_shared
        self.changes = 0
        self._capacity = capacity
        # Least recently seen first.  Not a dict: finding its first entry costs as much as was
        # deleted in front of it.
        self._clients: OrderedDict[bytes, tuple[Place, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, address: bytes, now: float) -> Place | None:
        """Return where the client's node was, None if that is unknown or too long ago."""
        entry = self._clients.get(address)
        if entry is None or now - entry[1] >= self.timeout_s:
            return None
        return entry[0]

    def remember(self, address: bytes, place: Place, now: float) -> None:
        """A session of this client begins at the node there."""
        self.changes += 1
        clients = self._clients
        clients[address] = (place, now)
        clients.move_to_end(address)
        for _ in range(_PURGED_AT_ONCE):
            oldest = next(iter(clients))
            if len(clients) <= self._capacity and now - clients[oldest][1] < self.timeout_s:
                return
            del clients[oldest]

    def entries(self, most: int, now: float) -> Iterator[tuple[bytes, Place, float]]:
        """Yield the latest clients, the one seen last at the end: address, place, when.

        The table may change meanwhile.
        """
        clients = self._clients
        for address in list(islice(clients, max(0, len(clients) - most), None)):
            entry = clients.get(address)
            if entry is not None and now - entry[1] < self.timeout_s:
                yield (address, *entry)
