# SPDX-License-Identifier: Apache-2.0
"""For how long this DFS may use the grants of a CS (wire protocol 13.2).

The time counts from when this DFS asked, by its own clock: however long the question and the answer
were on their way, a CS that answered had not changed anything before it was asked.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows.taken import TakenStream
from data_flow_segment.peers.groups import Peer
from ssmb.constants import GRANT_VALID_MS, LEASE_INTERVAL_MS, LEASE_RETRY_MS
from ssmb.messages import Lease as LeaseMessage

_WORD32: Final = 0xFFFFFFFF

EARLY_S: Final = 0.002
"""How long before its time a question goes along with something else, and saves a wake-up."""


class Lease:
    """With one CS."""

    def __init__(self, peer: Peer, lease_id: int, now: float) -> None:
        self.peer = peer
        self.boot_id = peer.boot_id
        self.lease_id = lease_id
        self.until = 0.0
        self.stream = TakenStream(lease_id)
        self.holds_grants = False
        self._is_answered = False
        self._asked_at: float | None = None
        self._began = now

    def get_timer(self) -> float | None:
        """When to ask."""
        if self._asked_at is None:
            return self._began
        if not self._is_answered:
            return self._asked_at + LEASE_RETRY_MS / 1000
        if self.holds_grants or not self.stream.is_confirmed:
            return self._asked_at + LEASE_INTERVAL_MS / 1000
        return None

    def ask(self, now: float) -> LeaseMessage:
        """Return the question."""
        self._asked_at = now
        return LeaseMessage(
            0, 0, 0, self.lease_id, int(now * 1000) & _WORD32, self.stream.sequence, 0
        )

    def answered(self, message: LeaseMessage, now: float) -> float | None:
        """Take the answer; return until when grants may be used if that is later than before."""
        self._is_answered = True
        self.stream.confirmed(message.sequence, now)
        now_ms = int(now * 1000)
        age_ms = (now_ms - message.timestamp) & _WORD32
        until = (now_ms - age_ms + min(message.valid_ms, GRANT_VALID_MS)) / 1000
        if age_ms >= GRANT_VALID_MS or until <= self.until or not message.valid_ms:
            return None
        self.until = until
        return until
