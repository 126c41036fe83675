# SPDX-License-Identifier: Apache-2.0
"""What became of granted decisions, on its way to the CS: TAKEN (wire protocol 13.4).

The target gives finished octets, and nothing here looks at a single flow.  A datagram is kept until
the CS has confirmed it, and repeated as a whole.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ssmb.constants import TAKEN_FLOWS_MAX, TAKEN_RETRY_MS, Flag
from ssmb.grants import FLOW_SIZE
from ssmb.messages import Taken

_FULL: Final = TAKEN_FLOWS_MAX * FLOW_SIZE
_RETRY: Final = int(Flag.RETRY)
_WORD32: Final = 0xFFFFFFFF
REPEATED_AT_ONCE: Final = 16
UNCONFIRMED_MAX: Final = 1024
"""Datagrams on their way; with more the CS is gone, and the next ones wait."""

_DOUBLED_MAX: Final = 5


class TakenStream:
    """Of one lease."""

    def __init__(self, lease_id: int) -> None:
        self._lease_id = lease_id
        self._open = bytearray()
        self._added_at = 0.0
        self._sequence = 0
        # Sent, the first one first: sequence, flows, when last
        self._sent: deque[tuple[int, bytes, float]] = deque()
        self._retry_at: float | None = None
        self._tries = 0

    @property
    def sequence(self) -> int:
        """The last one that was sent."""
        return self._sequence

    @property
    def is_confirmed(self) -> bool:
        """Whether the CS knows everything."""
        return not self._sent and not self._open

    def add(self, flows: bytes, now: float) -> None:
        """Any number of whole flows, in the order in which they are to be told.  They have waited
        for companions in the target, and go at once: before the DELETEs of these flows."""
        self._added_at = now
        self._open += flows

    def take_unsent(self) -> bytes:
        """The lease is over: what nobody was told."""
        flows = bytes(self._open)
        self._open.clear()
        return flows

    def confirmed(self, sequence: int, now: float) -> None:
        """The CS has everything up to this one."""
        sent = self._sent
        if not sent or sequence < sent[0][0] or sequence > self._sequence:
            return
        while sent and sent[0][0] <= sequence:
            sent.popleft()
        self._tries = 0
        self._retry_at = sent[0][2] + TAKEN_RETRY_MS / 1000 if sent else None

    def get_timer(self) -> float | None:
        """When `due` has something at the latest."""
        timers = [self._retry_at]
        if self._open and len(self._sent) < UNCONFIRMED_MAX:
            timers.append(self._added_at)
        return min((timer for timer in timers if timer is not None), default=None)

    def due(self, now: float) -> list[Taken]:
        """Return what is to be sent now."""
        messages = []
        while self._open and len(self._sent) < UNCONFIRMED_MAX:
            messages.append(self._next(now))
        if self._retry_at is not None and now >= self._retry_at:
            messages += self._repeats(now)
        return messages

    def _next(self, now: float) -> Taken:
        flows = bytes(self._open[:_FULL])
        del self._open[:_FULL]
        self._sequence += 1
        self._sent.append((self._sequence, flows, now))
        if self._retry_at is None:
            self._retry_at = now + TAKEN_RETRY_MS / 1000
        return self._message(self._sequence, flows, 0, now)

    def _repeats(self, now: float) -> list[Taken]:
        """The oldest ones that are not confirmed; longer waits where nothing is heard at all."""
        young_s = TAKEN_RETRY_MS / 2000  # those that went a moment ago are not lost yet
        messages = []
        for at in range(min(len(self._sent), REPEATED_AT_ONCE)):
            sequence, flows, sent_at = self._sent[at]
            if now - sent_at >= young_s:
                self._sent[at] = sequence, flows, now
                messages.append(self._message(sequence, flows, _RETRY, now))
        self._tries = min(self._tries + 1, _DOUBLED_MAX)
        self._retry_at = now + (TAKEN_RETRY_MS << (self._tries - 1)) / 1000
        return messages

    def _message(self, sequence: int, flows: bytes, flags: int, now: float) -> Taken:
        timestamp = int(now * 1000) & _WORD32
        return Taken(0, flags, 0, self._lease_id, sequence, timestamp, flows)
