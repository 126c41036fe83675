# SPDX-License-Identifier: Apache-2.0
"""Roles and what each may do (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Of a token.  Each of the first three may do what those before it may."""

    VIEWER = "viewer"  # reads
    OPERATOR = "operator"  # changes resources, does actions
    ADMIN = "admin"  # manages tokens, reads the audit log
    SEGMENT = "segment"  # opens a link, and nothing else


_ORDER: Final = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request."""

    who: str  # the token's name
    role: Role
    token_id: str | None = None
    by_session: bool = False  # signed in at the page, by a cookie

    def may(self, role: Role) -> bool:
        """Whether it may do what needs this role."""
        if Role.SEGMENT in (role, self.role):
            return role is self.role
        return _ORDER.index(self.role) >= _ORDER.index(role)
