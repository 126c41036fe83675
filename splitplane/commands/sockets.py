# SPDX-License-Identifier: Apache-2.0
"""Find the segments that a command is about: by --socket, or all that this machine runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from admin.answers import CS_STATUS, HELLO, AnswerT, Command
from admin.client import SOCKET_FOLDER, ask, living_sockets
from admin.errors import CommandError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
KINDS = {"cs": "Control Segment", "dfs": "Data Flow Segment"}


@dataclass(frozen=True, slots=True)
class Segment:
    """One that answers at its admin socket."""

    kind: str
    segment_id: int
    socket: Path

    @property
    def name(self) -> str:
        """As people say it: cs-1."""
        return f"{self.kind}-{self.segment_id}"

    @property
    def place(self) -> dict[str, str]:
        """Where it was asked, for JSON."""
        return {"socket": str(self.socket)}

    def ask(self, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Ask it."""
        return ask(self.socket, command, **arguments)


def socket_option(function: FunctionT) -> FunctionT:
    """Add --socket, for machines with several segments."""
    return click.option(
        "--socket",
        "sockets",
        multiple=True,
        type=click.Path(path_type=Path),
        help=f"Admin socket of the segment to query; default: all below {SOCKET_FOLDER}.",
    )(function)


def segments(sockets: Sequence[Path], *kinds: str) -> list[Segment]:
    """The segments of the first of *kinds* that is there; CommandError if none is."""
    found = _all(sockets)
    for kind in kinds:
        if chosen := [segment for segment in found if segment.kind == kind]:
            return chosen
    wanted = " or ".join(KINDS[kind] for kind in kinds)
    if sockets:
        raise CommandError(f"{', '.join(map(str, sockets))}: not a {wanted}")
    raise CommandError(
        f"no {wanted} answers at a socket below {SOCKET_FOLDER}; start one (splitplane run starts"
        " a laboratory), give --socket, or run this command as the user that runs the segment"
    )


def control_segments_to_change(sockets: Sequence[Path]) -> list[Segment]:
    """The CSs that a command is to change; CommandError if nobody said which group's, and CSs of
    several run here: their pools may have the same names."""
    found = segments(sockets, "cs")
    if not sockets and len(found) > 1:
        refuse_several_groups([(each, each.ask(CS_STATUS).group_id) for each in found])
    return found


def refuse_several_groups(found: Sequence[tuple[Segment, int]]) -> None:
    """CommandError if these CSs, each with its group, are not of one group."""
    if len({group_id for _, group_id in found}) > 1:
        named = ", ".join(
            f"{segment.name} of group {group_id} ({segment.socket})" for segment, group_id in found
        )
        raise CommandError(f"CSs of several groups run here: {named}; say which by --socket")


def every_segment(sockets: Sequence[Path], *kinds: str) -> list[Segment]:
    """All segments of *kinds*, CSs first; CommandError if there is none."""
    segments(sockets, *kinds)
    found = [segment for segment in _all(sockets) if segment.kind in kinds]
    return sorted(found, key=lambda segment: (segment.kind, segment.segment_id))


def _all(sockets: Sequence[Path]) -> list[Segment]:
    answers = [(path, ask(path, HELLO)) for path in sockets] or list(living_sockets())
    return [Segment(identity.role, identity.segment_id, path) for path, identity in answers]
