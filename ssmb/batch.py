# SPDX-License-Identifier: Apache-2.0
"""What waits for companions: the L messages to one peer (wire protocol 6.8)."""

from __future__ import annotations

from ssmb.codec import encode
from ssmb.constants import BATCH_DELAY_MS, SSMB_MSG_MAX
from ssmb.messages import Message


class Batcher:
    """Collects batchable messages; a full datagram leaves at once, the rest after BATCH_DELAY."""

    __slots__ = ("_deadline", "_full", "_open", "_version")

    def __init__(self, version: int) -> None:
        self._version = version
        self._open = bytearray()
        self._full: list[bytes] = []
        self._deadline: float | None = None

    def add(self, message: Message, now: float) -> None:
        """Take a message of a type with Batching Y."""
        octets = encode(message, self._version)
        if len(self._open) + len(octets) > SSMB_MSG_MAX:
            self._close()
        self._open += octets
        if self._deadline is None:
            self._deadline = now + BATCH_DELAY_MS / 1000

    def add_finished(self, octets: bytes, size: int, now: float) -> None:
        """Take messages that are encoded already, back to back, each of so many octets."""
        start = 0
        while start < len(octets):
            room = (SSMB_MSG_MAX - len(self._open)) // size * size
            if not room:
                self._close()
                continue
            self._open += octets[start : start + room]
            start += room
        if self._deadline is None and self._open:
            self._deadline = now + BATCH_DELAY_MS / 1000

    def get_timer(self) -> float | None:
        """When `due` has something at the latest."""
        return self._deadline

    def due(self, now: float) -> list[bytes]:
        """Return the datagrams that must leave now."""
        if self._deadline is not None and now >= self._deadline:
            return self.flush()
        full, self._full = self._full, []
        return full

    def flush(self) -> list[bytes]:
        """Return everything: an H message goes to the same peer, or the peer's keys change."""
        self._close()
        full, self._full = self._full, []
        return full

    def _close(self) -> None:
        if self._open:
            self._full.append(bytes(self._open))
            self._open.clear()
        self._deadline = None
