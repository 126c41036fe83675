# SPDX-License-Identifier: Apache-2.0
"""Whatever was done: each generation can be told, and any two of them compared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.database import Database
from api.desired.kinds import KINDS
from api.desired.resources import Body, Changed, Edit, Kind
from api.desired.store import DesiredState

GROUPS = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "f": 2}
names = st.sampled_from(sorted(GROUPS))
weights = st.integers(2, 4)
Step = Callable[[DesiredState], object]
Documents = dict[int, Body]


def pool(name: str, weight: int) -> Body:
    return {"name": name, "nodes": [{"name": "n", "address": "10.0.0.1", "weight": weight}]}


def put(name: str, weight: int | None) -> Step:
    key, body = (Kind.POOL, name), None if weight is None else pool(name, weight)

    def step(desired: DesiredState) -> object:
        if body is None and all(held.key != key for held in desired.all_of(Kind.POOL)):
            return None
        return desired.change([Edit(key, GROUPS[name], body)], who="test", how="put")

    return step


def apply(group_id: int, pools: list[tuple[str, int]], grants: bool) -> Step:
    document = {
        "settings": {} if grants else {"grants": False},
        "pools": [pool(name, weight) for name, weight in pools if GROUPS[name] == group_id],
    }
    return lambda desired: desired.apply(group_id, document, who="test", how="apply")


def roll_back(back: int) -> Step:
    def step(desired: DesiredState) -> object:
        kept = desired.history()
        number = max(desired.generation - back, kept[-1].number - 1 if kept else 0)
        return desired.roll_back(number, who="test")

    return step


def prune(keep: int) -> Step:
    return lambda desired: desired.prune(keep)


steps = st.one_of(
    st.builds(put, names, st.one_of(weights, weights, st.none())),
    st.builds(
        apply,
        st.sampled_from([1, 1, 2]),
        st.lists(st.tuples(names, weights), max_size=5, unique_by=lambda pair: pair[0]),
        st.booleans(),
    ),
    st.builds(roll_back, st.integers(1, 6)),
    st.builds(prune, st.integers(3, 8)),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without anything in it."""
    path = tmp_path_factory.mktemp("history") / "api.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@contextmanager
def opened(empty: Path) -> Iterator[Database]:
    """A copy of it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty, Path(folder) / "api.db")
        database = Database(f"sqlite:///{folder}/api.db")
        try:
            yield database
        finally:
            database.close()


def now(desired: DesiredState, generation: int | None = None) -> Documents:
    return {group_id: desired.document(group_id, generation) for group_id in (1, 2)}


def in_order(document: Body) -> dict[tuple[str, str], Body]:
    return {("settings", ""): document["settings"]} | {
        ("pools", each["name"]): each for each in document["pools"]
    }


def changed(documents: Documents, changes: tuple[Changed, ...]) -> dict[int, Any]:
    """The resources of the documents after changes, which fit them."""
    found = {group_id: in_order(document) for group_id, document in documents.items()}
    for change in changes:
        kind, name = change.key
        at = KINDS[kind].field, "" if kind is Kind.SETTINGS else name
        known = found[change.group_id].get(at)
        assert change.before == known or (kind is Kind.SETTINGS and not known)
        if change.after is not None:
            found[change.group_id][at] = change.after
        elif kind is Kind.SETTINGS:
            found[change.group_id][at] = {}
        else:
            del found[change.group_id][at]
    return found


def carried_out(desired: DesiredState, wanted: list[Step]) -> tuple[dict[int, Documents], int]:
    """What each generation was, and the oldest that has to be known still."""
    known, oldest = {0: now(desired)}, 0
    for step in wanted:
        done = step(desired)
        oldest += done if isinstance(done, int) else 0
        known.setdefault(desired.generation, now(desired))
        assert known[desired.generation] == now(desired)
    return known, oldest


@settings(max_examples=30)
@given(st.lists(steps, min_size=6, max_size=14), st.data())
def test_each_generation_is_known_and_comparable(
    empty: Path, wanted: list[Step], data: st.DataObject
) -> None:
    with opened(empty) as database:
        desired = DesiredState(database)
        known, oldest = carried_out(desired, wanted)
        newest = desired.generation
        assert sorted(known) == list(range(newest + 1))
        assert [noted.number for noted in desired.history()] == list(range(newest, oldest, -1))
        for number in range(oldest, newest + 1):
            assert now(desired, number) == known[number]
        numbers = st.integers(oldest, newest)
        first, last = data.draw(numbers), data.draw(numbers)
        difference = desired.difference(first, last).changes
        assert changed(known[first], difference) == {
            group_id: in_order(document) for group_id, document in known[last].items()
        }
        for group_id in (1, 2):
            delta = desired.delta(group_id, first)
            resources = in_order(known[first][group_id])
            for name in delta.gone.get(Kind.POOL, ()):
                del resources["pools", name]
            for each in delta.changed.get(Kind.POOL, ()):
                resources["pools", each["name"]] = each
            for each in delta.changed.get(Kind.SETTINGS, ()):
                resources["settings", ""] = each
            assert resources == in_order(known[newest][group_id])
        again = DesiredState(database)
        assert now(again) == known[newest]
