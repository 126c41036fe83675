# SPDX-License-Identifier: Apache-2.0
"""Log lines that strangers can cause: a few of each kind, and then how many more there were.

Whoever can reach a port can cause lines without end, and a full disk.  Every line that nobody with
a key stands behind goes through here, in both kinds of segment.
"""

from __future__ import annotations

from typing import Final

LINES: Final = 10  # of one kind in INTERVAL_S
INTERVAL_S: Final = 60.0


class _Kind:
    __slots__ = ("left_out", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines = 0
        self.left_out = 0


class QuietLog:
    """Lines by kind; the caller writes what `take` returns.

    A kind is a phrase for a place in this program, at most with a configured peer: strangers must
    not be able to make kinds.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._lines: list[str] = []

    def add(self, kind: str, line: str, now: float) -> None:
        """Log a line, unless LINES of its kind were logged in this interval."""
        self._end_intervals(now)
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind(now)
        if known.lines >= LINES:
            known.left_out += 1
            return
        known.lines += 1
        self._lines.append(line)

    def take(self) -> list[str]:
        """Return, once, what is to be written."""
        lines, self._lines = self._lines, []
        return lines

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to say."""
        busy = (kind.since + INTERVAL_S for kind in self._kinds.values() if kind.left_out)
        return min(busy, default=None)

    def handle_timer(self, now: float) -> None:
        """Say how many lines were left out of intervals that are over."""
        self._end_intervals(now)

    def _end_intervals(self, now: float) -> None:
        over = [name for name, kind in self._kinds.items() if now >= kind.since + INTERVAL_S]
        for name in over:
            kind = self._kinds.pop(name)
            if kind.left_out:
                self._lines.append(
                    f"{kind.left_out:,} more lines like these in {INTERVAL_S:.0f} s: {name}"
                )
