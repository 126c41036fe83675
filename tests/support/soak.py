# SPDX-License-Identifier: Apache-2.0
"""The long tests: `make soak` runs them in their whole length, every other run a short form."""

from __future__ import annotations

import os
from typing import Final

SOAKING: Final = os.environ.get("SPLITPLANE_SOAK") == "1"


def part(whole: int, divisor: int = 20) -> int:
    """How much of it is to be run."""
    return whole if SOAKING else whole // divisor


def seeds(whole: int) -> range:
    """The seeds of a simulation: a sixth of them in a short form, one at least."""
    return range(whole if SOAKING else (whole + 5) // 6)
