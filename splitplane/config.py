# SPDX-License-Identifier: Apache-2.0
"""Load a YAML file into a model, and report every error at once, each with file, line and field.

    cs.yaml:12: pools[0].nodes[1].port: 70000 is too large; give at most 65535

The models belong to the segments and know no files; this module knows no segment.  A check
across fields raises ValueError from a validator of the model.  If the error
belongs to another line than that of the field that the validator is on, it raises
PydanticCustomError with `at`: the path from there, for example ("pools", 0, "name").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from admin.disk import NotAFile, TooLarge, read_at_most, read_file
from admin.errors import ConfigError
from splitplane.places import Path_, Place, Problem, Unreadable
from splitplane.sentences import KnownFields, sentence
from splitplane.yaml_text import Document, read_yaml

# 10,000 virtual servers with 100,000 nodes are some 11 MB of YAML; much more is a mistake.
CONFIG_OCTETS_MAX: Final = 32 * 1024 * 1024

MISTAKES_MAX: Final = 100  # more are counted: they have few causes, and nobody reads them

ModelT = TypeVar("ModelT", bound=BaseModel)


def load(path: Path, model: type[ModelT], instead: Mapping[Path_, object] | None = None) -> ModelT:
    """Return what *path* says, or raise ConfigError with everything that is wrong with it.

    *instead*: values that the command line gives in place of the file's, by their paths.
    """
    return parse(read(path), str(path), model, instead)


def first_level(path: Path) -> dict[object, object]:
    """What *path* says, unchecked: for what has to be known before the model is asked."""
    data = _document(read(path), str(path)).data
    return data if isinstance(data, dict) else {}


def read(path: Path) -> str:
    """The text of a file, or of what somebody writes to a pipe; ConfigError."""

    def whole(path: Path, most: int) -> bytes:
        with path.open("rb") as file:
            return read_at_most(file.read, most)

    return _text(path, whole)


def read_regular(path: Path) -> str:
    """The text of a file, which is not waited for if it is a pipe or a device; ConfigError."""
    return _text(path, read_file)


def _text(path: Path, octets_of: Callable[[Path, int], bytes]) -> str:
    try:
        octets = octets_of(path, CONFIG_OCTETS_MAX)
    except NotAFile:
        raise ConfigError([f"{path}: a pipe or device cannot be reloaded; give a file"]) from None
    except TooLarge:
        raise ConfigError(
            [f"{path}: larger than {CONFIG_OCTETS_MAX} octets; is it the right file?"]
        ) from None
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: there is no such file; give the path of a YAML file"]
        ) from None
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); give a file that this user may read"]
        ) from None
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8; save the file as UTF-8 text"]) from None
    if text and not text.endswith(("\n", "\r")):
        # Half of a file is often a valid one: without virtual servers, or with 3 s for 300 s
        raise ConfigError(
            [
                f"{path}:{text.count(chr(10)) + 1}: the last line has no end, as in a file that was"
                " cut off; complete the file, or end this line with a newline"
            ]
        )
    return text


def parse(
    text: str, name: str, model: type[ModelT], instead: Mapping[Path_, object] | None = None
) -> ModelT:
    """As `load`, of a text that came from a file called *name*."""
    document = _document(text, name)
    data = document.data
    for path, value in (instead or {}).items():
        _replace(data, path, value)
    wrong = document.problems
    try:
        loaded = model.model_validate(data)
    except ValidationError as error:
        wrong = wrong + _problems(
            error, text, model, {problem.path for problem in wrong if problem.has_no_value}
        )
    if wrong:
        raise ConfigError(_lines(name, wrong))
    return loaded


def _document(text: str, name: str) -> Document:
    try:
        document = read_yaml(text)
        if not isinstance(document.data, dict):
            raise Unreadable(1, "not a mapping; start with lines like `segment_id: 1`")
    except Unreadable as error:
        raise ConfigError([f"{name}:{error.line}: {error}"]) from None
    return document


def _lines(name: str, problems: list[Problem]) -> list[str]:
    """What is wrong as lines for people, in the order of the file."""
    problems.sort(key=lambda problem: problem.line)
    lines = dict.fromkeys(
        f"{name}:{problem.line}: {_dotted(problem.path)}: {problem.sentence}"
        for problem in problems
    )
    shown = list(lines)[:MISTAKES_MAX]
    if len(lines) > MISTAKES_MAX:
        shown.append(f"{name}: {len(lines) - MISTAKES_MAX} further mistakes are not shown")
    return shown


def _replace(data: object, path: Path_, value: object) -> None:
    """Set one value; if something on its path is not a mapping, the model will say so."""
    *way, last = path
    for step in way:
        data = data.setdefault(step, {}) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data[last] = value


# --- lines ----------------------------------------------------------------------------------------


def _locate(root: Place, path: Path_, *, missing: bool) -> tuple[int, Path_]:
    """The line of *path*, and *path* without the steps that only pydantic knows.

    Those say which member of a union it tried.  The last step of a missing field is in no
    mapping; its line is the mapping's.
    """
    place, line = root, root.line
    real: list[int | str] = []
    for position, step in enumerate(path):
        found = place.child(step)
        if found is None:
            if missing and position == len(path) - 1:
                real.append(step)
            continue
        line, place = found
        real.append(step)
    return line, tuple(real)


def _dotted(path: Path_) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(the whole file)"


# --- pydantic's errors in plain words -------------------------------------------------------------


def _problems(
    error: ValidationError, text: str, model: type[BaseModel], known_paths: set[Path_]
) -> list[Problem]:
    """What pydantic found, but for fields that are wrong already."""
    place = read_yaml(text, with_places=True).place
    assert place is not None
    known, found = KnownFields(model), error.errors(include_url=False)
    others = _Others(found)
    located = []
    for details in found:
        if others.is_consequence(details) or others.is_other_member(details):
            continue
        at = (details.get("ctx") or {}).get("at", ())
        missing = details["type"] == "missing"
        line, path = _locate(place, (*details["loc"], *at), missing=missing)
        if path not in known_paths:
            located.append((line, path, details))
    located.sort(key=lambda one: one[0])
    problems = []
    for number, (line, path, details) in enumerate(located):
        said = ""
        if number < MISTAKES_MAX:  # the others are not shown, and a suggestion takes a while
            said = sentence(details, dict(details.get("ctx") or {}), path, known)
            for other in others.words(details):
                said += f", or {other['ctx']['expected']}"
        problems.append(Problem(line, path, said))
    return problems


class _Given(NamedTuple):
    """What pydantic says in several errors about one value: where, and the value."""

    at: Path_
    value: int

    @classmethod
    def of(cls, details: ErrorDetails) -> _Given:
        return cls(details["loc"][:-1], id(details["input"]))


class _Others:
    """Errors that say nothing of their own: each is found in one look, however many there are."""

    def __init__(self, found: list[ErrorDetails]) -> None:
        self._above = {
            details["loc"][:length] for details in found for length in range(len(details["loc"]))
        }
        self._words = defaultdict[_Given, list[ErrorDetails]](list)
        self._not_words = set[_Given]()
        for details in found:
            if details["type"] == "literal_error":
                self._words[_Given.of(details)].append(details)
            else:
                self._not_words.add(_Given.of(details))

    def is_consequence(self, details: ErrorDetails) -> bool:
        """A list whose items are wrong is also called too short: pydantic counts the right ones."""
        return details["type"] == "too_short" and details["loc"] in self._above

    def is_other_member(self, details: ErrorDetails) -> bool:
        """Of a number or one word, pydantic reports what is wrong with either: one is enough."""
        return details["type"] == "literal_error" and _Given.of(details) in self._not_words

    def words(self, details: ErrorDetails) -> list[ErrorDetails]:
        """The words that would also do where *details* is."""
        if details["type"] == "literal_error":
            return []
        return self._words.get(_Given.of(details), [])
