# SPDX-License-Identifier: Apache-2.0
"""Who makes a request, and what it needs to be allowed."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.access.roles import Caller, Role
from api.errors import Problem
from api.http.query import check_query
from api.state import state_of


class Access(Protocol):
    """Knows callers by their tokens and sessions."""

    def caller(self, connection: HTTPConnection) -> Caller:
        """Who it is; Problem 401 (nobody known), 403 (a session without X-Splitplane-Request, where
        something changes), 429 (too many failures from there)."""


class Needs:
    """A dependency: the caller, if it has the role; Problem 403 otherwise."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, connection: HTTPConnection) -> Caller:
        """Ask who it is; then also what else the request asks for is looked at."""
        caller = state_of(connection).access.caller(connection)
        if not caller.may(self.role):
            raise Problem(
                403,
                f"this needs the role {self.role}, and {caller.who} has {caller.role};"
                " use another token",
                kind="forbidden",
            )
        check_query(connection)
        return caller


Viewer = Annotated[Caller, Depends(Needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(Needs(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(Needs(Role.ADMIN))]
SegmentCaller = Annotated[Caller, Depends(Needs(Role.SEGMENT))]
"""Parameters of endpoints: `caller: Operator`."""
