# SPDX-License-Identifier: Apache-2.0
"""The admin socket of a segment: a Unix socket, one JSON object per line, in and out.

    {"command": "flows", "limit": 10}  ->  {"ok": true, "data": [...]}
                                       or  {"ok": false, "error": "..."}

`hello` is answered here, with what the segment is; every other command goes to the segment.  A
user that can open the socket can command the segment, so only its own user can (mode 0600).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from pydantic_core import to_json

from admin.answers import Identity
from admin.errors import CommandError, from_os_error
from admin.listening import Listening, unix_listener

REQUEST_OCTETS_MAX: Final = 64 * 1024
PROGRESS_S: Final = 1.0
_SLICE: Final = 512  # of a long list, encoded at a time: about a millisecond

# (command, arguments) -> of `answers`; ValueError with a sentence for a bad request
Handler: TypeAlias = Callable[[str, dict[str, object]], object | Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Ongoing:
    """An answer that takes long.  A client that asks with `"progress": true` gets lines like
    {"progress": "..."} before it, once per PROGRESS_S: what is being done."""

    answer: Awaitable[object]
    doing: Callable[[], str]


class AdminServer:
    """Serve *handler* at *path* between `__aenter__` and `__aexit__`, which leaves nothing open."""

    def __init__(self, path: Path, identity: Identity, handler: Handler) -> None:
        self._path = path
        self._identity = identity
        self._handler = handler
        self._listening: Listening | None = None

    async def __aenter__(self) -> AdminServer:
        what = f"admin socket {self._path}"
        try:
            listener = unix_listener(self._path, "admin socket", "admin_socket")
        except OSError as error:
            raise from_os_error(error, what, "use another admin_socket, or none") from None
        self._listening = Listening(listener, self._talk, what, line_octets_max=REQUEST_OCTETS_MAX)
        await self._listening.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listening is not None
        await self._listening.__aexit__(kind, error, trace)
        self._path.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for piece in await self._answer(line, writer):
                writer.write(piece)
                await writer.drain()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> list[bytes]:
        try:
            request = json.loads(line)
            command = request.pop("command")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return refusal('a request is a line like {"command": "status"}')
        if command == "hello":
            return await _encoded(self._identity)
        is_told = request.pop("progress", False) is True
        return await answered(self._handler, str(command), request, writer if is_told else None)


async def answered(
    handler: Handler,
    command: str,
    arguments: dict[str, object],
    writer: asyncio.StreamWriter | None = None,
) -> list[bytes]:
    """The line that answers a command, in pieces; *writer* is told what is being done meanwhile."""
    try:
        data = handler(command, arguments)
        if isinstance(data, Ongoing):
            data = await _await(data, writer)
        elif isinstance(data, Awaitable):
            data = await data
        return await _encoded(data)
    except (ValueError, CommandError) as error:
        return refusal(str(error))


async def _await(ongoing: Ongoing, writer: asyncio.StreamWriter | None) -> object:
    """Wait for an answer; it is worked for to the end, also if its client leaves."""
    task = asyncio.ensure_future(ongoing.answer)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=PROGRESS_S)
            if writer is not None and not task.done() and not writer.transport.is_closing():
                writer.write(to_json({"progress": ongoing.doing()}) + b"\n")
        return await task
    finally:
        task.cancel()


def refusal(sentence: str) -> list[bytes]:
    """The line that says why there is no answer."""
    return [to_json({"ok": False, "error": sentence}) + b"\n"]


async def _encoded(data: object) -> list[bytes]:
    """An answer's line in pieces; between those of a long list, other tasks get their turn."""
    if not isinstance(data, list):
        return [b'{"ok":true,"data":', to_json(data), b"}\n"]
    pieces = [b'{"ok":true,"data":[']
    for start in range(0, len(data), _SLICE):
        if start:
            pieces.append(b",")
            await asyncio.sleep(0)
        pieces.append(to_json(data[start : start + _SLICE])[1:-1])
    return [*pieces, b"]}\n"]
