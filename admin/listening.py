# SPDX-License-Identifier: Apache-2.0
"""Serve the connections of a listening socket, and leave nothing open.

asyncio's own servers do not promise that: a connection that has just been accepted has a task and a
socket that nobody who closes the server knows.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from admin.errors import AddressError

_ACCEPT_AGAIN_S: Final = 1.0
_PATH_OCTETS_MAX: Final = 107  # sun_path less its terminating zero

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listening:
    """Serves what connects between `__aenter__` and `__aexit__`; the listener is closed there."""

    def __init__(
        self,
        listener: socket.socket,
        serve: Serve,
        what: str,
        *,
        line_octets_max: int,
        connections_max: int | None = None,
    ) -> None:
        """`listener` does not block; `what` it is, for people.  A connection above
        `connections_max` is closed at once; None: there is no limit."""
        self._listener = listener
        self._serve = serve
        self._what = what
        self._line_octets_max = line_octets_max
        self._connections_max = connections_max
        self._tasks = asyncio.TaskGroup()
        self._pause: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Listening:
        await self._tasks.__aenter__()
        self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._serving:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has left again
        except OSError:  # too many open files, as a rule
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            self._pause = loop.call_later(_ACCEPT_AGAIN_S, self._listen)
            return
        if self._connections_max is not None and len(self._serving) >= self._connections_max:
            connection.close()
            return
        connection.setblocking(False)
        task = self._tasks.create_task(self._serve_one(connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # also of a task that was cancelled before it began
        task.add_done_callback(partial(_close, connection))

    async def _serve_one(self, connection: socket.socket) -> None:
        limit = self._line_octets_max
        reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
        try:
            await self._serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ValueError, ConnectionError):
            pass  # a line over the limit, or a client that left: there is no one to answer
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": self._what, "exception": error}
            )
        finally:
            writer.transport.abort()  # what the client has not read when the segment ends


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


def unix_listener(path: Path, what: str, setting: str) -> socket.socket:
    """A Unix socket that only this user can open; AddressError if a living process has it, OSError.

    *what* it is, for people, and the *setting* that gives its path.
    """
    if len(os.fsencode(path)) > _PATH_OCTETS_MAX:
        raise OSError(errno.ENAMETOOLONG, f"longer than {_PATH_OCTETS_MAX} octets")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path, what, setting)
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


def _remove_left_over(path: Path, what: str, setting: str) -> None:
    """Remove the socket of a process that was killed; refuse to take a living one's."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressError(
                f"{what} {path}: this path exists and is not a socket; use another {setting}, or"
                " remove it"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AddressError(f"{what} {path}: another process serves it; stop that process first")
