# SPDX-License-Identifier: Apache-2.0
"""What a new generation would change, and what the state would be then (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from admin.documents.places import pointer
from admin.errors import ConfigError
from api.desired import checks
from api.desired.bodies import Wanted, check_group_id, faults, refused, wanted
from api.desired.folding import SPACING, in_order, is_one, places, taken_back
from api.desired.kinds import KINDS
from api.desired.resources import Body, Changed, Edit, Held, Key, Kind
from api.desired.state import State
from api.errors import Fault, Problem


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written, and the state after it."""

    changes: tuple[Changed, ...]
    after: State


class Then(NamedTuple):
    """A resource as it was."""

    key: Key
    group_id: int
    place: int
    body: Body


# --- new generations ---------------------------------------------------------------------------


def of_edits(state: State, edits: Sequence[Edit]) -> Plan:
    """Of some resources; Problem 404, 409, 422."""
    one = len(edits) == 1
    read = [_read(edit, "" if one else f"/{at}") for at, edit in enumerate(edits)]
    changes: list[Changed] = []
    ends: dict[Kind, int] = {}
    for each in read:
        held, kind = _own(state, each), each.key[0]
        if held is not None:
            changes.append(_change(each, held, None if each.body is None else held.place))
        elif each.body is not None:
            ends[kind] = ends.get(kind, _last(state, kind)) + SPACING
            changes.append(_change(each, None, ends[kind]))
        else:
            raise unknown(each.key)
    models = [each.model for each in read]
    return _checked(state, read, changes, models)


def of_document(state: State, group_id: int, document: Sequence[Wanted]) -> Plan:
    """Of a document that was read; Problem 409."""
    changes: list[Changed] = []
    models: list[BaseModel | None] = []
    for kind, of in KINDS.items():
        listed = [each for each in document if each.key[0] is kind]
        now = [_own(state, each, f"/{of.field}/{at}/name") for at, each in enumerate(listed)]
        places_now = [None if held is None else held.place for held in now]
        places_then = places_now if of.one else places(places_now)
        for each, held, place in zip(listed, now, places_then, strict=True):
            changes.append(_change(each, held, place))
            models.append(each.model)
        there = {each.key for each in listed}
        for held in state.all_of(kind, group_id):
            if held.key not in there:
                changes.append(_change(Wanted(held.key, group_id, None, None), held, None))
                models.append(None)
    return _plan(state, changes, models)


def of_roll_back(state: State, since: Iterable[Changed]) -> Plan:
    """*since*: what changed since the generation, folded; Problem 409: its rules are others."""
    changes = [
        replace(each, after={}, place_after=0)
        if each.key[0] is Kind.SETTINGS and each.after is None
        else each
        for each in taken_back(since)
    ]
    read = []
    for each in changes:
        model = None
        if each.after is not None:
            try:
                model = KINDS[each.key[0]].model.model_validate(each.after)
            except ValidationError as error:
                found = faults(error, each.after, KINDS[each.key[0]].model)
                raise _not_back(f"{_name(each.key)}: {found[0].detail}") from None
        read.append(Wanted(each.key, each.group_id, each.after, model))
    plan = _plan(state, changes, [each.model for each in read])
    broken = checks.broken(state, plan.after, read)
    if broken is not None:
        raise _not_back(broken.sentence)
    return plan


def _read(edit: Edit, prefix: str) -> Wanted:
    check_group_id(edit.group_id)
    if edit.key[0] is Kind.SETTINGS and edit.key[1] != str(edit.group_id):
        raise Problem(
            422, f"settings {edit.key[1]} are not those of group {edit.group_id}", kind="invalid"
        )
    if edit.body is None:
        if edit.key[0] is Kind.SETTINGS:  # every group has some
            return wanted(edit.key, edit.group_id, {})
        return Wanted(edit.key, edit.group_id, None, None)
    try:
        return wanted(edit.key, edit.group_id, edit.body)
    except Problem as problem:
        if not prefix:
            raise
        found = [Fault(prefix + each.pointer, each.detail) for each in problem.errors]
        raise refused(found) from None


