# SPDX-License-Identifier: Apache-2.0
"""Persistence that learns from another CS, or from a file, what it did not see itself (11.10)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.nodes import Place
from control_segment.persistence import SourceAddressPersistence

TIMEOUT_S: Final = 100
NOW: Final = 1000.0
PLACES: Final[list[Place]] = [(bytes([number]) * 16, 80) for number in range(3)]

# Whether it is learned, the client, the place, and when it was seen
NEWS = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, 5), st.sampled_from(PLACES), st.integers(-2 * TIMEOUT_S, 0)
    ),
    max_size=40,
)


def table_of(
    news: list[tuple[bool, int, Place, int]], capacity: int = 1 << 18
) -> SourceAddressPersistence:
    """What a CS knows by that."""
    table = SourceAddressPersistence(TIMEOUT_S, capacity)
    for is_learned, client, place, seen in in_time(news):
        take = table.learn if is_learned else table.remember
        take(bytes([client]) * 16, place, seen)
    return table


def in_time(news: list[tuple[bool, int, Place, int]]) -> Iterator[tuple[bool, int, Place, float]]:
    """When it was seen: sessions in the order of time, and what is learned not later than now."""
    now = NOW - 2 * TIMEOUT_S
    for is_learned, client, place, age in news:
        if not is_learned:
            now = max(now, NOW + age)
        yield is_learned, client, place, min(now, NOW + age) if is_learned else now


@given(NEWS)
def test_what_counts_of_a_client_is_what_was_seen_last(
    news: list[tuple[bool, int, Place, int]],
) -> None:
    expected: dict[int, tuple[float, Place]] = {}
    for is_learned, client, place, seen in in_time(news):
        known = expected.get(client)
        if known is None or seen > known[0] or (not is_learned and seen == known[0]):
            expected[client] = seen, place
    table = table_of(news)
    for client in range(6):
        known = expected.get(client)
        is_valid = known is not None and NOW - known[0] < TIMEOUT_S
        found = table.find(bytes([client]) * 16, NOW)
        assert found == (known[1] if known is not None and is_valid else None)


@given(NEWS, st.integers(1, 4))
def test_it_is_never_larger_than_it_may_be_and_nothing_later_goes_for_what_is_learned(
    news: list[tuple[bool, int, Place, int]], capacity: int
) -> None:
    table = table_of(news, capacity)
    assert len(table) <= capacity
    before = {
        address: seen
        for part in table.entries(capacity, NOW, TIMEOUT_S)
        for address, _, seen in part
    }
    changes = table.changes
    learned = table.learn(b"another" * 2 + b"!!", PLACES[0], NOW - TIMEOUT_S / 2)
    assert table.changes - changes == learned
    assert len(table) <= capacity
    for address, seen in before.items():
        if seen > NOW - TIMEOUT_S / 2:
            assert table.find(address, NOW) is not None


@given(NEWS, st.integers(-TIMEOUT_S, 0), st.integers(-TIMEOUT_S + 1, 0))
def test_what_was_noted_until_a_moment_may_count_less(
    news: list[tuple[bool, int, Place, int]], until: int, age: int
) -> None:
    table = table_of(news)
    before = {
        address: (place, seen)
        for part in table.entries(1000, NOW, TIMEOUT_S)
        for address, place, seen in part
    }
    for address, (place, seen) in before.items():
        other = PLACES[(PLACES.index(place) + 1) % len(PLACES)]
        is_taken = seen <= NOW + until or seen < NOW + age
        assert table.learn(address, other, NOW + age, (-math.inf, NOW + until)) == is_taken
        assert table.find(address, NOW) == (other if is_taken else place)


@given(NEWS, st.integers(0, TIMEOUT_S))
def test_what_is_older_than_asked_for_is_not_told(
    news: list[tuple[bool, int, Place, int]], age_max_s: int
) -> None:
    table = table_of(news)
    told = [each for part in table.entries(1000, NOW, age_max_s) for each in part]
    everything = [each for part in table.entries(1000, NOW, TIMEOUT_S) for each in part]
    assert told == [each for each in everything if NOW - each[2] < age_max_s]


@given(NEWS, st.integers(1, 4))
def test_whoever_was_seen_least_recently_goes_first_also_if_that_was_learned(
    news: list[tuple[bool, int, Place, int]], capacity: int
) -> None:
    table = table_of(news, capacity)
    seen = {
        address: seen
        for part in table.entries(capacity, NOW, math.inf)
        for address, _, seen in part
    }
    for number in range(capacity):
        table.remember(bytes([100 + number]) * 16, PLACES[0], NOW)
        left = [address for address in seen if table.find(address, NOW) is not None]
        living = sorted((at for at in seen.values() if NOW - at < TIMEOUT_S), reverse=True)
        kept = living[: capacity - number - 1]
        assert sorted((seen[address] for address in left), reverse=True)[: len(kept)] == kept


def test_a_full_table_sorts_a_part_once_for_many_that_it_learns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """16 parts of 4,096: sorting one takes some milliseconds."""
    sorts: list[int] = []
    sort = SourceAddressPersistence._sorted

    def counted(table: SourceAddressPersistence, number: int) -> Any:
        sorts.append(number)
        return sort(table, number)

    monkeypatch.setattr(SourceAddressPersistence, "_sorted", counted)
    capacity, learned = 1 << 16, 20_000
    table = SourceAddressPersistence(10_000, capacity)
    for number in range(capacity):
        table.remember(number.to_bytes(16, "big"), PLACES[0], 1000.0 + number / capacity)
    for number in range(learned):
        table.learn((number + capacity).to_bytes(16, "big"), PLACES[1], 5000.0 - number / learned)
    assert capacity <= len(table) <= capacity * 9 // 8
    assert len(sorts) <= learned // 512 + 16
    for number in range(learned):
        assert table.find((number + capacity).to_bytes(16, "big"), 5001.0) is not None
