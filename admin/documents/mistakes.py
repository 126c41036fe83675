# SPDX-License-Identifier: Apache-2.0
"""What a model finds wrong with a document: pydantic's errors with their places, in plain words."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from admin.documents.places import Path_, Place, Problem
from admin.documents.sentences import KnownFields, sentence

MISTAKES_MAX: Final = 100  # more are counted: they have few causes, and nobody reads them


def mistakes(
    error: ValidationError,
    place: Place,
    model: type[BaseModel],
    known_paths: set[Path_] | None = None,
) -> list[Problem]:
    """What pydantic found, in the order of the lines, but for fields that are wrong already.

    A check across fields raises ValueError from a validator of the model.  If the error belongs to
    another field than that which the validator is on, it raises PydanticCustomError with `at`: the
    path from there, for example ("pools", 0, "name").
    """
    known, found = KnownFields(model), error.errors(include_url=False)
    others = _Others(found)
    located = []
    for details in found:
        if others.is_consequence(details) or others.is_other_member(details):
            continue
        at = (details.get("ctx") or {}).get("at", ())
        missing = details["type"] == "missing"
        line, path = _locate(place, (*details["loc"], *at), missing=missing)
        if path not in (known_paths or ()):
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
