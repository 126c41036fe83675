# SPDX-License-Identifier: Apache-2.0
"""Nodes: the servers behind virtual servers, with what balancing needs to know about them.

A session holds its node by reference.  A node that is removed from the configuration is no longer
chosen; it exists until its last session has ended.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from ssmb.constants import TCP

# A node's address and port: what it is known by in other pools, after a reload and after a restart
Place: TypeAlias = tuple[bytes, int]


class NodeState(Enum):
    """Which sessions may be there."""

    ENABLED = "enabled"  # all
    DRAINING = "draining"  # living sessions only
    DOWN = "down"  # none: it gives up its sessions (`Node.gives_up`)


class Node:
    """One server of one pool.  Plain attributes: the hot path reads and writes them."""

    __slots__ = (
        "active",
        "address",
        "bytes_in",
        "bytes_out",
        "connection_limit",
        "drained",
        "drains_until",
        "has_room",
        "is_down",
        "last_active",
        "name",
        "pkts_in",
        "pkts_out",
        "place",
        "pool_name",
        "port",
        "rate",
        "rated_total",
        "removed",
        "resets_when_down",
        "state",
        "total",
        "weight",
    )

    def __init__(
        self,
        pool_name: str,
        name: str,
        address: bytes,
        port: int,
        *,
        weight: int = 1,
        connection_limit: int = 0,
        state: NodeState = NodeState.ENABLED,
    ) -> None:
        self.pool_name = pool_name
        self.name = name
        self.address = address
        self.port = port  # 0: the client's port is kept
        self.place: Place = address, port
        self.weight = weight
        self.connection_limit = connection_limit  # sessions; 0: no limit
        self.removed = False  # gone from the configuration
        self.resets_when_down = False  # of its pool: TCP connections end when it is set down
        self.drains_until: float | None = None  # None: it does not drain, or nobody looked yet
        self.drained = False  # it drains, and its time for that is over
        self.active = 0  # sessions
        self.total = 0  # sessions ever
        self.has_room = True
        self.last_active = 0.0  # the latest session begun or seen moving
        self.rate = 0.0  # sessions a second, smoothed
        self.rated_total = 0
        self.pkts_in = self.bytes_in = self.pkts_out = self.bytes_out = 0
        self.set_state(state)

    def set_state(self, state: NodeState) -> None:
        """Change which sessions may be here."""
        self.state = state
        self.is_down = state is NodeState.DOWN
        if state is not NodeState.DRAINING:
            self.drains_until = None
            self.drained = False

    def drain(self, timeout_s: int, now: float) -> bool:
        """Look at the time for draining (0: no end); return whether it has just run out."""
        if self.state is not NodeState.DRAINING or self.drained or not timeout_s:
            return False
        if self.drains_until is None:
            self.drains_until = now + timeout_s
        self.drained = now >= self.drains_until
        return self.drained

    def gives_up(self, protocol: int) -> bool:
        """Whether sessions of this protocol that are here are to end now, busy or not.

        UDP knows no end of its own, and a sender that goes on would hold its node for ever.  A TCP
        connection is lost when it ends, so that is done by choice only.
        """
        if protocol == TCP:
            return self.is_down and self.resets_when_down
        return self.is_down or self.removed or self.drained

    def set_connection_limit(self, limit: int) -> None:
        """Change how many sessions fit; those there are stay."""
        self.connection_limit = limit
        self.has_room = not limit or self.active < limit

    @property
    def takes_new_sessions(self) -> bool:
        """Whether a method may be given this node."""
        return self.state is NodeState.ENABLED and self.weight > 0 and not self.removed

    def session_started(self, now: float) -> None:
        """Count a session."""
        self.active += 1
        self.total += 1
        self.last_active = now
        if self.connection_limit:
            self.has_room = self.active < self.connection_limit

    def session_ended(self) -> None:
        """Count it no longer."""
        self.active -= 1
        if self.connection_limit:
            self.has_room = self.active < self.connection_limit
