# SPDX-License-Identifier: Apache-2.0
"""Octets that the proxy answers for on their way to one end: sent as the end's window allows, and
repeated until it acknowledges them (RFC 9293 3.8, RFC 6298, RFC 5681 3.1).

They are few, and all there before the first is sent or soon after: slow start and repeating from
the first octet that is missing are enough.
"""

from __future__ import annotations

from typing import Final

FIRST_FLIGHT: Final = 10  # full segments (RFC 6928)
RTO_S: Final = 0.2
"""Before the first repeat: as Linux's least one, because a node is near and a client waits."""
RTO_MAX_S: Final = 3.2

Piece = tuple[int, bytes]
"""An offset, and what is sent from there on."""


class Sender:
    """Offsets count from the first octet."""

    __slots__ = (
        "_budget", "_edge", "_highest", "_next", "_rto", "acknowledged", "mss", "octets", "timer",
    )  # fmt: skip

    def __init__(self, mss: int) -> None:
        self.mss = mss  # octets of data in a segment
        self.octets = bytearray()
        self.acknowledged = 0  # an offset
        self.timer: float | None = None
        self._next = 0
        self._highest = 0  # that `_next` ever was
        self._edge = 0  # of the end's window
        self._budget = FIRST_FLIGHT * mss
        self._rto = RTO_S

    @property
    def sent(self) -> int:
        """The offset behind what was sent."""
        return self._highest

    def hear(self, offset: int, window: int) -> None:
        """An acknowledgement of the octets before `offset`, with room for `window` more."""
        fresh = offset - self.acknowledged
        if fresh < 0 or offset > len(self.octets):
            return
        self._edge = offset + window
        if fresh:
            self.acknowledged = offset
            self._next = max(self._next, offset)
            self._budget += fresh
            self._rto = RTO_S
            self.timer = None

    def send(self, now: float) -> list[Piece]:
        """What can be sent now."""
        pieces = []
        edge = min(self._edge, self.acknowledged + self._budget, len(self.octets))
        while self._next < edge:
            size = min(self.mss, edge - self._next)
            is_short = size < min(self.mss, len(self.octets) - self._next)
            if is_short and self._next > self.acknowledged:
                break  # an acknowledgement makes room for a full one
            pieces.append(self._piece(size))
        if self.timer is None and self.acknowledged < len(self.octets):
            self.timer = now + self._rto
        if self.acknowledged >= len(self.octets):
            self.timer = None
        return pieces

    def expire(self, now: float) -> list[Piece]:
        """Time is up: repeat the first segment that is not acknowledged, or look with one octet
        whether a closed window has opened (RFC 9293 3.8.6.1)."""
        if self.timer is None or now < self.timer:
            return []
        self._rto = min(self._rto * 2, RTO_MAX_S)
        self.timer = now + self._rto
        self._next = self.acknowledged
        self._budget = self.mss
        size = min(self.mss, self._edge - self._next, len(self.octets) - self._next)
        return [self._piece(max(size, 1))]

    def shrink(self, mss: int, now: float) -> list[Piece]:
        """The path takes no more than that: what is on its way is lost."""
        if mss >= self.mss:
            return []
        self.mss = mss
        self._next = self.acknowledged
        return self.send(now)

    def forget(self) -> None:
        """Keep nothing and send nothing."""
        self.octets = bytearray()
        self.timer = None

    def _piece(self, size: int) -> Piece:
        start = self._next
        self._next = start + size
        self._highest = max(self._highest, self._next)
        return start, bytes(self.octets[start : start + size])
