# SPDX-License-Identifier: Apache-2.0
"""When to look at the target's table, how much of it, and whether for STATS (9.8, 9.11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from data_flow_segment.peers.groups import Peers
from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowHalf,
    FlowIdle,
    FlowLooping,
    FlowMoved,
)

SLICE: Final = 4096
SLICE_INTERVAL_S: Final = 0.05
"""At most 80,000 entries per second: a table of a million takes 12 s per pass, by which an idle
timeout of minutes may be late, and costs some percent of a processor."""

SPREAD_S: Final = 3.0
"""A pass of several slices takes as long if that is enough: where flows come and go, most of the
table lies there for LINGER, and nothing is found."""

_FOUND: Final = frozenset({FlowClosed, FlowHalf, FlowIdle, FlowLooping, FlowMoved})

PASS_INTERVAL_S: Final = 1.0
"""A small table is examined once per second, the unit of idle timeouts."""


class Step(NamedTuple):
    """A call of `Target.sweep`."""

    limit: int
    stats: bool


class Sweeps:
    """Paces the passes.  STATS of all groups go by the shortest interval that one of them wants."""

    def __init__(self, peers: Peers, now: float) -> None:
        self._peers = peers
        self._next_at = now
        self._pass_began: float | None = None
        self._looked_at = now
        self._slices = self._slices_before = 0  # that found nothing: of this pass, and of the last
        self._stats = False
        self._stats_at = now

    def get_timer(self) -> float:
        return self._next_at

    def due(self, now: float) -> Step | None:
        """The call to make now; pass what it returned to `finished`."""
        if now < self._next_at:
            return None
        if self._pass_began is None:
            self._pass_began = now
            self._stats = self._begin_stats(now)
            self._slices, self._slices_before = 0, self._slices
        self._looked_at = now
        self._next_at = now + SLICE_INTERVAL_S
        return Step(SLICE, self._stats)

    def finished(self, complete: bool, events: Iterable[Event]) -> None:
        """`complete`: what `Target.sweep` returned; `events`: what `Target.events` did then."""
        if not any(event.__class__ in _FOUND for event in events):  # else there may be more of it
            self._slices += 1
            expected = max(self._slices_before, self._slices)
            if expected > 1:
                spread_s = min([SPREAD_S, *self._stats_intervals()])
                self._next_at = self._looked_at + max(SLICE_INTERVAL_S, spread_s / expected)
        if complete and self._pass_began is not None:
            self._next_at = max(self._next_at, self._pass_began + PASS_INTERVAL_S)
            self._pass_began = None

    def _stats_intervals(self) -> list[int]:
        """Seconds, of those who want STATS."""
        return [
            group.active.config.stats_interval
            for group in self._peers.groups.values()
            if group.active is not None and group.active.config.stats_interval
        ]

    def _begin_stats(self, now: float) -> bool:
        intervals = self._stats_intervals()
        if not intervals or now < self._stats_at:
            return False
        self._stats_at = now + min(intervals)
        return True
