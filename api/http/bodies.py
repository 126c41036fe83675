# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests: JSON or YAML, read strictly.

What a reader would take in its own way is refused: a field given twice, NaN, half of a surrogate
pair, a NUL character (PostgreSQL stores none).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, NamedTuple, NoReturn

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from admin.documents.places import Path_, Place, Unreadable, pointer
from admin.documents.yaml_text import read_yaml
from api.errors import Fault, Problem
from api.http.texts import is_text

JSON_TYPES: Final = ("application/json",)
PATCH_TYPES: Final = ("application/merge-patch+json", "application/json")
YAML_TYPES: Final = ("application/yaml", "application/x-yaml", "text/yaml")
_DEPTH_MAX: Final = 64
_REPEATED_MAX: Final = 500_000  # some lines of YAML can stand for more than there is memory
_IN_LOOP_MAX: Final = 64 * 1024  # octets that are parsed in the event loop: about a millisecond


class Given(NamedTuple):
    """A body, and its text if it was YAML: where its fields are is looked for when one is wrong."""

    data: dict[str, Any]
    text: str | None = None

    def with_lines(self, problem: Problem) -> Problem:
        """The same with the line of each fault, as in a file."""
        if self.text is None or not problem.errors:
            return problem
        place = read_yaml(self.text, with_places=True).place
        assert place is not None
        errors = [_with_line(place, fault) for fault in problem.errors]
        return Problem(
            problem.status, problem.detail, kind=problem.kind, errors=errors,
            headers=problem.headers,
        )  # fmt: skip


async def _object(request: Request) -> dict[str, Any]:
    return (await _read(request, JSON_TYPES)).data


async def _patch(request: Request) -> dict[str, Any]:
    return (await _read(request, PATCH_TYPES)).data


async def _document(request: Request) -> Given:
    return await _read(request, (*JSON_TYPES, *YAML_TYPES))


JsonBody = Annotated[dict[str, Any], Depends(_object)]
PatchBody = Annotated[dict[str, Any], Depends(_patch)]
DocumentBody = Annotated[Given, Depends(_document)]
"""Parameters of endpoints, after the caller: nobody else's body is read."""


async def _read(request: Request, kinds: tuple[str, ...]) -> Given:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in kinds:
        raise Problem(
            415,
            f"the body is {kind or 'of no named type'}; send one of {', '.join(kinds)}"
            " and name it in Content-Type",
            kind="unsupported-media-type",
        )
    octets = await request.body()
    parse = _yaml if kind in YAML_TYPES else _json
    if len(octets) <= _IN_LOOP_MAX:
        return parse(octets)
    return await run_in_threadpool(parse, octets)


def _json(octets: bytes) -> Given:
    try:
        text = octets.decode()
        data = json.loads(text, object_pairs_hook=_fields, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _malformed(
            f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _malformed("nested too deeply") from None
    except ValueError as error:  # of _fields and _no_constant, or a number of thousands of digits
        raise _malformed(f"not JSON that can be used: {error}") from None
    _check(data, has_escapes=b"\\u" in octets)
    return Given(_mapping(data))


def _yaml(octets: bytes) -> Given:
    try:
        text = octets.decode()
        document = read_yaml(text, repeated_max=_REPEATED_MAX)
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    except Unreadable as error:
        raise _malformed(f"line {error.line}: {error}") from None
    if document.problems:
        faults = [
            Fault(pointer(each.path), f"line {each.line}: {each.sentence}")
            for each in document.problems[:100]
        ]
        raise Problem(422, "the document is wrong", kind="invalid", errors=faults)
    _check(document.data, has_escapes=b"\\" in octets)
    return Given(_mapping(document.data), text)


def _mapping(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _malformed('not an object; send one like {"name": "web"}')
    return data


def _malformed(what: str) -> Problem:
    return Problem(400, f"the body is {what}; correct it", kind="malformed")


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"field {name!r} is given twice")
            seen.add(name)
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check(data: object, *, has_escapes: bool) -> None:
    """Problem 400 or 422 for what nests too deeply, and for texts that not every database can keep:
    only an escape can have brought one in, as the body was UTF-8."""
    left: list[tuple[Path_, object]] = [((), data)]
    while left:
        path, value = left.pop()
        if len(path) > _DEPTH_MAX:
            raise _malformed("nested too deeply")
        fields: Iterable[tuple[int | str, object]]
        if isinstance(value, dict):
            fields = value.items()
        elif isinstance(value, list):
            fields = enumerate(value)
        else:
            fields = ()
        for key, each in fields:
            if isinstance(each, dict | list):
                left.append(((*path, key), each))
            if has_escapes and not (_is_kept(key) and _is_kept(each)):
                said = "a NUL or half a surrogate pair is no text; remove it"
                faults = [Fault(pointer((*path, key)), said)]
                raise Problem(422, "the document is wrong", kind="invalid", errors=faults)


def _is_kept(value: object) -> bool:
    return not isinstance(value, str) or is_text(value)


def _with_line(place: Place, fault: Fault) -> Fault:
    line, at = place.line, place
    for step in fault.pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = at.child(int(name) if name.isdecimal() else name)
        if found is None:
            break
        line, at = found
    return Fault(fault.pointer, f"line {line}: {fault.detail}")
