# SPDX-License-Identifier: Apache-2.0
"""Flows that the CS refused, remembered for NEG_HOLD, so that it gets no QUERY again (9.9)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows.pending import PendingFlow
from data_flow_segment.timers import Wheel
from ssmb.constants import LIMIT_HOLD_MS, NEG_HOLD_MS, TCP, ErrorCode
from ssmb.messages import Session

NEGATIVE_MAX: Final = 65536
"""Refusals remembered at a time; one more is not remembered, and its client asks again."""


_LIMITS: Final = frozenset((int(ErrorCode.CONNLIMIT), int(ErrorCode.BUSY)))


def hold_ms(flow: PendingFlow, error_code: int) -> int:
    """For how long a refusal holds.  A client that a limit refused repeats its SYN after a second;
    it shall find a place that was freed meanwhile."""
    is_tcp = flow.signature.protocol == TCP
    return LIMIT_HOLD_MS if is_tcp and flow.is_syn and error_code in _LIMITS else NEG_HOLD_MS


class NegativeEntries:
    """Session -> the error code of the refusal, until NEG_HOLD has passed."""

    def __init__(self, *, negative_max: int = NEGATIVE_MAX) -> None:
        self.by_session: dict[Session, tuple[int, float]] = {}
        self._negative_max = negative_max
        self._ends: Wheel[Session] = Wheel()

    def __len__(self) -> int:
        return len(self.by_session)

    def add(self, session: Session, error_code: int, now: float, for_ms: int = NEG_HOLD_MS) -> None:
        """Remember a refusal."""
        if len(self.by_session) < self._negative_max:
            deadline = now + for_ms / 1000
            self.by_session[session] = (error_code, deadline)
            self._ends.schedule(deadline, session)

    def error_of(self, session: Session, now: float) -> int | None:
        """How the flow was refused less than NEG_HOLD ago; None if it was not."""
        found = self.by_session.get(session)
        if found is None or now >= found[1]:
            return None
        return found[0]

    def forget(self, session: Session) -> None:
        """The CS changed its mind (NEWFLOW)."""
        self.by_session.pop(session, None)

    def clear_sessions(self) -> None:
        """Forget all refusals: the virtual servers changed."""
        self.by_session.clear()

    def get_timer(self) -> float | None:
        return self._ends.get_timer()

    def handle_timer(self, now: float) -> None:
        for session in self._ends.due(now):
            found = self.by_session.get(session)
            if found is not None and found[1] <= now:
                del self.by_session[session]
