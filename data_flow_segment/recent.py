# SPDX-License-Identifier: Apache-2.0
"""Flows installed a moment ago: packets of theirs may still be on their way up.

A client repeats its SYN, or sends data right behind it, before the CS has answered.  What came up
before the entry was there and is read after it must not be asked about again: the CS could give the
living connection another node.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from data_flow_segment.pending import Session

RECENT_S: Final = 2.0
"""How long a packet may be on its way from the target to us: a target's queue, a stopped switch."""

RECENT_MAX: Final = 65536
"""Flows remembered; with more, the oldest yields."""


class RecentFlows:
    """Session -> when it was installed, for RECENT_S."""

    def __init__(self, *, recent_max: int = RECENT_MAX) -> None:
        self.by_session: dict[Session, float] = {}
        self._recent_max = recent_max
        self._order: deque[tuple[float, Session]] = deque()

    def add(self, session: Session, now: float) -> None:
        """It is installed now; those of long ago are forgotten in passing."""
        order = self._order
        while order and (order[0][0] <= now - RECENT_S or len(order) >= self._recent_max):
            since, old = order.popleft()
            if self.by_session.get(old) == since:  # else it was installed again since
                del self.by_session[old]
        self.by_session[session] = now
        order.append((now, session))

    def has(self, session: Session, now: float) -> bool:
        """Whether it was installed less than RECENT_S ago."""
        since = self.by_session.get(session)
        return since is not None and now - since < RECENT_S
