# SPDX-License-Identifier: Apache-2.0
"""Keep the garbage collector from stopping a CS for longer than a QUERY may wait.

A full collection looks at every record: a second for a million.  Records are in no cycle and are
freed by their reference counts, so automatic collection is off while a CS runs.  Once per second
the few new objects are collected, and everything is moved to where no collection looks.  While the
table grows quickly that collection is skipped; the few cycles of that second are never freed.

How many objects are new is known only less those that were freed: a configuration that replaces
another one leaves a hundred thousand, and counts as none.  What takes one sets them aside itself,
if they are many: of changes that come every second, nothing would be collected any more.
Freeing the old one is one step of the interpreter, too, so it is freed piece by piece.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from control_segment.config import GroupConfig
from control_segment.differences import Difference

INTERVAL_S: Final = 1.0
_COLLECTED_BELOW: Final = 5000  # objects: about 0.3 ms
FREED_AT_ONCE: Final = 100  # pools or virtual servers: about 0.5 ms
MANY: Final = 1000  # pools, nodes and virtual servers: some _COLLECTED_BELOW objects


@contextmanager
def without_automatic_collection() -> Iterator[None]:
    """Have it off, and as it was afterwards."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def set_aside() -> None:
    """No collection is to look at what there is now, nor to free what of it is in cycles."""
    gc.freeze()


def leaves_many(difference: Difference) -> bool:
    """Whether putting this in force makes more than a collection should look at."""
    nodes = sum(len(pool.nodes) for pool in difference.pools)
    return nodes + len(difference.pools) + len(difference.virtual_servers) > MANY


def parts_of(config: GroupConfig) -> list[object]:
    """What is to be freed of it, for `let_go`."""
    return [*config.pools, *config.virtual_servers]


async def let_go(things: list[object]) -> None:
    """Free these, each with a few hundred others behind it; *things* is the last to hold them."""
    while things:
        del things[-FREED_AT_ONCE:]
        await asyncio.sleep(0)


def tend() -> None:
    """Do the second's share."""
    if gc.get_count()[0] < _COLLECTED_BELOW:
        gc.collect(0)
    set_aside()
