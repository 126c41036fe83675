# SPDX-License-Identifier: Apache-2.0
"""Segments of a client's first flight that come without its first one.

Its client repeats what was not acknowledged, the first of it first.  If it goes on with a later
segment, the first one was acknowledged: by a DFS that is dead, or that has lost the connection.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ssmb.messages import Session

OVERDUE_S: Final = 1.0
"""A client's first repeat comes by then (RFC 6298 2.1), and a probe of its last segment before."""

KEPT_S: Final = 64.0
"""Repeats are twice as far apart each time; a connection that nobody knows hears of it by then."""

KEPT_MAX: Final = 16384
"""One more is taken for early whenever it comes."""


class EarlySegments:
    """When the first of them came, by session and cookie."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[Session, int], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def is_overdue(self, session: Session, ack: int, now: float) -> bool:
        """Whether the first segment should have come since one like this came first."""
        since = self._since
        while since and now - next(iter(since.values())) > KEPT_S:
            since.popitem(last=False)
        known = since.get((session, ack))
        if known is None:
            if len(since) < KEPT_MAX:
                since[session, ack] = now
            return False
        return now - known >= OVERDUE_S

    def forget(self, session: Session, ack: int) -> None:
        """The first segment came."""
        self._since.pop((session, ack), None)
