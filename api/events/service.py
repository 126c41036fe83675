# SPDX-License-Identifier: Apache-2.0
"""Events: kept in the database, and told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One event."""

    at: float  # Unix time, s
    severity: Literal["info", "warning", "error"]
    kind: str  # node_down, node_up, role, segment_linked, generation_refused ...
    what: str  # a sentence
    segment: str | None = None  # cs-1; None: the API itself
    subject: dict[str, str] = field(default_factory=dict)  # virtual_server, pool, node, segment
    id: int | None = None  # once it is kept


class Events(Protocol):
    """All events."""

    def add(self, happened: Happened) -> Happened:
        """Keep it and tell watchers; from any thread."""

    def latest(
        self, *, before: int | None = None, limit: int = 100, segment: str | None = None,
        kind: str | None = None, severity: str | None = None, text: str | None = None,
    ) -> Sequence[Happened]:  # fmt: skip
        """The newest first."""

    def count(
        self, *, segment: str | None = None, kind: str | None = None,
        severity: str | None = None, text: str | None = None,
    ) -> int:  # fmt: skip
        """How many there are of these."""

    def subscribe(self, call: Callable[[Happened], None]) -> Callable[[], None]:
        """*call* gets each one, from whatever thread added it; what is returned ends that."""
