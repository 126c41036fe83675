# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

from api.desired.folding import SPACING, folded, is_one, places, taken_back
from api.desired.resources import Body, Changed, Kind

KEY = (Kind.POOL, "web")


def change(before: Body | None, after: Body | None) -> Changed:
    return Changed(
        KEY, 1, before, after, None if before is None else 1, None if after is None else 1
    )


def test_changes_of_one_resource_become_one() -> None:
    both = [change({"a": 1}, {"a": 2}), change({"a": 2}, {"a": 3})]
    assert folded(both) == (change({"a": 1}, {"a": 3}),)


def test_what_came_and_went_is_no_change() -> None:
    assert folded([change(None, {"a": 1}), change({"a": 1}, None)]) == ()


def test_what_is_as_it_was_is_no_change() -> None:
    assert folded([change({"a": 1}, {"a": 2}), change({"a": 2}, {"a": 1})]) == ()


def test_another_place_in_the_list_is_a_change() -> None:
    assert is_one(Changed(KEY, 1, {}, {}, 1, 2))
    assert not is_one(Changed(KEY, 1, {}, {}, 1, 1))


def test_a_resource_that_goes_to_another_group_is_two_changes() -> None:
    gone = Changed(KEY, 1, {}, None, 5, None)
    come = Changed(KEY, 2, None, {}, None, 5)
    assert folded([gone, come]) == (gone, come)


def test_a_change_and_what_takes_it_back_are_none() -> None:
    made = (change({"a": 1}, {"a": 2}), Changed((Kind.POOL, "b"), 1, None, {}, None, 7))
    assert folded([*made, *taken_back(made)]) == ()


def test_changes_are_in_the_order_of_a_document() -> None:
    server = Changed((Kind.VIRTUAL_SERVER, "a"), 1, None, {}, None, 1)
    late, early = (
        Changed((Kind.POOL, name), 1, None, {}, None, at) for name, at in (("a", 9), ("b", 3))
    )
    assert folded([server, late, early]) == (early, late, server)


def test_a_list_keeps_the_places_that_it_has() -> None:
    assert places([1, 5, 9]) == [1, 5, 9]
    assert places([]) == []


def test_what_is_new_gets_a_place_between_its_neighbours() -> None:
    assert places([0, None, SPACING]) == [0, SPACING // 2, SPACING]
    assert places([5, None, None]) == [5, 5 + SPACING, 5 + 2 * SPACING]
    assert places([None, 5]) == [5 - SPACING, 5]
    assert places([None, None]) == [SPACING, 2 * SPACING]


def test_of_a_list_in_another_order_as_few_as_possible_move() -> None:
    now: list[int | None] = [20, 30, 40, 10]
    then = places(now)
    assert then[:3] == [20, 30, 40]
    assert then[3] > 40


def test_a_list_without_room_gets_new_places() -> None:
    assert places([1, None, 2]) == [SPACING, 2 * SPACING, 3 * SPACING]


def test_places_ascend_whatever_was_there() -> None:
    draw = random.Random(1)
    for _ in range(300):
        known = draw.sample(range(40), draw.randrange(12))
        now = [place if draw.random() < 0.7 else None for place in known]
        then = places(now)
        assert len(then) == len(now)
        assert then == sorted(set(then))
