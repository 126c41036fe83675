# SPDX-License-Identifier: Apache-2.0
"""Load a YAML file into a model, and report every error at once, each with file, line and field.

    cs.yaml:12: pools[0].nodes[1].port: 70000 is too large; give at most 65535

The models belong to the segments and know no files; this module knows no segment.  A check
across fields raises ValueError from a validator of the model.  If the error
belongs to another line than that of the field that the validator is on, it raises
PydanticCustomError with `at`: the path from there, for example ("pools", 0, "name").
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from admin.errors import ConfigError

# A thousand pools of a hundred nodes are some 6 MB of YAML; much more than that is a mistake.
CONFIG_OCTETS_MAX: Final = 16 * 1024 * 1024

_TAG: Final = "tag:yaml.org,2002:"

ModelT = TypeVar("ModelT", bound=BaseModel)
Path_: TypeAlias = tuple[int | str, ...]


def load(path: Path, model: type[ModelT], instead: Mapping[Path_, object] | None = None) -> ModelT:
    """Return what *path* says, or raise ConfigError with everything that is wrong with it.

    *instead*: values that the command line gives in place of the file's, by their paths.
    """
    return parse(read(path), str(path), model, instead)


def first_level(path: Path) -> dict[object, object]:
    """What *path* says, unchecked: for what has to be known before the model is asked."""
    data = _compose(read(path), str(path))[1]
    return data if isinstance(data, dict) else {}


def read(path: Path) -> str:
    """The file's text, or ConfigError."""
    try:
        if path.is_file() and path.stat().st_size > CONFIG_OCTETS_MAX:
            raise ConfigError(
                [f"{path}: larger than {CONFIG_OCTETS_MAX} octets; is it the right file?"]
            )
        octets = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: there is no such file; give the path of a YAML file"]
        ) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); give a file that this user may read"]
        ) from None
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8; save the file as UTF-8 text"]) from None


def parse(
    text: str, name: str, model: type[ModelT], instead: Mapping[Path_, object] | None = None
) -> ModelT:
    """As `load`, of a text that came from a file called *name*."""
    root, data = _compose(text, name)
    for path, value in (instead or {}).items():
        _replace(data, path, value)
    problems = [f"{name}:{line}: {field}: given twice; keep one" for line, field in _doubles(root)]
    try:
        loaded = model.model_validate(data)
    except ValidationError as error:
        known = _KnownFields(model)
        found = error.errors(include_url=False)
        problems += [
            _problem(details, name, root, known, found)
            for details in found
            if not _follows_from_another(details, found) and not _is_other_member(details, found)
        ]
    if problems:
        raise ConfigError(sorted(dict.fromkeys(problems), key=_line_of))
    return loaded


def _replace(data: object, path: Path_, value: object) -> None:
    """Set one value; if something on its path is not a mapping, the model will say so."""
    *way, last = path
    for step in way:
        data = data.setdefault(step, {}) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data[last] = value


def _line_of(problem: str) -> int:
    return int(problem.split(": ", 1)[0].rpartition(":")[2])


