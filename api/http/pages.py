# SPDX-License-Identifier: Apache-2.0
"""Collections, a page at a time."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from api.errors import Fault, Problem

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
ItemT = TypeVar("ItemT")


class Page(BaseModel, Generic[ItemT]):
    """A part of a collection."""

    items: list[ItemT]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")
    total: int = Field(description="How many there are on all pages.")


@dataclass(frozen=True, slots=True)
class _Paging:
    """Which page."""

    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items per page.")] = LIMIT
    cursor: Annotated[
        str | None, Query(max_length=400, description="`next` of the page before.")
    ] = None

    def number(self) -> int | None:
        """That the last item of the page before has; None: begin."""
        if self.cursor is None:
            return None
        (number,) = _parts(self.cursor, int)
        return int(number)

    def place(self) -> tuple[int, str] | None:
        """That the last item of the page before has, and its name; None: begin."""
        if self.cursor is None:
            return None
        place, name = _parts(self.cursor, int, str)
        return int(place), str(name)


Paging = Annotated[_Paging, Depends()]
"""A parameter of endpoints that answer a collection."""


def cursor(*parts: int | str) -> str:
    """Opaque, so that nobody makes one."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _parts(text: str, *types: type[int | str]) -> list[int | str]:
    try:
        padded = text + "=" * (-len(text) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        parts = None
    if not (
        isinstance(parts, list)
        and [type(part) for part in parts] == list(types)
        and all(0 <= part < 1 << 63 for part in parts if isinstance(part, int))
    ):
        raise Problem(
            422,
            "the cursor is none that this API gave; begin without one",
            kind="invalid",
            errors=[Fault("?cursor", "give `next` of the page before, or nothing")],
        )
    return parts


def cut(
    placed: Sequence[tuple[tuple[int, str], ItemT]], paging: _Paging
) -> tuple[list[ItemT], str | None]:
    """The page, and the cursor of the next.  *placed*: ascending places, and what has them."""
    after = paging.place()
    first = 0 if after is None else bisect_right(placed, after, key=lambda each: each[0])
    page = placed[first : first + paging.limit]
    more = len(placed) > first + paging.limit
    return [item for _, item in page], cursor(*page[-1][0]) if more else None
