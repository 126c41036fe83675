# SPDX-License-Identifier: Apache-2.0
"""When each target is probed, and what follows: targets and observations in, `Said` out.

Probes of one monitor are spread over its interval, so that they come evenly however many targets
there are.  A first one comes soon, and the next at the target's own place in the interval.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from typing import Final

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Machine, Observed, Said
from control_segment.health.targets import Target

FIRST_S: Final = 1.0  # within which every new target is probed, if probes are fast enough
_GOLDEN: Final = 0.6180339887498949  # its multiples modulo 1 are as even as can be, at any number


class Watch:
    """A target that is probed."""

    __slots__ = ("due", "interval_s", "is_running", "machine", "monitor", "phase_s", "target")

    def __init__(self, target: Target, monitor: MonitorConfig, said: Said) -> None:
        self.target = target
        self.monitor = monitor
        self.machine = Machine(monitor, said)
        self.interval_s = monitor.interval_ms / 1000
        self.phase_s = 0.0  # where in its monitor's interval it is probed
        self.due: float | None = None  # None: it is being probed, or no longer watched
        self.is_running = False


class Schedule:
    """All targets."""

    def __init__(self) -> None:
        self._watches: dict[Target, Watch] = {}
        self._queue: list[tuple[float, int, Watch]] = []
        self._count = 0  # of targets ever, for their places
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def targets(self) -> Collection[Target]:
        """What is probed."""
        return self._watches.keys()

    def add(self, target: Target, monitor: MonitorConfig, said: Said, now: float) -> None:
        """Probe a target from now on; if it was there already, by what the monitor is now."""
        self.remove(target)
        self._watches[target] = watch = Watch(target, monitor, said)
        self._count += 1
        place = self._count * _GOLDEN % 1
        watch.phase_s = place * watch.interval_s
        self._push(watch, now + place * min(FIRST_S, watch.interval_s))

    def remove(self, target: Target) -> None:
        """Probe it no longer; what a probe under way finds is not taken."""
        watch = self._watches.pop(target, None)
        if watch is not None:
            watch.due = None

    def get_timer(self) -> float | None:
        """When the next probe is due."""
        queue = self._queue
        while queue and queue[0][2].due != queue[0][0]:
            heappop(queue)
        return queue[0][0] if queue else None

    def take_due(self, now: float) -> Watch | None:
        """Return one that is to be probed now; `observed` takes what was found."""
        due = self.get_timer()
        if due is None or due > now:
            return None
        watch = heappop(self._queue)[2]
        watch.due, watch.is_running = None, True
        return watch

    def observed(self, watch: Watch, seen: Observed, began: float, now: float) -> Said | None:
        """A probe that *began* then has ended; return what is said of its target, if it changed."""
        watch.is_running = False
        if self._watches.get(watch.target) is not watch:
            return None
        has_changed = watch.machine.observed(seen, now)
        self._push(watch, self._next(watch, began, now))
        return watch.machine.said if has_changed else None

    def _next(self, watch: Watch, began: float, now: float) -> float:
        fast_ms = watch.monitor.fast_interval_ms
        if fast_ms is not None and watch.machine.is_changing:
            return max(now, began + fast_ms / 1000)
        # At most an interval later, at the target's own place
        interval_s = watch.interval_s
        following = began + interval_s
        at_place = following - (following - watch.phase_s) % interval_s
        return max(now, at_place if at_place - began > interval_s / 20 else following)

    def _push(self, watch: Watch, due: float) -> None:
        watch.due = due
        self._pushed += 1
        heappush(self._queue, (due, self._pushed, watch))
