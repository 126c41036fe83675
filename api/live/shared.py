# SPDX-License-Identifier: Apache-2.0
"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

ValueT = TypeVar("ValueT")

SHARE: Final = 20  # an answer is kept this many times as long as it took: 5 % of somebody's time
KEPT_MAX_S: Final = 5.0


class Shared(Generic[ValueT]):
    """Keeps what was answered last.  *clock* in s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: tuple[ValueT, float] | None = None  # and until when

    async def get(self, make: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """The answer that is kept, or a new one; who asks meanwhile waits for it."""
        async with self._lock:
            if self._kept is not None and self._clock() < self._kept[1]:
                return self._kept[0]
            started = self._clock()
            value = await make()
            ended = self._clock()
            self._kept = value, ended + min(KEPT_MAX_S, SHARE * (ended - started))
            return value
