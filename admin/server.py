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
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from admin.errors import AddressError, CommandError, from_os_error

REQUEST_OCTETS_MAX: Final = 64 * 1024
_PATH_OCTETS_MAX: Final = 107  # sun_path less its terminating zero

# (command, arguments) -> what can be said in JSON; ValueError with a sentence for a bad request
Handler: TypeAlias = Callable[[str, dict[str, object]], object | Awaitable[object]]


class AdminServer:
    """Serve *handler* at *path* between `__aenter__` and `__aexit__`."""

    def __init__(self, path: Path, identity: dict[str, object], handler: Handler) -> None:
        self._path = path
        self._identity = {**identity, "pid": os.getpid()}
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> AdminServer:
        try:
            listener = _listen(self._path)
        except OSError as error:
            raise from_os_error(
                error, f"admin socket {self._path}", "give another admin_socket, or none"
            ) from None
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listener, limit=REQUEST_OCTETS_MAX
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a line over the limit, or a client that left: nobody to tell it to
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            command = request.pop("command")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return {"ok": False, "error": 'a request is a line like {"command": "status"}'}
        if command == "hello":
            return {"ok": True, "data": self._identity}
        try:
            data = self._handler(str(command), request)
            if isinstance(data, Awaitable):
                data = await data
            return {"ok": True, "data": data}
        except (ValueError, CommandError) as error:
            return {"ok": False, "error": str(error)}


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
                f"admin socket {path}: something that is no socket is there; give another"
                " admin_socket, or remove what is there"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AddressError(f"admin socket {path}: another process serves it; end that one first")
