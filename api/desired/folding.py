# SPDX-License-Identifier: Apache-2.0
"""Several generations as one change, and the places of resources in their lists (pure)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from api.desired.resources import Changed, Key, Kind

SPACING: Final = 1 << 32
"""Between two places.  A list in whose middle is inserted again and again gets new places after 32
times at worst."""
_KINDS: Final = list(Kind)


def folded(changes: Iterable[Changed]) -> tuple[Changed, ...]:
    """The changes of several generations, the oldest first, as one's, in a document's order."""
    net: dict[tuple[Key, int], Changed] = {}
    for change in changes:
        at = change.key, change.group_id
        known = net.get(at)
        if known is not None:
            change = Changed(
                change.key, change.group_id, known.before, change.after,
                known.place_before, change.place_after,
            )  # fmt: skip
        net[at] = change
    return tuple(sorted(filter(is_one, net.values()), key=in_order))


def is_one(change: Changed) -> bool:
    """Whether anything is different."""
    return (change.before, change.place_before) != (change.after, change.place_after)


def taken_back(changes: Iterable[Changed]) -> tuple[Changed, ...]:
    """What undoes a generation."""
    return tuple(
        Changed(
            each.key, each.group_id, each.after, each.before, each.place_after, each.place_before
        )
        for each in changes
    )


def in_order(change: Changed) -> tuple[int, int, str]:
    """What the changes of a generation are sorted by: as a document has them."""
    place = change.place_before if change.place_after is None else change.place_after
    kind, name = change.key
    return _KINDS.index(kind), place or 0, name


def places(now: Sequence[int | None]) -> list[int]:
    """Places for a list, of whose items some have one; as few as possible get another."""
    kept = _longest_ascent(now)
    found: list[int] = []
    left: int | None = None
    for right in [*kept, None]:
        count = (len(now) if right is None else right) - len(found)
        run = _between(left, None if right is None else now[right], count)
        if run is None:
            return [SPACING * (number + 1) for number in range(len(now))]
        found += run
        if right is not None:
            left = now[right]
            assert left is not None
            found.append(left)
    return found


def _between(left: int | None, right: int | None, count: int) -> list[int] | None:
    """None: there is no room."""
    if left is None:
        left = 0 if right is None else right - SPACING * (count + 1)
    step = SPACING if right is None else (right - left) // (count + 1)
    return [left + step * (number + 1) for number in range(count)] if step or not count else None


def _longest_ascent(now: Sequence[int | None]) -> list[int]:
    """Indexes of the longest part whose places ascend."""
    ends: list[int] = []  # the lowest place with which an ascent of each length ends
    at: list[int] = []  # its index
    before: dict[int, int | None] = {}
    for index, place in enumerate(now):
        if place is None:
            continue
        length = bisect_left(ends, place)
        before[index] = at[length - 1] if length else None
        ends[length:] = [place, *ends[length + 1 :]]
        at[length:] = [index, *at[length + 1 :]]
    found: list[int] = []
    step = at[-1] if at else None
    while step is not None:
        found.append(step)
        step = before[step]
    return found[::-1]