# --- YAML -----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads unquoted words as YAML 1.2 does, and as people mean them.

    By YAML 1.1 `name: no` is a truth value, `port: 1:30` is 90, `port: 010` is 8 and
    `name: 2026-01-01` is a date.
    """


_OUTDATED: Final = ("bool", "int", "timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.removeprefix(_TAG) not in _OUTDATED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), [*"tTfF"]
)
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), [*"-+0123456789"]
)


def _compose(text: str, name: str) -> tuple[yaml.Node, object]:
    loader = None
    try:
        # libyaml's loader is ten times as fast, but deep nesting crashes it, and with it a running
        # CS
        loader = _Loader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError([f"{name}:1: not a mapping; start with lines like `segment_id: 1`"])
        return root, loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(
            [f"{name}:{line}: not YAML: {said}; check the indentation and quotes"]
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            [f"{name}:{line}: not YAML: a character {error.character:#x}; remove it"]
        ) from None
    except RecursionError:
        raise ConfigError([f"{name}:1: nested too deeply; simplify it"]) from None
    except ValueError as error:
        raise ConfigError([f"{name}:1: {error}; simplify it"]) from None
    finally:
        if loader is not None:
            loader.dispose()


def _doubles(root: yaml.Node) -> Iterator[tuple[int, str]]:
    """Keys that occur twice in one mapping: YAML would silently keep the last."""
    waiting: list[tuple[yaml.Node, Path_]] = [(root, ())]
    visited: set[int] = set()  # an alias leads to the same node again, maybe for ever
    while waiting:
        node, path = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(child, (*path, index)) for index, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: set[object] = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
                if name in seen:
                    yield key.start_mark.line + 1, _dotted((*path, str(name)))
                seen.add(name)
                waiting.append((value, (*path, str(name))))


def _child(node: yaml.Node, step: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """(what to point at for the name, value) of one step into *node*."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key, value
    return None


def _locate(root: yaml.Node, path: Path_, *, missing: bool) -> tuple[int, Path_]:
    """The line of *path*, and *path* without the steps that only pydantic knows.

    Those say which member of a union it tried.  The last step of a missing field is in no
    mapping; its line is the mapping's.
    """
    node, pointed_at = root, root
    real: list[int | str] = []
    for position, step in enumerate(path):
        found = _child(node, step)
        if found is None:
            if missing and position == len(path) - 1:
                real.append(step)
            continue
        pointed_at, node = found
        real.append(step)
    return pointed_at.start_mark.line + 1, tuple(real)


def _dotted(path: Path_) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(the whole file)"


# --- pydantic's errors in plain words -------------------------------------------------------------

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


def _problem(
    details: ErrorDetails,
    name: str,
    root: yaml.Node,
    known: _KnownFields,
    found: list[ErrorDetails],
) -> str:
    context: dict[str, Any] = dict(details.get("ctx") or {})
    at = context.get("at", ())
    missing = details["type"] == "missing"
    line, path = _locate(root, (*details["loc"], *at), missing=missing)
    said = _sentence(details, context, path, known)
    for other in _or_words(details, found):
        said += f", or {other['ctx']['expected']}"
    return f"{name}:{line}: {_dotted(path)}: {said}"


def _follows_from_another(details: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """A list whose items are wrong is also called too short: pydantic counts the right ones."""
    path = details["loc"]
    return details["type"] == "too_short" and any(
        other["loc"][: len(path)] == path and len(other["loc"]) > len(path) for other in found
    )


def _is_other_member(details: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """Of a number or one word, pydantic reports what is wrong with either: one line is enough."""
    return details["type"] == "literal_error" and any(
        details in _or_words(other, found) for other in found
    )


def _or_words(details: ErrorDetails, found: list[ErrorDetails]) -> list[ErrorDetails]:
    """The words that would also do where *details* is."""
    if details["type"] == "literal_error":
        return []
    return [
        other
        for other in found
        if other["type"] == "literal_error"
        and other["loc"][:-1] == details["loc"][:-1]
        and other["input"] is details["input"]
    ]


def _sentence(
    details: ErrorDetails, context: dict[str, Any], path: Path_, known: _KnownFields
) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_field(path, known)
    given = details["input"]
    shown = "nothing" if given is None else repr(given)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**{**context, "input": shown})
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", details["msg"]))
    if context.get("at") is not None:
        return details["msg"]
    return f"{shown}: {details['msg'][:1].lower()}{details['msg'][1:]}; correct it"


def _unknown_field(path: Path_, known: _KnownFields) -> str:
    names = known.at(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), names, n=1)
    if near:
        return f"unknown field; did you mean {near[0]}?"
    return "unknown field; remove it, or use one of: " + ", ".join(sorted(names))


class _KnownFields:
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
