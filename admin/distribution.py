# SPDX-License-Identifier: Apache-2.0
"""How often something took how long: cheap enough for what happens 100,000 times a second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

DECISION_BOUNDS_S: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
)  # fmt: skip
"""Of a CS's decisions: one takes some 10 us, and QUERYs that wait 20 ms have waited too long."""


class Distribution:
    """Counts by bounds, each with all that took that long at most."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """*bounds*: rising."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)  # the last one: more than all bounds
        self.total = 0.0

    def add(self, value: float, count: int) -> None:
        """So many took so long."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count
