# SPDX-License-Identifier: Apache-2.0
"""When to take what a target reports that may wait for companions (`Target.late_fileno`, 6.8).

While flows come and go there is always something, and a wake-up for each costs more than what it
brings.  So the descriptor is watched only at rest; then everything is taken once in BATCH_DELAY, if
possible in a wake-up that happens anyway (LEASE goes as often).  Standbys are to have a flow before
the packet behind its first one: for them nothing waits that comes alone, and nothing long.
"""

from __future__ import annotations

from typing import Final

from ssmb.constants import BATCH_DELAY_MS

WAIT_S: Final = (BATCH_DELAY_MS - 1) / 1000
"""In the target.  An event loop counts in milliseconds, and what was taken goes at once."""

SHARED_WAIT_S: Final = 0.003
"""The same with standbys: less than a client's second packet takes over most ways, and so long as
lets them be told of a granted flow within 5 ms, if the machine has time (docs/benchmarks.md)."""


class Companions:
    """Asked by a runtime, which watches the descriptor while `is_resting`."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._slack_s = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether nobody knows of a report that waits."""
        return self._due is None

    def came(self, now: float, *, is_shared: bool) -> None:
        """The descriptor is readable; `is_shared`: standbys get copies."""
        self._wait(now, 0.0 if is_shared else WAIT_S)

    def get_timer(self) -> float | None:
        """When to take what waits, at the latest."""
        return self._due

    def is_due(self, now: float) -> bool:
        """Whether to take it now: also when half of the wait is over, in a wake-up for something
        else."""
        return self._due is not None and now >= self._due - self._slack_s

    def taken(self, now: float, *, some: bool, is_shared: bool) -> None:
        """All that waited was taken; `some`: there was something, and more will come."""
        if some:
            self._wait(now, SHARED_WAIT_S if is_shared else WAIT_S)
        else:
            self._due = None

    def _wait(self, now: float, wait_s: float) -> None:
        self._due, self._slack_s = now + wait_s, wait_s / 2
