# SPDX-License-Identifier: Apache-2.0
"""Many deadlines of like kind, cheap to set and never taken back.

A deadline is rounded up to the next slot; its owner looks, when it comes, whether it still means
anything.  That costs one list append a deadline, where a heap costs a comparison of tuples a level.
"""

from __future__ import annotations

import heapq
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

SLOT_S: Final = 0.005
"""A tenth of the shortest time that the protocol knows (QUERY's first repeat, 50 ms)."""


class Wheel(Generic[Item]):
    """Items by the slot in which they fall due."""

    __slots__ = ("_due_slots", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, list[Item]] = {}
        self._due_slots: list[int] = []  # a heap of the keys of _slots

    def schedule(self, deadline: float, item: Item) -> None:
        """Return `item` in `due` once `deadline` has passed, up to a slot later."""
        slot = int(deadline / SLOT_S) + 1
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = [item]
            heapq.heappush(self._due_slots, slot)
        else:
            items.append(item)

    def get_timer(self) -> float | None:
        """When `due` has something next."""
        return self._due_slots[0] * SLOT_S if self._due_slots else None

    def due(self, now: float) -> list[Item]:
        """Take out what fell due, in the order of the deadlines' slots."""
        slots = self._due_slots
        found: list[Item] = []
        while slots and slots[0] * SLOT_S <= now:
            found += self._slots.pop(heapq.heappop(slots))
        return found
