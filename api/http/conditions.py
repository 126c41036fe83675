# SPDX-License-Identifier: Apache-2.0
"""What every changing request may ask for, and conditional requests (RFC 9110 13)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header, Query

from api.errors import Problem
from api.http.texts import Text

_TAG: Final = re.compile(r'"([!#-~]*)"')
_CONDITION: Final = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
COMMENT_MAX: Final = 1000


def etag(generation: int) -> str:
    """Of what was changed last by that generation."""
    return f'"{generation}"'


def names(header: str, generation: int | None) -> bool:
    """Whether If-Match or If-None-Match names it; None: it is not there."""
    if generation is None:
        return False
    return header == "*" or str(generation) in _TAG.findall(header)


IfNoneMatch = Annotated[
    str | None,
    Header(
        description="Of GET: answer 304 if it is still this ETag. Of PUT: `*` creates only.",
        max_length=1000,
        pattern=_CONDITION,
    ),
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How a change is to be made."""

    dry_run: Annotated[
        bool, Query(description="Check everything, change nothing, and say what would change.")
    ] = False
    comment: Annotated[
        Text, Query(description="Why; kept in the history.", max_length=COMMENT_MAX)
    ] = ""
    if_match: Annotated[
        str | None,
        Header(
            description="Change it only if its ETag is this one; 412 otherwise.",
            max_length=1000,
            pattern=_CONDITION,
        ),
    ] = None
    if_none_match: IfNoneMatch = None
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The first answer to this key again, for 24 hours.",
            min_length=1,
            max_length=255,
        ),
    ] = None

    def check(self, what: str, generation: int | None) -> None:
        """Problem 412 unless it is as expected; None: it is not there now."""
        if self.if_match is not None and not names(self.if_match, generation):
            raise Problem(
                412,
                f"{what} is {'not there' if generation is None else etag(generation)},"
                f" not {self.if_match} as in If-Match; read it again and decide anew",
                kind="precondition-failed",
            )
        if self.if_none_match is not None and names(self.if_none_match, generation):
            raise Problem(
                412, f"{what} is there already (If-None-Match)", kind="precondition-failed"
            )

    def generation(self, newest: int) -> int | None:
        """That has to be the newest when the change is made; None: any.  Problem 412."""
        self.check("the newest generation", newest)
        return newest if self.if_match is not None and self.if_match != "*" else None


Wanted = Annotated[_Wanted, Depends()]
"""A parameter of endpoints that change something."""
