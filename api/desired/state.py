# SPDX-License-Identifier: Apache-2.0
"""The desired state of one generation, and who refers to whom in it (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from pydantic import BaseModel

from api.desired.kinds import KINDS
from api.desired.resources import Body, Changed, Held, Key, Kind
from control_segment.around import Of, values_of

Names: TypeAlias = tuple[str, ...]
_Index: TypeAlias = Mapping[Hashable, Names]
_At: TypeAlias = tuple[int, Of]  # a group's


class State:
    """Never changes: a new generation is a new one, which shares with this what is the same."""

    def __init__(
        self, generation: int, held: Mapping[Key, Held], indexes: Mapping[_At, _Index]
    ) -> None:
        self.generation = generation
        self.held = held
        self._indexes = indexes
        self._lists: dict[tuple[Kind, int | None], tuple[Held, ...]] = {}

    @classmethod
    def of(cls, generation: int, resources: Iterable[Held]) -> State:
        """All resources of a generation."""
        held = {each.key: each for each in resources}
        found: dict[_At, dict[Hashable, list[str]]] = defaultdict(lambda: defaultdict(list))
        for each in held.values():
            for of, value in values_of(each.model):
                found[each.group_id, of][value].append(each.key[1])
        return cls(
            generation,
            held,
            {at: {value: tuple(names) for value, names in of.items()} for at, of in found.items()},
        )

    def get(self, key: Key) -> Held | None:
        """One resource.  Every group has settings."""
        held = self.held.get(key)
        if held is None and key[0] is Kind.SETTINGS and key[1].isdecimal():
            return Held(key, int(key[1]), 0, 0, {}, _NO_SETTINGS)
        return held

    def all_of(self, kind: Kind, group_id: int | None = None) -> tuple[Held, ...]:
        """In their order; the result is remembered."""
        found = self._lists.get((kind, group_id))
        if found is None:
            found = tuple(
                sorted(
                    (
                        each
                        for key, each in self.held.items()
                        if key[0] is kind and group_id in (None, each.group_id)
                    ),
                    key=in_order,
                )
            )
            self._lists[kind, group_id] = found
        return found

    def names(self, group_id: int, of: Of, value: Hashable) -> Names:
        """Of the resources of a group that have the value."""
        return self._indexes.get((group_id, of), {}).get(value, ())

    def changed(
        self, generation: int, changes: Sequence[tuple[Changed, BaseModel | None]]
    ) -> State:
        """The state after a generation; each change comes with its new model."""
        held = dict(self.held)
        lost: list[Held] = []
        got: list[Held] = []
        for change, model in changes:
            before = self.held.get(change.key)
            if before is not None and before.group_id == change.group_id:
                lost.append(before)
            if change.after is not None and model is not None:
                assert change.place_after is not None
                held[change.key] = Held(
                    change.key, change.group_id, change.place_after, generation, change.after, model
                )
                got.append(held[change.key])
            elif held.get(change.key) is before:  # else it went to another group
                held.pop(change.key, None)
        after = State(generation, held, self._reindexed(lost, got))
        kinds = {change.key[0] for change, _ in changes}
        after._lists = {at: found for at, found in self._lists.items() if at[0] not in kinds}
        return after

    def _reindexed(self, lost: Iterable[Held], got: Iterable[Held]) -> Mapping[_At, _Index]:
        old, new = set(_entries(lost)), set(_entries(got))
        changed: dict[_At, dict[Hashable, set[str]]] = defaultdict(dict)
        for is_there, entries in ((False, old - new), (True, new - old)):
            for at, value, name in entries:
                names = changed[at].get(value)
                if names is None:
                    names = changed[at][value] = set(self.names(*at, value))
                (names.add if is_there else names.discard)(name)
        indexes = dict(self._indexes)
        for at, values in changed.items():
            index = dict(indexes.get(at, {}))
            for value, names in values.items():
                if names:
                    index[value] = tuple(names)
                else:
                    index.pop(value, None)
            indexes[at] = index
        return indexes


_NO_SETTINGS: Final = KINDS[Kind.SETTINGS].model()


def in_order(held: Held) -> tuple[int, str]:
    """What a list is sorted by."""
    return held.place, held.key[1]


def document_of(resources: Iterable[tuple[Kind, Body]]) -> Body:
    """A whole document of resources in their order."""
    document: Body = {of.field: {} if of.one else [] for of in KINDS.values()}
    for kind, body in resources:
        of = KINDS[kind]
        if of.one:
            document[of.field] = body
        else:
            document[of.field].append(body)
    return document


def _entries(resources: Iterable[Held]) -> Iterator[tuple[_At, Hashable, str]]:
    for each in resources:
        for of, value in values_of(each.model):
            yield (each.group_id, of), value, each.key[1]
