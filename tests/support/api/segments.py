# SPDX-License-Identifier: Apache-2.0
"""A hub without segments, for tests that give it some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from admin.answers import SWITCHOVER, AnswerT, Command, ControlSegmentId, Identity
from api.errors import Problem
from api.segments.hub import Linked
from control_segment.runtime import admin
from support.segments.dfs_double import Rig


class NoSegments:
    """`api.segments.hub.Hub`."""

    def segments(self) -> Sequence[Linked]:
        """None."""
        return ()

    async def ask(self, segment: str, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Problem 404."""
        raise Problem(404, f"there is no segment {segment!r}", kind="not-found")

    async def ask_all(
        self, command: Command[AnswerT], *, role: str | None = None, **arguments: object
    ) -> dict[str, AnswerT | Exception]:
        """Nobody answers."""
        return {}

    def stop(self) -> None:
        """Nothing is there to be ended."""

    def subscribe(self, call: Callable[[str, Any], None]) -> Callable[[], None]:
        """Nothing comes."""
        return lambda: None


class TwoSegments(NoSegments):
    """A real CS that decides, without sockets, and a standby of which only the link is seen."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.rig.dfs.query(self.rig)  # 198.51.100.7:40000 to 203.0.113.10:80

    def segments(self) -> list[Linked]:
        """cs-1 and cs-2."""
        return [
            Linked(
                identity=Identity(role="cs", segment_id=number, release="0.0.0", pid=number),
                group_id=1, host="a", address="192.0.2.1", since=0.0, connected=True,
                generation=1, refused=None, problems=(), status="in_force",
            )
            for number in (1, 2)
        ]  # fmt: skip

    async def ask(self, segment: str, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """cs-1 answers; it hands over to whoever is named."""
        answer: Any = ControlSegmentId(segment_id=2)
        if command.name != SWITCHOVER.name:
            try:
                answer = admin.handle(self.rig.cs, command.name, arguments, self.rig.now)
            except ValueError as error:
                raise Problem(409, f"{segment}: {error}", kind="refused-by-segment") from None
            if isinstance(answer, Iterator):
                answer = [each for piece in answer for each in piece]
        return cast(AnswerT, answer)

    async def ask_all(
        self, command: Command[AnswerT], *, role: str | None = None, **arguments: object
    ) -> dict[str, AnswerT | Exception]:
        """cs-1, if the command is one of a CS."""
        if "cs" not in command.roles:
            return {}
        answer: AnswerT = await self.ask("cs-1", command, **arguments)
        return {"cs-1": answer}
