# SPDX-License-Identifier: Apache-2.0
"""How much work something is, by what runs and not by how long it takes: the same on any machine,
however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_TESTS = str(Path(__file__).parents[1])


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of the product this thread runs in a call; those of a test's model, such as
    that of a switch, are none of it."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if _TESTS in frame.f_code.co_filename:
            return None  # its calls are looked at all the same
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count
