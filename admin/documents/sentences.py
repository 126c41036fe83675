# SPDX-License-Identifier: Apache-2.0
"""pydantic's errors in plain words: what was given, and what to give."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from reprlib import Repr
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from admin.documents.places import Path_

# pydantic's error type -> sentence; {input} is what was given, the rest pydantic's context
_SENTENCES: Final = {
    "missing": "missing; add it",
    "int_parsing": "{input} is not a whole number; give one",
    "int_type": "{input} is not a whole number; give one",
    "int_from_float": "{input} is not a whole number; give one",
    "float_parsing": "{input} is not a number; give one",
    "float_type": "{input} is not a number; give one",
    "bool_parsing": "{input} is neither true nor false; give one of them",
    "bool_type": "{input} is neither true nor false; give one of them",
    "string_type": "{input} is not text; put it in quotes",
    "string_too_short": "{input} is too short; give at least {min_length} characters",
    "string_too_long": "{input} is too long; give at most {max_length} characters",
    "string_pattern_mismatch": "{input} does not match {pattern}; give a value that does",
    "list_type": "{input} is not a list; give lines that start with `- `",
    "tuple_type": "{input} is not a list; give lines that start with `- `",
    "too_short": "too few; give at least {min_length}",
    "too_long": "too many; give at most {max_length}",
    "dict_type": "{input} is not a mapping; give lines like `name: value`",
    "model_type": "{input} is not a mapping; give lines like `name: value`",
    "model_attributes_type": "{input} is not a mapping; give lines like `name: value`",
    "none_required": "{input} is given; leave it empty",
    "literal_error": "{input} is not allowed here; give {expected}",
    "enum": "{input} is not allowed here; give {expected}",
    "greater_than_equal": "{input} is too small; give at least {ge}",
    "greater_than": "{input} is too small; give more than {gt}",
    "less_than_equal": "{input} is too large; give at most {le}",
    "less_than": "{input} is too large; give less than {lt}",
    "union_tag_not_found": "the field {discriminator} is missing; add it",
    "union_tag_invalid": "{tag!r} is not allowed here; give one of {expected_tags}",
}


_BEGINNING: Final = Repr()


def sentence(
    details: ErrorDetails, context: dict[str, Any], path: Path_, known: KnownFields
) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_field(path, known)
    given = details["input"]
    shown = "nothing" if given is None else _shown(given)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**{**context, "input": shown})
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", details["msg"]))
    if context.get("at") is not None:
        return details["msg"]
    return f"{shown}: {details['msg'][:1].lower()}{details['msg'][1:]}; correct it"


def _shown(given: object) -> str:
    """Of lists and mappings the beginning: aliases in aliases can make them larger than memory."""
    return _BEGINNING.repr(given) if isinstance(given, list | dict) else repr(given)


def _unknown_field(path: Path_, known: KnownFields) -> str:
    names = known.at(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), names, n=1)
    if near:
        return f"unknown field; did you mean {near[0]}?"
    return "unknown field; remove it, or use one of: " + ", ".join(sorted(names))


class KnownFields:
    """Which fields a model has at a path, for suggestions; read from its JSON schema."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._schema: dict[str, Any] = model.model_json_schema()

    def at(self, path: Path_) -> list[str]:
        places = [self._schema]
        for step in path:
            places = [below for place in places for below in self._below(place, step)]
        return [name for place in places for name in self._expanded(place, "properties")]

    def _below(self, place: dict[str, Any], step: int | str) -> Iterator[dict[str, Any]]:
        for schema in self._alternatives(place):
            if isinstance(step, int) and isinstance(schema.get("items"), dict):
                yield schema["items"]
            elif step in schema.get("properties", {}):
                yield schema["properties"][step]

    def _expanded(self, place: dict[str, Any], word: str) -> Iterator[str]:
        for schema in self._alternatives(place):
            yield from schema.get(word, {})

    def _alternatives(self, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in place:
            place = self._schema["$defs"][place["$ref"].rpartition("/")[2]]
        yield place
        for alternative in [*place.get("anyOf", ()), *place.get("oneOf", ())]:
            yield from self._alternatives(alternative)
