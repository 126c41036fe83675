# SPDX-License-Identifier: Apache-2.0
"""An HTTP client over a given socket, since the socket was made in another namespace."""

from __future__ import annotations

import http.client
import socket
from contextlib import AbstractContextManager
from typing import NamedTuple


class Response(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class Connection(AbstractContextManager["Connection"]):
    """One connection, kept alive; blocking."""

    def __init__(self, sock: socket.socket, address: tuple[str, int], timeout_s: float) -> None:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._connection = http.client.HTTPConnection(host, address[1], timeout=timeout_s)
        sock.settimeout(timeout_s)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        self._connection.sock = sock
        self.local_address: tuple[str, int] = sock.getsockname()[:2]

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str) -> Response:
        """GET *path*, and its whole body."""
        response = self.open(path)
        return Response(response.status, response.read())

    def open(self, path: str) -> http.client.HTTPResponse:
        """GET *path*; the caller reads the body."""
        self._connection.request("GET", path)
        return self._connection.getresponse()

    def close(self) -> None:
        """Close it."""
        self._connection.close()
