# SPDX-License-Identifier: Apache-2.0
"""Those who watch: each has a queue, into which threads put what happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any, Final

from pydantic_core import to_json

from api.errors import Problem
from api.events.service import Happened
from api.segments.hub import Linked
from api.state import ApiState

WATCHERS_MAX: Final = 500
QUEUE_MAX: Final = 1000  # messages that a watcher may be behind; then it has to begin again
HEARTBEAT_S: Final = 15.0
HEARTBEAT: Final = b": still here\n\n"


def message(kind: str, data: object, number: int | None = None) -> bytes:
    """One server-sent event."""
    start = b"" if number is None else f"id: {number}\n".encode()
    return start + f"event: {kind}\n".encode() + b"data: " + to_json(data) + b"\n\n"


class Watchers:
    """All of one application.  `stop` ends them, and lets nobody in any more."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """From the event loop."""
        self._stopped = True
        for queue in self._queues:
            _end(queue)

    @contextlib.contextmanager
    def queue(self, state: ApiState) -> Iterator[asyncio.Queue[bytes | None]]:
        """What happens from now on; None: it ends."""
        if self._stopped or len(self._queues) >= WATCHERS_MAX:
            raise Problem(
                503,
                "the API is being stopped" if self._stopped else "too many are watching",
                kind="busy",
                headers={"Retry-After": "5"},
            )
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MAX + 1)
        loop = asyncio.get_running_loop()

        def put(kind: str, data: object, number: int | None = None) -> None:
            """From any thread."""
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_put, queue, message(kind, data, number))

        def of_hub(kind: str, what: Any) -> None:
            if kind == "segment" and isinstance(what, Linked):
                put("segment", {**asdict(what.identity), **_segment(what)})

        with contextlib.ExitStack() as subscriptions:
            subscriptions.callback(
                state.desired.subscribe(lambda number: put("generation", {"number": number}))
            )
            subscriptions.callback(state.events.subscribe(lambda each: _event(put, each)))
            subscriptions.callback(state.hub.subscribe(of_hub))
            self._queues.add(queue)
            try:
                yield queue
            finally:
                self._queues.discard(queue)


def _segment(linked: Linked) -> dict[str, object]:
    return {
        "name": linked.name,
        "group_id": linked.group_id,
        "host": linked.host,
        "connected": linked.connected,
        "generation": linked.generation,
        "status": linked.status,
    }


def _event(put: Any, happened: Happened) -> None:
    put("event", asdict(happened), happened.id)


def _put(queue: asyncio.Queue[bytes | None], octets: bytes) -> None:
    if queue.qsize() < QUEUE_MAX:
        queue.put_nowait(octets)
    else:  # it reads too slowly, and would miss this
        _end(queue)


def _end(queue: asyncio.Queue[bytes | None]) -> None:
    while queue.qsize() >= QUEUE_MAX:
        queue.get_nowait()
    queue.put_nowait(None)


async def stream(
    queue: asyncio.Queue[bytes | None], first: bytes, still_may: Any
) -> AsyncIterator[bytes]:
    """The messages, and a heartbeat when there is nothing; ends when *still_may*, which is asked
    every HEARTBEAT_S, says no."""
    yield first
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                octets = await queue.get()
        except TimeoutError:
            octets = HEARTBEAT
        if loop.time() - asked_at >= HEARTBEAT_S:  # also if messages come all the time
            if not await still_may():
                return
            asked_at = loop.time()
        if octets is None:
            return
        yield octets
