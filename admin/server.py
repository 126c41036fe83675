# SPDX-License-Identifier: Apache-2.0
"""The admin socket of a segment: a Unix socket, one JSON object a line in, one a line out.

    {"command": "flows", "limit": 10}  ->  {"ok": true, "data": [...]}
                                       or  {"ok": false, "error": "..."}

`hello` is answered here, with what the segment is; every other command goes to the segment.  Who
may open the socket may command the segment: the socket is its user's alone (mode 0600).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from pydantic_core import to_json

from admin.answers import Identity
from admin.errors import AddressError, CommandError, from_os_error

REQUEST_OCTETS_MAX: Final = 64 * 1024
_PATH_OCTETS_MAX: Final = 107  # sun_path less its terminating zero
_TURNS_TO_CONNECT: Final = 4  # of the event loop, from accepting a connection to its callback
_SLICE: Final = 512  # of a long list, encoded at a time: about a millisecond

# (command, arguments) -> of `answers`; ValueError with a sentence for a bad request
Handler: TypeAlias = Callable[[str, dict[str, object]], object | Awaitable[object]]


class AdminServer:
    """Serve *handler* at *path* between `__aenter__` and `__aexit__`."""

    def __init__(self, path: Path, identity: Identity, handler: Handler) -> None:
        self._path = path
        self._identity = identity
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # theirs
        self._ended = asyncio.Event()  # one of them

    async def __aenter__(self) -> AdminServer:
        try:
            listener = _listen(self._path)
        except OSError as error:
            raise from_os_error(
                error, f"admin socket {self._path}", "use another admin_socket, or none"
            ) from None
        self._server = await asyncio.start_unix_server(
            self._connected, sock=listener, limit=REQUEST_OCTETS_MAX
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        # Closed at once, asyncio would forget a connection that it has just accepted
        asyncio.get_running_loop().remove_reader(self._server.sockets[0].fileno())
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._server.close()
        while self._writers:
            for writer in self._writers:
                writer.close()
            for task in self._tasks:
                task.cancel()  # a long answer that nobody waits for any more
            self._ended.clear()
            await self._ended.wait()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[None, None, None]:
        """Not a coroutine: a task may be cancelled before it begins, and would not close this."""
        self._writers.add(writer)
        return self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                for piece in await self._answer(line):
                    writer.write(piece)
                    await writer.drain()
        except (ValueError, ConnectionError, asyncio.CancelledError):
            pass  # a line over the limit, a client that left, or our end: nobody to answer
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)
            self._ended.set()

    async def _answer(self, line: bytes) -> list[bytes]:
        try:
            request = json.loads(line)
            command = request.pop("command")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return _refusal('a request is a line like {"command": "status"}')
        if command == "hello":
            return await _encoded(self._identity)
        try:
            data = self._handler(str(command), request)
            if isinstance(data, Awaitable):
                data = await data
            return await _encoded(data)
        except (ValueError, CommandError) as error:
            return _refusal(str(error))


def _refusal(sentence: str) -> list[bytes]:
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


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_OCTETS_MAX:
        raise OSError(errno.ENAMETOOLONG, f"longer than {_PATH_OCTETS_MAX} octets")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before listen(): nobody can have connected
        listener.listen()
    except OSError as error:
        listener.close()
        error.filename = str(path)
        raise
    return listener


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a process that was killed; refuse to take a living one's."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressError(
                f"admin socket {path}: this path exists and is not a socket; use another"
                " admin_socket, or remove it"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AddressError(f"admin socket {path}: another process serves it; stop that process first")
