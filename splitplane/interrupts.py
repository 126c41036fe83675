# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, `kill` and a terminal that is closed end a laboratory in the same way, and once.

Whoever is impatient presses Ctrl-C again, and a terminal sends it to the children too, such as the
`ip` that is deleting a namespace.  So from the first signal on, all of them are ignored, and what
is ignored stays ignored in the programs that are started from then on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_once() -> Iterator[None]:
    """The first signal raises KeyboardInterrupt inside the block, the others do nothing."""
    before = {number: signal.signal(number, _end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


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
