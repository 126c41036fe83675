# SPDX-License-Identifier: Apache-2.0
"""What a running CS leaves the garbage collector to do, and how it frees a configuration."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

from control_segment.runtime import memory
from control_segment.runtime.turns import TURN_S, short_turns


class Thing:
    """That can be in a cycle, and seen to be freed."""

    def __init__(self) -> None:
        self.itself: Thing | None = self


def test_what_replaces_as_much_as_it_frees_is_not_looked_at_a_second_later() -> None:
    """By their counts nothing is new: a collection would look at all of them."""
    old: list[object] = [[] for _ in range(50_000)]
    with memory.without_automatic_collection():
        new: list[object] = [[] for _ in range(50_000)]
        old.clear()
        assert gc.get_count()[0] < 5000
        memory.set_aside()
        assert len(gc.get_objects(generation=0)) < 1000
        memory.tend()
        assert len(new) == 50_000


def test_few_new_objects_are_collected() -> None:
    with memory.without_automatic_collection():
        thing = Thing()
        gone = weakref.ref(thing)
        del thing
        assert gone() is not None
        memory.tend()
        assert gone() is None


def test_a_configuration_is_freed_some_of_it_at_a_time() -> None:
    freed: list[int] = []  # by step of the event loop

    def finalized(_: object) -> None:
        freed[-1] += 1

    async def free() -> None:
        things: list[object] = []
        for _ in range(1234):
            thing = Thing()
            thing.itself = None
            weakref.finalize(thing, finalized, None)
            things.append(thing)
        del thing
        letting_go = asyncio.ensure_future(memory.let_go(things))
        while not letting_go.done():
            freed.append(0)
            await asyncio.sleep(0)

    asyncio.run(free())
    assert sum(freed) == 1234
    assert max(freed) <= memory.FREED_AT_ONCE


def test_turns_are_short_while_a_cs_runs() -> None:
    before = sys.getswitchinterval()
    with short_turns():
        assert abs(sys.getswitchinterval() - TURN_S) < 1e-6
    assert sys.getswitchinterval() == before
