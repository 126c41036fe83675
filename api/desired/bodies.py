# SPDX-License-Identifier: Apache-2.0
"""Bodies and whole documents: checked for themselves, and as models (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from admin.documents.mistakes import MISTAKES_MAX, mistakes
from admin.documents.places import place_of, pointer
from api.desired.kinds import KINDS
from api.desired.resources import Body, Key, Kind
from api.errors import Fault, Problem
from control_segment.config import GroupConfig

GROUP_MAX: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource as somebody wants it, checked for itself; None: gone."""

    key: Key
    group_id: int
    body: Body | None
    model: BaseModel | None


def wanted(key: Key, group_id: int, body: object) -> Wanted:
    """What a body says; Problem 422 with pointers that begin in it."""
    kind, name = key
    of, data = KINDS[kind], body
    if isinstance(body, dict) and not of.one:
        data = {"name": name, **body}
        if data["name"] != name:
            raise refused(
                [Fault("/name", f"{data['name']!r} is not {name!r}, as in the path; give that")]
            )
    try:
        model = of.model.model_validate(data)
    except ValidationError as error:
        raise refused(faults(error, data, of.model)) from None
    return Wanted(key, group_id, of.written(model), model)


def wanted_of(group_id: int, document: object) -> list[Wanted]:
    """What a whole document says, in its order; Problem 422."""
    try:
        config = GroupConfig.model_validate(document)
    except ValidationError as error:
        raise refused(faults(error, document, GroupConfig)) from None
    return [
        Wanted((kind, name), group_id, KINDS[kind].written(model), model)
        for kind, name, model in _parts(config, group_id)
    ]


def _parts(config: GroupConfig, group_id: int) -> Iterator[tuple[Kind, str, Any]]:
    for kind, of in KINDS.items():
        if of.one:
            yield kind, str(group_id), getattr(config, of.field)
        else:
            for model in getattr(config, of.field):
                yield kind, model.name, model


def check_group_id(group_id: int) -> None:
    """Problem 422 if there cannot be such a group."""
    if not 0 <= group_id <= GROUP_MAX:
        raise Problem(
            422,
            f"there is no group {group_id}; give a number from 0 to {GROUP_MAX}",
            kind="invalid",
        )


def faults(error: ValidationError, data: object, model: type[BaseModel]) -> list[Fault]:
    """What pydantic found, in the sentences of `splitplane check`."""
    found = mistakes(error, place_of(data), model)
    said = [Fault(pointer(each.path), each.sentence) for each in found[:MISTAKES_MAX]]
    return list(dict.fromkeys(said))


def refused(found: list[Fault]) -> Problem:
    """What a request with these faults is answered with."""
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Problem(422, found[0].detail + more, kind="invalid", errors=found)
