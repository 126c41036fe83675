# SPDX-License-Identifier: Apache-2.0
"""Flows installed a moment ago: packets of theirs may still be on their way up.

A client repeats its SYN, or sends data right behind it, before the CS has answered.  What came up
before the entry was there and is read after it must not be asked about again: the CS could give the
living connection another node.

A flow that ended is forgotten at once (`closing`), so that a SYN from the same port is asked about.
Nothing is looked up in the target, which for a switch means asking it, and a switch that was slow
is when many packets are late.  An adopted table needs none of this: what came up before its agent
began was its predecessor's and is gone with it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ssmb.messages import Session

RECENT_S: Final = 4.0
"""How long a packet may be on its way to us, from when its flow was decided: a target's queue, a
switch that stood still.  A client's first two repeats of a SYN (after 1 s and 3 s) lie within."""

RECENT_MAX: Final = 65536
"""Flows remembered (some 25 MB); with more, the oldest yields."""


class RecentFlows:
    """Session -> serial of the flow installed for it in the last RECENT_S."""

    def __init__(self, *, recent_max: int = RECENT_MAX) -> None:
        self.by_session: dict[Session, int] = {}  # some are of long ago: ask `has`
        self._recent_max = recent_max
        self._order: deque[tuple[float, Session, int]] = deque()

    def add(self, session: Session, serial: int, now: float) -> None:
        """It is installed now; the oldest yields."""
        order = self._order
        if order and (order[0][0] <= now - RECENT_S or len(order) >= self._recent_max):
            self._tidy(now, self._recent_max - 1)
        self.by_session[session] = serial
        order.append((now, session, serial))

    def forget(self, session: Session, serial: int) -> None:
        """This flow ended; another one that took its place is not concerned."""
        if self.by_session.get(session) == serial:
            del self.by_session[session]

    def has(self, session: Session, now: float) -> bool:
        """Whether a flow was installed for it less than RECENT_S ago, and has not ended."""
        self._tidy(now, self._recent_max)
        return session in self.by_session

    def _tidy(self, now: float, most: int) -> None:
        """Forget those of long ago, and the oldest ones if there are more than `most`."""
        order, long_ago = self._order, now - RECENT_S
        while order and (order[0][0] <= long_ago or len(order) > most):
            _, session, serial = order.popleft()
            self.forget(session, serial)
