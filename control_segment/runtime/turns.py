# SPDX-License-Identifier: Apache-2.0
"""Keep a thread that calculates from delaying QUERYs by more than its turn of the interpreter.

Whoever waits for the interpreter asks for it after `sys.getswitchinterval`, and the event loop
gives it away in each system call: to wait, to receive, to send.  With Python's 5 ms a QUERY took
15 ms while another thread compared configurations.  Where no thread calculates, nothing changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TURN_S: Final = 0.0005


@contextmanager
def short_turns() -> Iterator[None]:
    """Have them, and as they were afterwards."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
