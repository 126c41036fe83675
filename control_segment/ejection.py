# SPDX-License-Identifier: Apache-2.0
"""What counts against one node, and for how long it is ejected: a table of states (pure).

The data path's word on connections comes with the end of each: refused, not answered, or opened
(`control_segment.openings`).  What began before a node came back says nothing of it.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Protocol


class Limits(Protocol):
    """`control_segment.outlier_config.OutlierConfig`, which imports methods, which import nodes."""

    @property
    def failures(self) -> int: ...
    @property
    def window_s(self) -> int | None: ...
    @property
    def response_ms(self) -> int | None: ...
    @property
    def ejection_s(self) -> int: ...
    @property
    def max_ejection_s(self) -> int: ...


class Standing(Enum):
    """Of a node."""

    GOOD = "good"
    SUSPECT = "suspect"  # over a limit, and nobody has judged it yet
    EJECTED = "ejected"  # takes no new sessions


class Finding(Enum):
    """What changes it."""

    OVER = "over a limit"
    EJECTION = "judged: it may be ejected"
    SPARING = "judged: too few would be left"
    TIME = "its time is over"
    PARDON = "an operator enabled it, or it is no longer watched"


# What is not here changes nothing
TABLE: Final[dict[tuple[Standing, Finding], Standing]] = {
    (Standing.GOOD, Finding.OVER): Standing.SUSPECT,
    (Standing.SUSPECT, Finding.EJECTION): Standing.EJECTED,
    (Standing.SUSPECT, Finding.SPARING): Standing.GOOD,
    (Standing.SUSPECT, Finding.PARDON): Standing.GOOD,
    (Standing.EJECTED, Finding.TIME): Standing.GOOD,
    (Standing.EJECTED, Finding.PARDON): Standing.GOOD,
}


class Record:
    """Of one node; the hot path writes it."""

    __slots__ = ("_failures", "_since", "limits", "reason", "standing", "times", "until")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.standing = Standing.GOOD
        self.reason = ""  # of the last ejection, for people
        self.times = 0  # ejections, of which each came soon after the one before
        self.until = 0.0  # the end of the last one
        self._since = 0.0  # connections that began earlier do not count
        # The latest connections, as far as they count: serial, and when they failed
        self._failures: deque[tuple[int, float]] = deque()

    @property
    def is_ejected(self) -> bool:
        """Whether it takes no new sessions."""
        return self.standing is Standing.EJECTED

    # --- what is seen ----------------------------------------------------------------------------

    def failed(self, serial: int, began: float, now: float) -> bool:
        """A connection was refused, or not answered yet; return whether the node is a suspect now.

        A connection counts once, however often its client repeats its SYN.
        """
        if self.standing is not Standing.GOOD or began < self._since:
            return False
        failures, limits = self._failures, self.limits
        if any(serial == other for other, _ in failures):
            return False
        failures.append((serial, now))
        while len(failures) > limits.failures:
            failures.popleft()
        if len(failures) < limits.failures:
            return False
        if limits.window_s is not None and now - failures[0][1] > limits.window_s:
            return False
        within = "in a row" if limits.window_s is None else f"within {now - failures[0][1]:.0f} s"
        return self._is_over(f"{limits.failures} connections {within} were refused or not answered")

    def opened(self, began: float) -> None:
        """A connection was accepted."""
        failures = self._failures
        if failures and self.limits.window_s is None and began >= self._since:
            failures.clear()

    def responded(self, response_ms: float) -> bool:
        """It answers so fast, as the method smooths it; whether the node is a suspect now."""
        limit = self.limits.response_ms
        if limit is None or response_ms <= limit or self.standing is not Standing.GOOD:
            return False
        return self._is_over(f"it answers in {response_ms:.0f} ms, the limit is {limit} ms")

    def _is_over(self, reason: str) -> bool:
        self.reason = reason
        return self._follow(Finding.OVER)

    # --- what is decided -------------------------------------------------------------------------

    def eject(self, now: float) -> None:
        """It may be: it takes no sessions for a time that grows with each ejection, and begins
        anew after as long a time without one."""
        if self._follow(Finding.EJECTION):
            limits = self.limits
            soon = now - self.until < limits.max_ejection_s
            self.times = self.times + 1 if soon else 1
            self.until = now + min(limits.ejection_s * self.times, limits.max_ejection_s)

    def spare(self) -> None:
        """It stays, and what counted against it counts no longer."""
        if self._follow(Finding.SPARING):
            self._failures.clear()

    def look(self, now: float) -> bool:
        """Return whether its time has just come."""
        return now >= self.until and self._come_back(Finding.TIME, now)

    def pardon(self, now: float) -> bool:
        """Return whether it was ejected until now."""
        was_ejected = self.is_ejected
        if was_ejected:
            self.until, self.times = now, 0
        return self._come_back(Finding.PARDON, now) and was_ejected

    def _come_back(self, finding: Finding, now: float) -> bool:
        if not self._follow(finding):
            return False
        self._since = now
        self._failures.clear()
        return True

    def _follow(self, finding: Finding) -> bool:
        """Whether its standing has changed."""
        before = self.standing
        self.standing = TABLE.get((before, finding), before)
        return self.standing is not before
