# SPDX-License-Identifier: Apache-2.0
"""One accepted CSMB connection, as this DFS keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from csmb.connection import Connection
from csmb.events import Ready
from csmb.messages import Hello
from data_flow_segment.peers.groups import Peer

PROBE_S: Final = 1.0
"""Between two probes of a connection: anybody may cause them."""


@dataclass(slots=True)
class Accepted:
    """A connection, from accept to close."""

    connection: Connection
    address: str  # of its other end; `::`: not known
    ready: Ready | None = None  # authenticated; until its first sealed HELLO
    peer: Peer | None = None  # the CS, from that HELLO on
    was_ready: bool = False
    _probed: float = float("-inf")
    _heard: int = 0  # messages that had come when it was probed

    @property
    def who(self) -> str:
        """For the log."""
        stranger = f"an unauthenticated CS ({self.address})"
        return stranger if self.peer is None else self.peer.name

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


def of_another_boot(
    accepted: Mapping[int, Accepted], hello: Hello, but: Accepted | None
) -> list[tuple[int, Accepted]]:
    """The connections of what a CS was before it was started again, or of a second CS with its
    number; not the connection that it says HELLO on."""
    return [
        (connection_id, each)
        for connection_id, each in accepted.items()
        if each is not but
        and each.peer is not None
        and each.peer.hello.segment_id == hello.segment_id
        and each.peer.boot_id != hello.boot_id
        and each.connection.is_ready
    ]
