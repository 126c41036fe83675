# SPDX-License-Identifier: Apache-2.0
"""How metrics are collected: by the commands of the admin socket, and in slices."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final, NamedTuple, TypeVar

from admin.answers import ApiLinkStatus, Command
from admin.metrics.tables import Group, Metric, unlabelled
from admin.server import Handler

AT_ONCE: Final = 250
"""Items that are looked at, or written, between which QUERYs may be answered: about a ms."""

AnswerT = TypeVar("AnswerT")
ItemT = TypeVar("ItemT")


class Asking:
    """Asks a segment of the same process what it answers at its admin socket."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, command: Command[AnswerT]) -> AnswerT:
        """The answer; ValueError if the segment does not answer now."""
        answer = self._handler(command.name, {})
        if isinstance(answer, Awaitable):
            answer = await answer
        return answer  # type: ignore[return-value]  # what `Commands` holds the segment to


async def sliced(items: Sequence[ItemT]) -> AsyncIterator[Sequence[ItemT]]:
    """The items, some at a time; other tasks get their turn between."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
        await asyncio.sleep(0)


class LeftOut(NamedTuple):
    """How many things of a kind have no series of their own."""

    of: str
    number: int


class Count(NamedTuple):
    """How often something happened."""

    name: str
    number: int


class Event(NamedTuple):
    """A count, and whether it may rise without anything being wrong."""

    name: str
    normal: str  # true, false
    number: int


def build_info(component: str) -> Group[str]:
    """What runs: the items are releases of splitplane."""
    return Group(
        "the process",
        ("version", "python"),
        lambda release: (release, platform.python_version()),
        (
            Metric(
                f"splitplane_{component}_build",
                "info",
                "The release of splitplane, and of Python.",
                lambda _: 1,
            ),
        ),
    )


def link_to_api(component: str) -> Group[ApiLinkStatus]:
    """Whether the API is there."""
    return unlabelled(
        "the segment, if it has an API",
        Metric(
            f"splitplane_{component}_api_linked",
            "gauge",
            "1: it is linked to the API.",
            lambda status: status.linked,
        ),
    )


def left_out(component: str) -> Group[LeftOut]:
    """What `metrics.series_max` leaves out."""
    return Group(
        "each kind of thing",
        ("of",),
        lambda item: (item.of,),
        (
            Metric(
                f"splitplane_{component}_series_left_out",
                "gauge",
                "Things that have no series of their own, because there are more than"
                " `metrics.series_max` of them.",
                lambda item: item.number,
            ),
        ),
    )


def counted(name: str, label: str, meaning: str) -> Group[Count]:
    """A counter with a label."""
    return Group(
        f"each {label}",
        (label,),
        lambda item: (item.name,),
        (Metric(name, "counter", meaning, lambda item: item.number),),
    )


def events(name: str, label: str, meaning: str) -> Group[Event]:
    """A counter with a label, and with `normal`."""
    return Group(
        f"each {label}",
        (label, "normal"),
        lambda item: (item.name, item.normal),
        (Metric(name, "counter", meaning, lambda item: item.number),),
    )
