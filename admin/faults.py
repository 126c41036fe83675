# SPDX-License-Identifier: Apache-2.0
"""Mistakes of this program that one peer, packet or request meets: counted, logged, and kept to it.

Whoever serves many catches `Exception` around each of them and notes it here.  The log gets the
whole trace of the first fault at each place, and then a line at 10, 100, 1,000 ...: a peer that
finds a mistake can repeat it as often as it likes.
"""

from __future__ import annotations

import traceback
from collections.abc import MutableMapping
from typing import Final, TypeAlias

COUNTER: Final = "internal_errors"
MEANING: Final = (
    "mistakes of this program, each kept to the peer, packet or request that met it;"
    " the log has the place: please report it"
)
PAUSE_S: Final = 0.05  # before timers are looked at again after a fault in one: it may still be due
_Place: TypeAlias = tuple[str, str, int]


class Faults:
    """Notes them in a segment's counters and in lines for its log."""

    def __init__(self, counters: MutableMapping[str, int]) -> None:
        """`counters` has one named COUNTER."""
        self._counters = counters
        self._times: dict[_Place, int] = {}  # at most as many as this program has lines
        self._lines: list[str] = []

    def note(self, doing: str, error: Exception) -> None:
        """Count a fault; `doing`: what was being done, and for which peer."""
        self._counters[COUNTER] += 1
        place = _place(error)
        times = self._times[place] = self._times.get(place, 0) + 1
        if times == 1:
            trace = "".join(traceback.format_exception(error)).rstrip()
            self._lines.append(f"internal error while {doing}:\n{trace}")
        elif str(times).rstrip("0") == "1":
            self._lines.append(f"internal error while {doing}: {error!r}, the {times:,}th of these")

    def take_log(self) -> list[str]:
        """Return, once, what the log has to say."""
        lines, self._lines = self._lines, []
        return lines


def _place(error: Exception) -> _Place:
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return type(error).__name__, frame.f_code.co_filename, line
