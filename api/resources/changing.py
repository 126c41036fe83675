# SPDX-License-Identifier: Apache-2.0
"""Changes of single resources: what PUT, POST, PATCH and DELETE of every kind do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.access.roles import Caller
from api.desired.resources import Body, Edit, Held, Key, Kind, Made
from api.errors import Fault, Problem
from api.generations.made import GENERATION, how, note
from api.generations.models import shown
from api.http.conditions import Wanted, etag
from api.resources.merge_patch import merged
from api.resources.reading import representation
from api.state import ApiState

_TRIES: Final = 100
_WORDS: Final = {
    Kind.SETTINGS: "the settings of group", Kind.MONITOR: "monitor", Kind.POOL: "pool",
    Kind.VIRTUAL_SERVER: "virtual server",
}  # fmt: skip
Expected: TypeAlias = Callable[[Key, Held | None], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One changing request."""

    state: ApiState
    request: Request
    caller: Caller
    wanted: Wanted

    def put(self, key: Key, given: Body) -> Response:
        """Create or replace."""
        group_id, body = _without_metadata(given)

        def edit(held: Held | None) -> Edit:
            return Edit(key, _group(group_id, held), body)

        return self._answer(key, self._read_and_write(key, edit))

    def post(self, kind: Kind, given: Body) -> Response:
        """Create; Problem 409 if the name exists."""
        group_id, body = _without_metadata(given)
        key = kind, name_in(body)

        def edit(held: Held | None) -> Edit:
            if held is not None:
                raise exists(describe(key))
            return Edit(key, _group(group_id, None), body)

        return self._answer(key, self._read_and_write(key, edit))

    def patch(self, key: Key, patch: Body) -> Response:
        """Merge into what is there (RFC 7396); Problem 404."""
        group_id, body = _without_metadata(patch)

        def edit(held: Held | None) -> Edit:
            if held is None:
                raise missing(key)
            return Edit(key, _group(group_id, held), merged(held.body, body))

        return self._answer(key, self._read_and_write(key, edit))

    def delete(self, key: Key) -> Response:
        """Remove; Problem 404, and 409 while something refers to it."""

        def edit(held: Held | None) -> Edit:
            if held is None:
                raise missing(key)
            return Edit(key, held.group_id, None)

        return self.gone(self._read_and_write(key, edit))

    def within(self, key: Key, edit: Callable[[Held], Body]) -> Made:
        """Change a part of a resource; *edit* gets it as it is and returns its new body."""

        def whole(held: Held | None) -> Edit:
            if held is None:
                raise missing(key)
            return Edit(key, held.group_id, edit(held))

        return self._read_and_write(key, whole)

    # --- how ---------------------------------------------------------------------------------

    def _read_and_write(self, key: Key, edit: Callable[[Held | None], Edit]) -> Made:
        """Write what follows from what is there, if it is still there when it is written."""
        for _ in range(_TRIES):
            before = self._held(key)
            wanted = edit(before)
            try:
                return self._made(wanted, before)
            except _Meanwhile:
                continue
        raise Problem(
            503,
            f"{describe(key)} was changed by others {_TRIES} times meanwhile; try again",
            kind="busy",
            headers={"Retry-After": "1"},
        )

    def _made(self, edit: Edit, before: Held | None) -> Made:
        def expected(key: Key, now: Held | None) -> None:
            self.wanted.check(describe(key), None if now is None else now.generation)
            if (now and now.generation) != (before and before.generation):
                raise _Meanwhile

        made = self.state.desired.change(
            [edit], who=self.caller.who, how=self.how, comment=self.wanted.comment,
            dry_run=self.wanted.dry_run, expected=expected,
        )  # fmt: skip
        note(self.request, made)
        return made

    def _held(self, key: Key) -> Held | None:
        try:
            return self.state.desired.get(key)
        except Problem as problem:
            if problem.status != 404:
                raise
            return None

    @property
    def how(self) -> str:
        """PUT pools/web."""
        return how(self.request)

    def _answer(self, key: Key, made: Made) -> Response:
        if made.dry_run:
            return JSONResponse(shown(made))
        held = self.state.desired.get(key)
        created = any(each.key == key and each.before is None for each in made.changes)
        headers = {"ETag": etag(held.generation), GENERATION: str(made.number)}
        if created and key[0] is not Kind.SETTINGS:
            path = self.request.url.path
            headers["Location"] = path if self.request.method == "PUT" else f"{path}/{key[1]}"
            return JSONResponse(representation(held), 201, headers)
        return JSONResponse(representation(held), 200, headers)

    def gone(self, made: Made) -> Response:
        """The answer to DELETE."""
        if made.dry_run:
            return JSONResponse(shown(made))
        return Response(status_code=204, headers={GENERATION: str(made.number)})


class _Meanwhile(Exception):
    """It was changed between reading and writing."""


def describe(key: Key) -> str:
    """For a sentence."""
    kind, name = key
    return f"{_WORDS[kind]} {name}" if kind is Kind.SETTINGS else f"{_WORDS[kind]} {name!r}"


def exists(what: str) -> Problem:
    """For POST."""
    return Problem(409, f"{what} exists; PUT replaces it, PATCH changes it", kind="exists")


def missing(key: Key) -> Problem:
    """404."""
    return Problem(404, f"there is no {describe(key)}", kind="not-found")


def name_in(body: Body) -> str:
    """The name that a new resource gives itself."""
    name = body.get("name")
    if not isinstance(name, str):
        said = "missing; add it" if name is None else f"{name!r} is not text; put it in quotes"
        raise Problem(
            422, f"the document is wrong: /name: {said}", kind="invalid",
            errors=[Fault("/name", said)],
        )  # fmt: skip
    return name


def _without_metadata(given: Body) -> tuple[int | None, Body]:
    """The group, and the body; `generation`, which answers have, is not looked at."""
    body = {key: value for key, value in given.items() if key not in ("group_id", "generation")}
    group_id = given.get("group_id")
    if group_id is not None and (type(group_id) is not int or not 0 <= group_id <= 65535):
        said = f"{group_id!r} is no group; give a number from 0 to 65535"
        raise Problem(
            422, f"the document is wrong: /group_id: {said}", kind="invalid",
            errors=[Fault("/group_id", said)],
        )  # fmt: skip
    return group_id, body


def _group(given: int | None, held: Held | None) -> int:
    if given is not None:
        return given
    return 1 if held is None else held.group_id
