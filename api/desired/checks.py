# SPDX-License-Identifier: Apache-2.0
"""Whether a change leaves every rule across resources kept (pure).

Only what it touches (`control_segment.around`) is given to the rules of cs.yaml.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import PydanticCustomError

from admin.documents.places import Path_
from api.desired.bodies import Wanted
from api.desired.kinds import KINDS
from api.desired.resources import Held, Key, Kind
from api.desired.state import State, in_order
from api.errors import Problem
from control_segment.around import Around, Of
from control_segment.config import PoolConfig, VirtualServerConfig
from control_segment.references import check_group, listed
from csmb.constants import VS_TOTAL_MAX

_KIND_OF: Final = {of.field: kind for kind, of in KINDS.items()}
_USERS: Final = {
    Kind.POOL: (Of.POOL, Kind.VIRTUAL_SERVER),
    Kind.MONITOR: (Of.MONITOR, Kind.POOL),
}
"""By what those that refer to a kind are found, and their kind."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the state after does not keep."""

    key: Key
    path: Path_  # in the resource's body; empty: the whole
    sentence: str


def in_use(after: State, edits: Sequence[Wanted]) -> Problem | None:
    """409 if something that is to go is referred to by what nobody edits."""
    edited = {each.key for each in edits}
    for each in edits:
        kind, name = each.key
        if each.body is not None or kind not in _USERS:
            continue
        of, users_kind = _USERS[kind]
        users = [
            user
            for user in sorted(after.names(each.group_id, of, name))
            if (users_kind, user) not in edited
        ]
        if users:
            word, users_word = KINDS[kind].word, KINDS[users_kind].word
            return Problem(
                409,
                f"{word} {name} is in use by {users_word}{'s' if len(users) > 1 else ''}"
                f" {listed(users)}; change or delete these first",
                kind="in-use",
            )
    return None


def broken(before: State, after: State, edits: Sequence[Wanted]) -> Broken | None:
    """The first rule that is broken, of each group the first."""
    for group_id in sorted({each.group_id for each in edits}):
        keys = [each.key for each in edits if each.group_id == group_id]
        found = _broken(before, after, group_id, keys)
        if found is not None:
            return found
    return None


def _broken(before: State, after: State, group_id: int, keys: Sequence[Key]) -> Broken | None:
    if len(after.held) > VS_TOTAL_MAX:
        count = len(after.all_of(Kind.VIRTUAL_SERVER, group_id))
        if count > VS_TOTAL_MAX:
            key = next(key for key in reversed(keys) if key[0] is Kind.VIRTUAL_SERVER)
            return Broken(key, (), f"too many; give at most {VS_TOTAL_MAX}")
    view = _View(after, group_id)
    edited = {name for kind, name in keys if kind is Kind.VIRTUAL_SERVER}
    around = Around(_View(before, group_id), view, edited)
    look = {
        Kind.VIRTUAL_SERVER: around.look_at_server,
        Kind.POOL: around.look_at_pool,
        Kind.MONITOR: around.look_at_monitor,
    }
    for kind, name in keys:
        if kind in look:
            look[kind](name)
    servers = _in_order(view.held(Kind.VIRTUAL_SERVER, name) for name in around.servers)
    pools = _in_order(view.held(Kind.POOL, name) for name in around.pools)
    monitors = _in_order(view.held(Kind.MONITOR, name) for name in around.monitors)
    try:
        check_group(
            _models(servers), _models(pools), _models(monitors),
            pool_names=_names(after, Kind.POOL, group_id),
            monitor_names=_names(after, Kind.MONITOR, group_id),
        )  # fmt: skip
    except PydanticCustomError as error:
        context = dict(error.context or {})
        field_, index, *path = context["at"]
        held = {"virtual_servers": servers, "pools": pools, "monitors": monitors}[field_][index]
        return Broken(held.key, tuple(path), str(context["sentence"]))
    return None


def _in_order(held: Iterable[Held | None]) -> list[Held]:
    """All that there are."""
    return sorted((each for each in held if each is not None), key=in_order)


def _models(resources: Iterable[Held]) -> list[Any]:
    return [each.model for each in resources]


def _names(state: State, kind: Kind, group_id: int) -> Iterator[str]:
    """Sorted only if a message needs them."""
    yield from (each.key[1] for each in state.all_of(kind, group_id))


class _View:
    """The resources of a group in a state."""

    def __init__(self, state: State, group_id: int) -> None:
        self._state = state
        self._group_id = group_id

    def held(self, kind: Kind, name: str) -> Held | None:
        held = self._state.held.get((kind, name))
        return held if held is not None and held.group_id == self._group_id else None

    def server(self, name: str) -> VirtualServerConfig | None:
        held = self.held(Kind.VIRTUAL_SERVER, name)
        model = None if held is None else held.model
        return model if isinstance(model, VirtualServerConfig) else None

    def pool(self, name: str) -> PoolConfig | None:
        held = self.held(Kind.POOL, name)
        model = None if held is None else held.model
        return model if isinstance(model, PoolConfig) else None

    def names(self, of: Of, value: Any) -> Sequence[str]:
        return self._state.names(self._group_id, of, value)

    def first_server(self, names: Collection[str]) -> str | None:
        held = [self._state.held[Kind.VIRTUAL_SERVER, name] for name in names]
        first = min(held, key=in_order, default=None)
        return None if first is None else first.key[1]
