# SPDX-License-Identifier: Apache-2.0
"""How good this CS's copy of one DFS's flows is: complete, and equal to the active CS's (11.8)."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from ssmb.multicast import GroupStream
from ssmb.seal import Opens

GAP_S: Final = 0.2  # datagrams may overtake each other for so long
QUIET_S: Final = 2.0  # without a change on either side; then a difference is one
RESYNC_FIRST_S: Final = 0.5  # between SYNCs that a gap or a difference causes
RESYNC_MOST_S: Final = 16.0  # each waits twice as long as the one before it, unless that
HELPED_S: Final = 2.0  # has made the copy complete for so long
_MASK: Final = (1 << 64) - 1


class _Counted(Protocol):
    """What knows which counters have come."""

    def missing(self, first: int, last: int) -> int:
        """How many from *first* to *last* have not."""


class _Gaps:
    """Looks for the counters of one stream that are missing after GAP."""

    __slots__ = ("_checked", "_highest", "_stream")

    def __init__(self) -> None:
        self._stream: _Counted | None = None
        self._checked = 0  # no counter is missing up to this one that is not known to be
        self._highest: deque[tuple[float, int]] = deque()

    def follow(self, stream: _Counted | None, checked: int = 0) -> None:
        """Look at this stream from now on, behind that counter."""
        if stream is not self._stream:
            self._stream, self._checked = stream, checked
            self._highest.clear()

    def look(self, highest: int, now: float, patience_s: float = GAP_S) -> int:
        """Return how many more are missing by now; *highest*: of those that were sent."""
        if self._stream is None:
            return 0
        self._highest.append((now, highest))
        last = None
        while self._highest and self._highest[0][0] <= now - patience_s:
            last = self._highest.popleft()[1]
        if last is None or last <= self._checked:
            return 0
        missing = self._stream.missing(self._checked + 1, last)
        self._checked = last
        return missing


class CopyState:
    """Of one DFS."""

    __slots__ = (
        "_asked",
        "_complete_since",
        "_gaps",
        "_group_gaps",
        "_is_synchronised",
        "_listening",
        "_seen",
        "_seen_at",
        "_sync_again_at",
        "_sync_wait_s",
        "_unmended",
        "differs",
        "equal_at",
        "gaps",
        "is_complete",
    )

    def __init__(self) -> None:
        self.is_complete = False  # a SYNC has ended, and nothing has been missed since
        self.equal_at: float | None = None  # when it was last found to be equal
        self.differs = False  # at the last comparison
        self.gaps = 0  # datagrams that did not come
        self._gaps = _Gaps()
        self._group_gaps = _Gaps()
        self._listening: GroupStream | None = None  # what those are of, while it is heard
        self._seen: tuple[int, int, int, int] | None = None  # what was compared last
        self._seen_at = 0.0
        self._asked: tuple[int, int, int, int] | None = None  # a difference that SYNC is to mend
        self._unmended: tuple[int, int, int, int] | None = None  # one that it did not
        self._is_synchronised = False  # since it was last lost
        self._sync_again_at = 0.0
        self._sync_wait_s = RESYNC_FIRST_S
        self._complete_since: float | None = None  # the latest SYNC, as `look` has seen

    def synchronised(self) -> None:
        """A SYNC has ended: it has every flow."""
        self.is_complete = self._is_synchronised = True
        self._complete_since = None
        self._unmended = self._asked

    def lost(self) -> None:
        """The connection has ended, or the DFS has lost its flows: the next SYNC tells."""
        self.is_complete = self._is_synchronised = False
        self._seen = self._asked = self._unmended = None

    def look(self, opener: Opens | None, now: float) -> bool:
        """Look for datagrams of the DFS that are missing by now; whether there are new ones."""
        self._see_whether_that_helped(now)
        self._gaps.follow(opener)
        return self._missed(0 if opener is None else self._gaps.look(opener.latest(), now))

    def look_at_group(self, stream: GroupStream | None, now: float) -> bool:
        """The same of what the active CS sends to the multicast group (11.2).

        While this CS does not hear the group, the DFS sends copies; what had been sent before it
        knew that is missing.
        """
        before, missing = self._listening, 0
        if before is not None and (before is not stream or not before.hears(now)):
            missing = self._group_gaps.look(before.highest(), now, 0.0)
            self._group_gaps.follow(None)
            self._listening = None
        if stream is not None and stream.hears(now):
            self._listening = stream
            self._group_gaps.follow(stream, stream.since - 1)
            missing += self._group_gaps.look(stream.highest(), now)
        return self._missed(missing)

    def _see_whether_that_helped(self, now: float) -> None:
        """What is missed later, for example because a link fails now and then, has another cause:
        it is mended as soon as the first."""
        if not self.is_complete:
            self._complete_since = None
        elif self._complete_since is None:
            self._complete_since = now
        elif now - self._complete_since >= HELPED_S:
            self._sync_wait_s = RESYNC_FIRST_S

    def _missed(self, missing: int) -> bool:
        self.gaps += missing
        if missing:
            self.is_complete = False
        return missing > 0

    def compare(self, theirs: tuple[int, int], ours: tuple[int, int], now: float) -> bool:
        """Compare counts and digests with the active CS's; return whether they differ although
        neither has changed for a while, which a SYNC must mend.

        If one has ended and they still differ as before, the active CS has a flow that has ended;
        its timers find that out.  If they are equal, nothing is missing any more.
        """
        seen = theirs[0], theirs[1] & _MASK, ours[0], ours[1] & _MASK
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        self.differs = seen[:2] != seen[2:]
        if not self.differs:
            self.equal_at = now
            self.is_complete = self._is_synchronised
            return False
        if now - self._seen_at < QUIET_S or seen == self._unmended:
            return False
        self.is_complete = False
        self._asked = seen
        return True

    def may_sync(self, now: float) -> bool:
        """Whether a SYNC may be asked for because of that; more rarely while that does not help."""
        if now < self._sync_again_at:
            return False
        if now > self._sync_again_at + RESYNC_MOST_S:
            self._sync_wait_s = RESYNC_FIRST_S
        self._sync_again_at = now + self._sync_wait_s
        self._sync_wait_s = min(2 * self._sync_wait_s, RESYNC_MOST_S)
        return True
