# SPDX-License-Identifier: Apache-2.0
"""How many packets of one connection the agent reads before it is spliced.

Whoever has completed one handshake could otherwise keep the agent busy with copies of a segment,
and everybody else waiting: a packet costs as much as a new connection.  What was spent is known
beyond the connection's end, since its cookie is good for a minute or two.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ssmb.messages import Session

AT_ONCE: Final = 512
"""Many times what a client needs whose octets come in segments of a few hundred octets."""

PER_S: Final = 200.0
SESSIONS_MAX: Final = 32768
"""Twice the connections at a time; the one that was silent for the longest time yields."""


class Budgets:
    """One for each session."""

    def __init__(self, *, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        # what was spent, as of when; the latest last
        self._spent: OrderedDict[Session, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spent)

    def spend(self, session: Session, now: float) -> bool:
        """Whether one more packet may be read; then it counts."""
        before, at = self._spent.get(session, (0.0, now))
        spent = max(0.0, before - (now - at) * PER_S)
        if spent > AT_ONCE - 1:
            return False
        self._spent[session] = spent + 1, now
        self._spent.move_to_end(session)
        if len(self._spent) > self._sessions_max:
            self._spent.popitem(last=False)
        return True
