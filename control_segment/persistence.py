# SPDX-License-Identifier: Apache-2.0
"""Source-address persistence: a client's next session goes where its latest one went.

Bounded: when the table is full the client that was seen least recently is forgotten.  A node that
accepts no new sessions, or is full, is not used.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from control_segment.nodes import Node

CAPACITY: Final = 1 << 18
_PURGED_AT_ONCE: Final = 2  # more than one: the table shrinks faster than it grows


class SourceAddressPersistence:
    """Which node a source address had, for one virtual server."""

    __slots__ = ("_capacity", "_clients", "timeout_s")

    def __init__(self, timeout_s: int, capacity: int = CAPACITY) -> None:
        self.timeout_s = timeout_s
        self._capacity = capacity
        # Least recently seen first.  Not a dict: finding its first entry costs as much as was
        # deleted in front of it.
        self._clients: OrderedDict[bytes, tuple[Node, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, address: bytes, now: float) -> Node | None:
        """Return the client's node if it still takes the client."""
        entry = self._clients.get(address)
        if entry is None or now - entry[1] >= self.timeout_s:
            return None
        node = entry[0]
        return node if node.has_room and node.takes_new_sessions else None

    def remember(self, address: bytes, node: Node, now: float) -> None:
        """A session of this client begins at this node."""
        clients = self._clients
        clients[address] = (node, now)
        clients.move_to_end(address)
        for _ in range(_PURGED_AT_ONCE):
            oldest = next(iter(clients))
            if len(clients) <= self._capacity and now - clients[oldest][1] < self.timeout_s:
                return
            del clients[oldest]
