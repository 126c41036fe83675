# SPDX-License-Identifier: Apache-2.0
"""CSMB over TCP: the listener, and the connections that it accepted.

Anybody may connect, so what a connection costs before it has a place is small, and bounded per turn
of the event loop: an accept, a look at the octets that came with it, and a reset.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol

from admin.quiet_log import QuietLog
from csmb.constants import AUTH_WAIT_S
from data_flow_segment.peers.connections import Connections
from data_flow_segment.runtime.callbacks import callback
from data_flow_segment.runtime.sockets import READ_AT_ONCE, CsmbProtocol
from data_flow_segment.targets.contract import TargetError

ACCEPTS_AT_ONCE: Final = 16
"""Connections accepted in one turn of the event loop, between which packets are handled: 1 ms."""

BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are accepted: a flood fills it for 100 ms."""

REST_S: Final = 0.2
"""Until the next accept, after one that the kernel could not do: the reason may be over by then."""

_NO_LINGER: Final = b"\1\0\0\0\0\0\0\0"  # struct linger: close() sends RST, and nothing waits
_CANNOT: Final = "CSMB connections cannot be accepted"
_LOG: Final = logging.getLogger("splitplane.dfs")


class Owner(Protocol):
    """The runtime."""

    def settle(self) -> None:
        """Carry out what the agent decided."""

    def fail(self, error: TargetError) -> None:
        """The target can no longer be worked with."""

    def go_on_after(self, error: Exception) -> None:
        """Note a mistake of this program."""


class Streams:
    """All TCP connections of a DFS."""

    def __init__(self, owner: Owner, connections: Connections, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._connections = connections
        self._clock = clock
        self._by_id: dict[int, CsmbProtocol] = {}
        self._opening: dict[asyncio.Task[None], socket.socket] = {}
        self._listener: socket.socket | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._quiet = QuietLog()

    def __len__(self) -> int:
        return len(self._by_id)

    def listen(self, address: str, port: int) -> None:
        """Accept from now on; OSError if the address cannot be used."""
        self._listener = _open_tcp(address, port)
        self._resume()

    def write(self, connection_id: int) -> None:
        """Write what a connection has to say, and close it if that was the last of it."""
        octets, closed = self._connections.octets_to_send(connection_id)
        stream = self._by_id.get(connection_id)
        transport = None if stream is None else stream.transport
        if transport is not None and octets:
            transport.write(octets)
        if closed:
            self._by_id.pop(connection_id, None)
            if transport is not None:
                transport.close()

    async def close(self) -> None:
        """Accept nothing more, and close all; what they still had to write has been written."""
        if self._rest is not None:
            self._rest.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
        opening = dict(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for task, accepted in opening.items():
            if task.cancelled():  # perhaps before its first step
                accepted.close()
        for stream in tuple(self._by_id.values()):
            if stream.transport is not None:
                stream.transport.close()

    def fail(self, error: TargetError) -> None:
        """What the agent decided could not be carried out."""
        self._owner.fail(error)

    def go_on_after(self, error: Exception) -> None:
        """A mistake of this program; it cost one call."""
        self._owner.go_on_after(error)

    # --- connections that come -----------------------------------------------------------------

    def _resume(self) -> None:
        self._rest = None
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener.fileno(), self._connections_wait)

    @callback
    def _connections_wait(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, source = self._listener.accept()
            except BlockingIOError:
                break
            except ConnectionError:  # it has gone already
                continue
            except OSError as error:  # no descriptor or no memory is left
                self._pause(error)
                break
            self._admit(accepted, source[0])
        for line in self._quiet.take():
            _LOG.warning("%s", line)
        self._owner.settle()

    def _pause(self, error: OSError) -> None:
        """The listener stays readable: without a pause nothing else would have its turn."""
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        self._rest = loop.call_later(REST_S, self._resume)
        self._quiet.add(_CANNOT, f"{_CANNOT}: {error.strerror}", self._clock())

    def _admit(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        first = _first_octets(accepted)
        if first is None:
            accepted.close()
            return
        connection_id = self._connections.connection_made(self._clock(), address, first)
        if connection_id is None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(self._open(accepted, connection_id, first))
        self._opening[task] = accepted
        task.add_done_callback(self._opening.pop)

    async def _open(self, accepted: socket.socket, connection_id: int, first: bytes) -> None:
        stream = CsmbProtocol(lambda stream: self._made(stream, first), self._received)
        stream.connection_id = connection_id
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: stream, accepted)
        except Exception as error:
            accepted.close()
            self.go_on_after(error)
            self._received(stream, b"")

    @callback
    def _made(self, stream: CsmbProtocol, first: bytes) -> None:
        assert stream.connection_id is not None
        self._by_id[stream.connection_id] = stream
        if first:
            self._connections.receive(stream.connection_id, first, self._clock())
        self._owner.settle()
        self.write(stream.connection_id)  # it may have lost its place before it was here

    @callback
    def _received(self, stream: CsmbProtocol, octets: bytes) -> None:
        if stream.connection_id is not None:
            self._connections.receive(stream.connection_id, octets, self._clock())
            self._owner.settle()


def _first_octets(accepted: socket.socket) -> bytes | None:
    """What has come already, b"" if nothing has; None if the connection is over."""
    try:
        return accepted.recv(READ_AT_ONCE) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def _open_tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # A CS speaks first (7.7, rule 2): who says nothing stays with the kernel for a while, and
        # takes no place
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(AUTH_WAIT_S))
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        error.filename = f"CSMB, {address} port {port}"
        raise
    return listener
