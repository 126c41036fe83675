# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, `kill` and a terminal that is closed end what runs, and once.

`Signals` is for a segment.  It runs an event loop, perhaps several one after the other, and between
them it waits for what no loop waits for: signals are handled all the time, without a gap.

`ending_once` is for a laboratory.  An impatient user presses Ctrl-C again, and a terminal sends it
to the children too, such as the `ip` that is deleting a namespace.  So from the first signal on,
all of them are ignored, and what is ignored stays ignored in the programs that are started from
then on.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
SIGNALS: Final = (*ENDING, signal.SIGHUP)


@contextmanager
def ending_once() -> Iterator[None]:
    """The first signal raises KeyboardInterrupt inside the block, the others do nothing."""
    before = {number: signal.signal(number, _end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cancelling_once() -> Iterator[None]:
    """Inside `ending_once` and a task: the first signal cancels the task, the others do nothing.

    A KeyboardInterrupt may come in the middle of asyncio's own work.  A task whose wake-up is lost
    there is waited for without end.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel(_number: int, _frame: FrameType | None) -> None:
        _ignore()
        loop.call_soon_threadsafe(task.cancel)

    before = {number: signal.signal(number, cancel) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is cancel:  # none came
                signal.signal(number, handler)


class Signals:
    """What a signal does now: notify an event loop, end a wait, or be remembered until then."""

    def __init__(self) -> None:
        self.ended = False
        """Whether a signal came that means the end."""
        self._waits = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: Mapping[int, Callable[[], object]] = {}

    @contextmanager
    def handled(self) -> Iterator[None]:
        """In the main thread only."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def ending_a_wait(self) -> Iterator[None]:
        """KeyboardInterrupt in the block, at its beginning if a signal came before."""
        self._waits = True
        try:
            if self.ended:
                raise KeyboardInterrupt
            yield
        finally:
            self._waits = False

    @contextmanager
    def telling(
        self, loop: asyncio.AbstractEventLoop, handlers: Mapping[int, Callable[[], object]]
    ) -> Iterator[None]:
        """The running loop calls these; SIGTERM's at once if a signal came before."""
        self._loop, self._told = loop, handlers
        try:
            if self.ended:
                handlers[signal.SIGTERM]()
            yield
        finally:
            self._loop = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.ended = self.ended or number in ENDING or self._loop is None
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told[number])
        elif self._waits:
            self._waits = False  # the first one only
            raise KeyboardInterrupt


def _end(_number: int, _frame: FrameType | None) -> None:
    _ignore()
    raise KeyboardInterrupt


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def ignored() -> Iterator[None]:
    """Signals do nothing in this block; only the main thread gets any, so elsewhere it is empty."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
