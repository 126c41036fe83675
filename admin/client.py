# SPDX-License-Identifier: Apache-2.0
"""Ask a running segment over its admin socket; `admin.server` says how they speak."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from admin.errors import CommandError

SOCKET_FOLDER: Final = Path("/run/splitplane")
CLIENT_TIMEOUT_S: Final = 10.0  # a million flows take a few seconds to list


class AdminClient:
    """Ask one segment; a context manager."""

    def __init__(self, path: Path, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise CommandError(
                f"{path}: nobody answers here ({error.strerror or error}); is the segment running?"
            ) from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def call(self, command: str, **arguments: object) -> Any:
        """The answer's data, whatever that command answers with, or CommandError."""
        request = json.dumps({"command": command, **arguments})
        try:
            self._socket.sendall(request.encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            raise CommandError(f"{self.path}: no answer to {command} in time") from None
        except OSError as error:
            raise CommandError(f"{self.path}: {command}: {error.strerror}") from None
        if not line:
            raise CommandError(f"{self.path}: the segment ended before it answered {command}")
        answer = json.loads(line)
        if not answer["ok"]:
            raise CommandError(f"{self.path}: {answer['error']}")
        return answer["data"]


def call(path: Path, command: str, **arguments: object) -> Any:
    """One question to one segment."""
    with AdminClient(path) as client:
        return client.call(command, **arguments)


def living_sockets(folder: Path = SOCKET_FOLDER) -> Iterator[tuple[Path, dict[str, object]]]:
    """Each admin socket below *folder* that somebody serves, with what serves it."""
    for path in sorted(folder.glob("**/*.sock")):
        try:
            identity = call(path, "hello")
        except CommandError:
            continue  # left over by a killed process, or another user's
        yield path, identity
