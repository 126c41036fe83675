# SPDX-License-Identifier: Apache-2.0
"""The segments that have a link, and questions to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from admin.answers import AnswerT, Command, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A segment, as its link shows it."""

    identity: Identity
    group_id: int | None  # a CS's
    host: str
    address: str  # that the link comes from
    since: float  # Unix time, s
    connected: bool  # False: it was here before, since the API started
    generation: int | None  # that it runs; a CS's
    refused: int | None  # the generation that it refuses
    problems: tuple[str, ...]  # why
    status: Literal["in_force", "applying", "behind", "refused", "unconnected", "none"]

    @property
    def name(self) -> str:
        """cs-1."""
        return f"{self.identity.role}-{self.identity.segment_id}"


class Hub(Protocol):
    """All links."""

    def segments(self) -> Sequence[Linked]:
        """All that are linked or were, CSs first."""

    async def ask(self, segment: str, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Ask one ("cs-1"); Problem 404 (unknown), 503 (not connected), 504 (no answer in time),
        409 (it says no, with its sentence)."""

    async def ask_all(
        self, command: Command[AnswerT], *, role: str | None = None, **arguments: object
    ) -> dict[str, AnswerT | Exception]:
        """Ask all that are connected and have the command."""

    def stop(self) -> None:
        """End all links; from the event loop."""

    def subscribe(self, call: Callable[[str, Any], None]) -> Callable[[], None]:
        """*call* gets ("segment", Linked) and ("event", dict) as they come, in the event loop."""
