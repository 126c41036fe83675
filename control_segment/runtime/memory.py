# SPDX-License-Identifier: Apache-2.0
"""Keep the garbage collector from stopping a CS for longer than a QUERY may wait.

A full collection looks at every record: a second for a million.  Records are in no cycle and are
freed by their reference counts, so automatic collection is off while a CS runs.  Once per second
the few new objects are collected, and everything is moved to where no collection looks.  While the
table grows quickly that collection is skipped; the few cycles of that second are never freed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERVAL_S: Final = 1.0
_COLLECTED_BELOW: Final = 5000  # objects: about 0.3 ms


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


def tend() -> None:
    """Do the second's share."""
    if gc.get_count()[0] < _COLLECTED_BELOW:
        gc.collect(0)
    gc.freeze()
