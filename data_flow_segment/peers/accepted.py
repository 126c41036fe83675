# SPDX-License-Identifier: Apache-2.0
"""One accepted CSMB connection, as this DFS keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from csmb.connection import Connection
from csmb.events import Ready
from data_flow_segment.peers.groups import Peer


@dataclass(slots=True)
class Accepted:
    """A connection, from accept to close."""

    connection: Connection
    address: str  # of its other end; `::`: not known
    ready: Ready | None = None  # authenticated; until its first sealed HELLO
    peer: Peer | None = None  # the CS, from that HELLO on
    was_ready: bool = False

    @property
    def who(self) -> str:
        """For the log."""
        stranger = f"an unauthenticated CS ({self.address})"
        return stranger if self.peer is None else self.peer.name
