# SPDX-License-Identifier: Apache-2.0
"""Lines for a log, with what they are about: text for people, fields for who filters JSON."""

from __future__ import annotations

from typing import TypeAlias

Value: TypeAlias = str | int


class Line(str):
    """A sentence; whoever does not ask for more has a str."""

    about: dict[str, Value]


def line(text: str, **about: Value) -> Line:
    """*about*: what it is about, by the words of the glossary: `dfs`, `cs`, `peer`, `node` ..."""
    made = Line(text)
    made.about = about
    return made
