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
        """Do something later; what is due at the same time is done in the order of asking.

        It may do anything to any part, so all of them are looked after when it is done.
        """
        self.later(delay_s, self._do_anything, action, *arguments)

    def later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """The same for what says itself which parts it does something to."""
        heapq.heappush(self._queue, (self.now + delay_s, next(self._numbers), action, arguments))

    def run(self, seconds: float) -> None:
        """Everything that happens within the next seconds."""
        until = self.now + seconds
        while True:
            timers = [timer for timer in self._timers() if timer is not None]
            timer = min(timers, default=until + 1)
            due = min(timer, self._queue[0][0]) if self._queue else timer
            if due > until:
                break
            self.now = max(self.now, due)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, action, arguments = heapq.heappop(self._queue)
                action(*arguments)
                self._settle()
            if timer <= self.now:  # what an action has made due comes next, at the same time
                self._handle_timers()
        self.now = until

    def _do_anything(self, action: Callable[..., None], *arguments: Any) -> None:
        self._touch_all()
        action(*arguments)

    @abstractmethod
    def _touch_all(self) -> None:
        """Something may have been done to any part."""

    @abstractmethod
    def _timers(self) -> Iterable[float | None]:
        """When each part wants to be woken up."""

    @abstractmethod
    def _handle_timers(self) -> None:
        """Wake up what wants to be, now."""

    @abstractmethod
    def _settle(self) -> None:
        """Carry on what an action began, until all is quiet."""
