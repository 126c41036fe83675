# SPDX-License-Identifier: Apache-2.0
"""Where something is in a YAML file, and what is wrong there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Path_: TypeAlias = tuple[int | str, ...]


class Problem(NamedTuple):
    """Something wrong with a field."""

    line: int
    path: Path_
    sentence: str
    has_no_value: bool = True  # what it is given to is not to be told that it does not fit


class Unreadable(Exception):
    """This is not YAML, or not what a configuration can be."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


class Place:
    """Where a value begins, and the values in it: by index, or by key with the key's line."""

    __slots__ = ("fields", "items", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.items: list[Place] = []
        self.fields: dict[str, tuple[int, Place]] = {}

    def child(self, step: int | str) -> tuple[int, Place] | None:
        """(what line to point at for its name, the place) of a step from here."""
        if isinstance(step, int) and step < len(self.items):
            return self.items[step].line, self.items[step]
        return self.fields.get(str(step))


def place_of(data: object) -> Place:
    """The places of data that came from no text: all are on line 0."""
    place = Place(0)
    if isinstance(data, Mapping):
        place.fields = {str(key): (0, place_of(value)) for key, value in data.items()}
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        place.items = [place_of(item) for item in data]
    return place


def pointer(path: Path_) -> str:
    """As RFC 6901 writes it: /pools/0/name."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join(f"/{step}" for step in steps)
