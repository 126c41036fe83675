# SPDX-License-Identifier: Apache-2.0
"""The admin socket of a segment: a Unix socket, one JSON object per line, in and out.

    {"command": "flows", "limit": 10}  ->  {"ok": true, "data": [...]}
                                       or  {"ok": false, "error": "..."}

`hello` is answered here, with what the segment is; every other command goes to the segment.  A
user that can open the socket can command the segment, so only its own user can (mode 0600).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from pydantic_core import to_json

from admin.answers import Identity
from admin.errors import AddressError, CommandError, from_os_error

REQUEST_OCTETS_MAX: Final = 64 * 1024
PROGRESS_S: Final = 1.0
_PATH_OCTETS_MAX: Final = 107  # sun_path less its terminating zero
_ACCEPT_AGAIN_S: Final = 1.0
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
    """Serve *handler* at *path* between `__aenter__` and `__aexit__`, which leaves nothing open.

    asyncio's own servers do not promise that: a connection that has just been accepted has a task
    and a socket that nobody who closes the server knows.
    """

    def __init__(self, path: Path, identity: Identity, handler: Handler) -> None:
        self._path = path
        self._identity = identity
        self._handler = handler
        self._listener: socket.socket | None = None
        self._tasks = asyncio.TaskGroup()
        self._pause: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AdminServer:
        try:
            self._listener = _listener(self._path)
        except OSError as error:
            raise from_os_error(
                error, f"admin socket {self._path}", "use another admin_socket, or none"
            ) from None
        await self._tasks.__aenter__()
        self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listener is not None
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._serving:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        assert self._listener is not None
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has left again
        except OSError:  # too many open files, as a rule
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            self._pause = loop.call_later(_ACCEPT_AGAIN_S, self._listen)
            return
        connection.setblocking(False)
        task = self._tasks.create_task(self._serve(connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # also of a task that was cancelled before it began
        task.add_done_callback(partial(_close, connection))

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=REQUEST_OCTETS_MAX)
        try:
            await self._talk(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ValueError, ConnectionError):
            pass  # a line over the limit, or a client that left: there is no one to answer
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"admin socket {self._path}", "exception": error}
            )
        finally:
            writer.transport.abort()  # what the client has not read when the segment ends

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
            return _refusal('a request is a line like {"command": "status"}')
        if command == "hello":
            return await _encoded(self._identity)
        is_told = request.pop("progress", False) is True
        try:
            data = self._handler(str(command), request)
            if isinstance(data, Ongoing):
                data = await _await(data, writer if is_told else None)
            elif isinstance(data, Awaitable):
                data = await data
            return await _encoded(data)
        except (ValueError, CommandError) as error:
            return _refusal(str(error))


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


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


def _listener(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_OCTETS_MAX:
        raise OSError(errno.ENAMETOOLONG, f"longer than {_PATH_OCTETS_MAX} octets")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before listen(): no client can have connected
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
