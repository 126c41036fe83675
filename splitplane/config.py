# SPDX-License-Identifier: Apache-2.0
"""Load a YAML file into a model, and report every error at once, each with file, line and field.

    cs.yaml:12: pools[0].nodes[1].port: 70000 is too large; give at most 65535

The models belong to the segments and know no files; this module knows no segment.
How a model says where a rule across fields is broken: `admin.documents.mistakes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from admin.disk import NotAFile, TooLarge, read_at_most, read_file, said_when_slow
from admin.documents.mistakes import MISTAKES_MAX, mistakes
from admin.documents.places import Path_, Place, Problem, Unreadable
from admin.documents.yaml_text import Document, read_yaml
from admin.errors import ConfigError

# 10,000 virtual servers with 100,000 nodes are some 11 MB of YAML; much more is a mistake.
CONFIG_OCTETS_MAX: Final = 32 * 1024 * 1024

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


def document_of(path: Path) -> tuple[dict[str, Any], Place]:
    """What *path* says and where, for others to check; ConfigError: it is no mapping."""
    document = _document(read(path), str(path), with_places=True)
    if document.problems:
        raise ConfigError(_lines(str(path), document.problems))
    assert isinstance(document.data, dict)
    assert document.place is not None
    return document.data, document.place


def wrong(name: str, place: Place, mistakes: Iterable[tuple[str, str]]) -> ConfigError:
    """Of a document that somebody else has checked: where (RFC 6901) and what to do, each."""
    return ConfigError(_lines(name, [_problem(place, *mistake) for mistake in mistakes]))


def _problem(place: Place, pointer: str, sentence: str) -> Problem:
    line, path = place.line, list[int | str]()
    known: Place | None = place
    for step in (each.replace("~1", "/").replace("~0", "~") for each in pointer.split("/")[1:]):
        at = int(step) if known is not None and known.items and step.isdecimal() else step
        path.append(at)
        found = None if known is None else known.child(at)
        known = None
        if found is not None:
            line, known = found
    return Problem(line, tuple(path), sentence)


def read(path: Path) -> str:
    """The text of a file, or of what somebody writes to a pipe; ConfigError."""

    def whole(path: Path, most: int) -> bytes:
        with said_when_slow(path), path.open("rb") as file:
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
        place = read_yaml(text, with_places=True).place
        assert place is not None
        known = {problem.path for problem in wrong if problem.has_no_value}
        wrong = wrong + mistakes(error, place, model, known)
    if wrong:
        raise ConfigError(_lines(name, wrong))
    return loaded


def _document(text: str, name: str, *, with_places: bool = False) -> Document:
    try:
        document = read_yaml(text, with_places=with_places)
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


def _dotted(path: Path_) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(the whole file)"
