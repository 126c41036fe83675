# SPDX-License-Identifier: Apache-2.0
"""One reload at a time, and the file's last state wins.

Whoever asks while a reload is under way gets the one after it, which reads the file anew; all who
wait then share it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from admin import tracing

Say = Callable[[str], None]


class Reload(Protocol):
    """Reads the configuration and puts it in force; ConfigError or ValueError: nothing changed."""

    def __call__(self, say: Say) -> Awaitable[None]:
        """`say`: what is being done, for people who wait."""


class Reloads:
    """The reloads of one segment."""

    def __init__(self, reload: Reload) -> None:
        self._reload = reload
        self._lock = asyncio.Lock()
        self._asked = 0
        self._done = 0  # how many of those who asked
        self._error: Exception | None = None  # of the last one
        self._doing = ""
        self._since = 0.0

    async def request(self) -> None:
        """The file as it is now, or later, is in force; raises what is wrong with it."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._done < mine:
                await self._run()
            error = self._error
        if error is not None:
            raise error

    def describe(self) -> str:
        """What is being done, and since when."""
        return f"{self._doing} ({time.monotonic() - self._since:.0f} s)"

    async def _run(self) -> None:
        done = self._asked  # who asks from now on may mean a file that is not read any more
        self._error, self._since = None, time.monotonic()
        self._say("reading the file")
        with tracing.span("reload") as span:
            try:
                await self._reload(self._say)
            except Exception as error:
                self._error = error
                span.failed(str(error).partition("\n")[0])
        self._done = done

    def _say(self, doing: str) -> None:
        self._doing = doing