def _own(state: State, each: Wanted, at: str = "") -> Held | None:
    """What it is now; Problem 409: it is of another group."""
    held = state.get(each.key)
    if held is not None and held.group_id != each.group_id:
        said = (
            f"{_name(each.key)} is of group {held.group_id}; names are unique over all groups:"
            " give another one"
        )
        raise Problem(409, said, kind="conflict", errors=[Fault(at, said)])
    return held


def _change(each: Wanted, held: Held | None, place: int | None) -> Changed:
    before, at = (None, None) if held is None else (held.body, held.place)
    return Changed(each.key, each.group_id, before, each.body, at, place)


def _last(state: State, kind: Kind) -> int:
    """The highest place of a kind."""
    return max((held.place for key, held in state.held.items() if key[0] is kind), default=0)


def _checked(
    state: State, read: Sequence[Wanted], changes: list[Changed], models: Sequence[BaseModel | None]
) -> Plan:
    plan = _plan(state, changes, models)
    problem = checks.in_use(plan.after, read)
    if problem is not None:
        raise problem
    broken = checks.broken(state, plan.after, read)
    if broken is not None:
        at = next((at for at, each in enumerate(read) if each.key == broken.key), None)
        path = () if at is None else broken.path if len(read) == 1 else (at, *broken.path)
        raise refused([Fault(pointer(path), broken.sentence)])
    return plan


def _plan(state: State, changes: list[Changed], models: Sequence[BaseModel | None]) -> Plan:
    pairs = [pair for pair in zip(changes, models, strict=True) if is_one(pair[0])]
    if not pairs:
        return Plan((), state)
    pairs.sort(key=lambda pair: in_order(pair[0]))
    return Plan(tuple(change for change, _ in pairs), state.changed(state.generation + 1, pairs))


# --- what is in the database already ------------------------------------------------------------


def loaded(
    resources: Iterable[tuple[Key, int, int, int, dict[str, Any]]],
) -> Iterable[Held]:
    """All of them; ConfigError: some are none that this release knows."""
    problems = []
    for key, group_id, place, generation, body in resources:
        try:
            model = KINDS[key[0]].model.model_validate(body)
        except ValidationError as error:
            problems += [
                f"the database: {_name(key)}: {each.pointer}: {each.detail}"
                for each in faults(error, body, KINDS[key[0]].model)
            ]
        else:
            yield Held(key, group_id, place, generation, body, model)
    if problems:
        problems.append(
            "the database was written by another release; start that one and correct this there"
        )
        raise ConfigError(problems)


def taken_over(state: State, number: int, changes: Sequence[Changed]) -> State:
    """The state after a generation that another process made; ConfigError as `loaded`."""
    rows = [
        (each.key, each.group_id, each.place_after or 0, number, each.after)
        for each in changes
        if each.after is not None
    ]
    models = {held.key: held.model for held in loaded(rows)}
    return state.changed(
        number, [(each, None if each.after is None else models[each.key]) for each in changes]
    )


def then(state: State, since: Iterable[Changed]) -> list[Then]:
    """The resources of all groups as they were; *since*: what changed since then, folded."""
    found = {
        (key, held.group_id): Then(key, held.group_id, held.place, held.body)
        for key, held in state.held.items()
    }
    for each in since:
        at = each.key, each.group_id
        if each.before is None:
            found.pop(at, None)
        else:
            found[at] = Then(*at, each.place_before or 0, each.before)
    return list(found.values())


# --- what is said -------------------------------------------------------------------------------


def unknown(key: Key) -> Problem:
    """404."""
    return Problem(404, f"there is no {_name(key)}", kind="not-found")


def not_kept(number: int) -> Problem:
    """404."""
    return Problem(
        404,
        f"generation {number} is not kept, or was never made; GET /api/v1/generations lists those"
        " that are",
        kind="not-found",
    )


def not_understood(error: ConfigError) -> Problem:
    """503: another process, of a newer release, wrote what this one does not know."""
    return Problem(
        503,
        f"another API wrote what this release does not know ({error.problems[0]}); start the same"
        " release here",
        kind="database",
    )


def _not_back(sentence: str) -> Problem:
    return Problem(
        409, f"this generation cannot come back in this release: {sentence}", kind="conflict"
    )


def _name(key: Key) -> str:
    kind, name = key
    return f"{KINDS[kind].word} {name}"
