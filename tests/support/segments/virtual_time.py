# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still while something happens, and goes on to the next thing that does."""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any


class VirtualTime(ABC):
    """The clock of a simulation, which is built upon it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    def at(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something later; what is due at the same time is done in the order of asking."""
        heapq.heappush(self._queue, (self.now + delay_s, next(self._numbers), action, arguments))

    def run(self, seconds: float) -> None:
        """Everything that happens within the next seconds."""
        until = self.now + seconds
        while True:
            timers = [timer for timer in self._timers() if timer is not None]
            if self._queue:
                timers.append(self._queue[0][0])
            due = min(timers, default=until + 1)
            if due > until:
                break
            self.now = max(self.now, due)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, action, arguments = heapq.heappop(self._queue)
                action(*arguments)
                self._settle()
            self._handle_timers()
        self.now = until

    @abstractmethod
    def _timers(self) -> Iterable[float | None]:
        """When each part wants to be woken up."""

    @abstractmethod
    def _handle_timers(self) -> None:
        """Wake up what wants to be, now."""

    @abstractmethod
    def _settle(self) -> None:
        """Carry on what an action began, until all is quiet."""
