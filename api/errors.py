# SPDX-License-Identifier: Apache-2.0
"""What a request is refused with: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a document: where (RFC 6901), and what to do."""

    pointer: str
    detail: str


class Problem(Exception):
    """Ends a request; the application's handler makes application/problem+json of it."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "about:blank",
        errors: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        """*kind*: the last part of `type`, from the list in docs/api.md."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = headers or {}
