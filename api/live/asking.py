# SPDX-License-Identifier: Apache-2.0
"""Whom to ask: of several CSs of a group, the one that decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from admin.answers import (
    CS_STATUS,
    DFS_STATUS,
    Command,
    ControlSegmentStatus,
    DataFlowSegmentStatus,
)
from api.errors import Problem
from api.segments.hub import Hub, Linked

ItemT = TypeVar("ItemT", covariant=True)


class PageOf(Protocol[ItemT]):
    """A page that a CS answers."""

    @property
    def total(self) -> int: ...
    @property
    def items(self) -> Sequence[ItemT]: ...


Status = ControlSegmentStatus | DataFlowSegmentStatus


async def states(hub: Hub) -> dict[str, Status]:
    """What every segment answers to `status`; those that do not are left out."""
    control, data_flow = await asyncio.gather(hub.ask_all(CS_STATUS), hub.ask_all(DFS_STATUS))
    answers: dict[str, Any] = {**control, **data_flow}
    return {name: it for name, it in answers.items() if not isinstance(it, Exception)}


async def leaders(hub: Hub, group_id: int | None = None) -> list[str]:
    """The active CS of each group; of a group that has none now, another one that answers."""
    answers = await hub.ask_all(CS_STATUS)
    found: dict[int, tuple[bool, str]] = {}
    for name, status in answers.items():
        if isinstance(status, Exception) or group_id not in (None, status.group_id):
            continue
        rank = status.group_role == "active"
        if status.group_id not in found or rank > found[status.group_id][0]:
            found[status.group_id] = rank, name
    return [name for _, (_, name) in sorted(found.items())]


async def active_of(hub: Hub, group_id: int | None) -> str | None:
    """The active CS of a group; None: none is."""
    for name, status in (await hub.ask_all(CS_STATUS)).items():
        if (
            not isinstance(status, Exception)
            and status.group_id == group_id
            and status.group_role == "active"
        ):
            return name
    return None


async def page(
    hub: Hub,
    command: Command[Any],
    names: Sequence[str],
    offset: int,
    limit: int,
    /,
    **arguments: object,
) -> tuple[list[tuple[str, Any]], int]:
    """A page over the lists of several CSs, each item with the CS's name, and the total; CSs that
    do not answer are left out, unless none does."""
    found: list[tuple[str, Any]] = []
    total, problems = 0, list[Problem]()
    for name in names:
        try:
            answer: PageOf[Any] = await hub.ask(
                name, command, offset=max(0, offset - total), limit=max(1, limit - len(found)),
                **arguments,
            )  # fmt: skip
        except Problem as problem:
            problems.append(problem)
            continue
        total += answer.total
        if len(found) < limit:
            found += [(name, item) for item in answer.items]
    if problems and len(problems) == len(names):
        raise problems[0]
    return found, total


def known(hub: Hub, name: str, fits: Callable[[Linked], bool] = lambda _: True) -> Linked:
    """A segment; Problem 404."""
    for each in hub.segments():
        if each.name == name and fits(each):
            return each
    names = ", ".join(each.name for each in hub.segments()) or "none"
    raise Problem(404, f"there is no segment {name!r}; there are: {names}", kind="not-found")
