# SPDX-License-Identifier: Apache-2.0
"""A segment that runs with a link to the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from admin.answers import CS_STATUS, TRACE, Identity, Status, TraceEntry
from admin.happened import Observe
from admin.link.client import ApiLink, Configured
from admin.link.config import ApiLinkConfig
from admin.server import Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """What a segment's configuration says of it."""

    config: ApiLinkConfig
    folder: Path  # of the configuration
    group_id: int | None = None  # a CS's
    configured: Configured | None = None  # a CS's


class Observed(Protocol):
    """A segment's runtime."""

    observers: list[Observe]


@asynccontextmanager
async def linked(
    linking: Linking, identity: Identity, handler: Handler, runtime: Observed
) -> AsyncIterator[Handler]:
    """Keep the link meanwhile; yields the handler whose status says so."""
    link = ApiLink(
        linking.config,
        linking.folder,
        identity,
        handler,
        group_id=linking.group_id,
        configured=linking.configured,
    )
    with_status = _with_status(handler, link)
    link.handler = with_wall_clock(with_status)
    runtime.observers.append(link.tell)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(link.run())]
        if linking.configured is not None:
            running.append(tasks.create_task(linking.configured.run()))
        try:
            yield with_status
        finally:
            runtime.observers.remove(link.tell)
            for task in running:
                task.cancel()


def _with_status(handler: Handler, link: ApiLink) -> Handler:
    async def awaited(answer: Awaitable[object]) -> object:
        return added(await answer)

    def added(answer: object) -> object:
        return replace(answer, api=link.describe()) if isinstance(answer, Status) else answer

    def handle(command: str, arguments: dict[str, object]) -> object:
        answer = handler(command, arguments)
        if command != CS_STATUS.name:
            return answer
        return awaited(answer) if isinstance(answer, Awaitable) else added(answer)

    return handle


def with_wall_clock(handler: Handler) -> Handler:
    """The handler whose traces say when something was by a clock that other machines have, too."""

    async def awaited(answer: Awaitable[object]) -> object:
        return added(await answer)

    def added(answer: object) -> object:
        if not isinstance(answer, list):
            return answer
        offset = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
        return [
            replace(each, at=each.time + offset) if isinstance(each, TraceEntry) else each
            for each in answer
        ]

    def handle(command: str, arguments: dict[str, object]) -> object:
        answer = handler(command, arguments)
        if command != TRACE.name:
            return answer
        return awaited(answer) if isinstance(answer, Awaitable) else added(answer)

    return handle
