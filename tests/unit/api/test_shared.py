# SPDX-License-Identifier: Apache-2.0
"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
from itertools import count

from api.live.shared import KEPT_MAX_S, SHARE, Shared


class Work:
    """Takes a time by its own clock, and answers how often it was done."""

    def __init__(self, takes_s: float) -> None:
        self.now, self._takes_s, self._done = 0.0, takes_s, count(1)

    async def __call__(self) -> int:
        await asyncio.sleep(0)
        self.now += self._takes_s
        return next(self._done)


def test_who_asks_at_the_same_time_gets_one_answer() -> None:
    async def story() -> list[int]:
        work = Work(0.1)
        shared = Shared[int](lambda: work.now)
        return await asyncio.gather(*(shared.get(work) for _ in range(5)))

    assert asyncio.run(story()) == [1] * 5


def test_an_answer_is_kept_in_proportion_to_what_it_took_up_to_a_limit() -> None:
    async def kept(takes_s: float, after_s: float) -> bool:
        work = Work(takes_s)
        shared = Shared[int](lambda: work.now)
        await shared.get(work)
        work.now += after_s
        return await shared.get(work) == 1

    assert asyncio.run(kept(0.1, 0.1 * SHARE - 0.01))
    assert not asyncio.run(kept(0.1, 0.1 * SHARE + 0.01))
    assert asyncio.run(kept(10, KEPT_MAX_S - 0.01))
    assert not asyncio.run(kept(10, KEPT_MAX_S + 0.01))
