# SPDX-License-Identifier: Apache-2.0
"""One CSMB connection of the CS to one configured DFS address, from connect to close and again."""

from __future__ import annotations

from csmb.connection import Connection
from csmb.constants import RETRY_MAX_S, RETRY_MIN_S
from csmb.events import Closed
from csmb.messages import Message

_READY_LONG_ENOUGH_S = 10.0  # then the next connect is tried as if it were the first


class Link:
    """The connection, or when to try the next."""

    __slots__ = (
        "_last_octets",
        "_retry_s",
        "connection",
        "csmb_version",
        "peer_id",
        "ready_since",
        "reason",
    )

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.csmb_version = 1
        self.peer_id: int | None = None  # the DFS's segment id, while ready
        self.ready_since = 0.0
        self.reason = "not connected yet"  # why there is no connection
        self._retry_s = RETRY_MIN_S
        self._last_octets = b""  # of the connection before

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        return self.peer_id is not None

    def opened(self, connection: Connection) -> None:
        """TCP is connected."""
        self.connection = connection
        self._last_octets = b""
        self.reason = ""

    def data_to_send(self) -> bytes:
        """Return, once, what is to be written to the stream; also after `closed`."""
        if self.connection is not None:
            return self.connection.data_to_send()
        octets, self._last_octets = self._last_octets, b""
        return octets

    def failed(self, reason: str) -> float:
        """TCP could not be connected; return how long to wait (7.7: 1 to 30 s)."""
        self.reason = reason
        wait_s, self._retry_s = self._retry_s, min(self._retry_s * 2, RETRY_MAX_S)
        return wait_s

    def became_ready(self, peer_id: int, csmb_version: int, now: float) -> None:
        """The connection is authenticated."""
        self.peer_id = peer_id
        self.csmb_version = csmb_version
        self.ready_since = now

    def closed(self, event: Closed, now: float) -> float:
        """The connection is over; return how long to wait before the next."""
        if self.is_ready and now - self.ready_since >= _READY_LONG_ENOUGH_S:
            self._retry_s = RETRY_MIN_S
        self._last_octets = self.data_to_send()
        self.peer_id = None
        self.connection = None
        wait_s = self.failed(event.reason)
        return wait_s if event.retry_after_s is None else event.retry_after_s

    def send(self, message: Message, now: float) -> None:
        """Send a message if the connection is ready; otherwise READY will say everything anew."""
        if self.connection is not None and self.is_ready:
            self.connection.send(message, now)
