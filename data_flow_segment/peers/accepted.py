# SPDX-License-Identifier: Apache-2.0
"""One accepted CSMB connection, as this DFS keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from csmb.connection import Connection
from csmb.events import Ready
from data_flow_segment.peers.groups import Peer

PROBE_S: Final = 1.0
"""Between two probes of a connection: anybody may cause them."""


@dataclass(slots=True)
class Accepted:
    """A connection, from accept to close."""

    connection: Connection
    since: float
    ready: Ready | None = None  # authenticated; until its first sealed HELLO
    peer: Peer | None = None  # the CS, from that HELLO on
    was_ready: bool = False
    _probed: float = float("-inf")
    _heard: int = 0  # messages that had come when it was probed

    @property
    def who(self) -> str:
        """For the log."""
        return "an unauthenticated CS" if self.peer is None else self.peer.name

    def is_of_another_boot(self, segment_id: int, boot_id: int) -> bool:
        """Whether it is of this CS with a state that is lost, or of a second CS with its number."""
        peer = self.peer
        return (
            peer is not None
            and peer.hello.segment_id == segment_id
            and peer.boot_id != boot_id
            and self.connection.is_ready
        )

    def probe(self, now: float) -> None:
        """Ask the CS whether it is there (7.7, rule 12)."""
        if now < self._probed + PROBE_S:
            return
        self._probed, self._heard = now, self.connection.messages_received
        self.connection.probe(now)

    @property
    def has_answered(self) -> bool:
        """Whether anything came since it was probed."""
        return self.connection.messages_received > self._heard
