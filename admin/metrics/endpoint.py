# SPDX-License-Identifier: Apache-2.0
"""`GET /metrics` of a segment, in its own event loop: a scrape is collected and written in slices,
between which QUERYs are answered.  HTTP is h11's.

Whoever reaches the port may read: nothing is authenticated, so it is on the loopback unless the
configuration says otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, TypeAlias

import h11
from prometheus_client.registry import Collector

from admin.errors import CommandError, from_os_error
from admin.listening import Listening
from admin.metrics.exposition import Exposition
from admin.metrics.tables import AnyReading

PATH: Final = "/metrics"
CONNECTIONS_MAX: Final = 16
_HEADERS_OCTETS_MAX: Final = 16 * 1024
_READ_OCTETS: Final = 16 * 1024
_IDLE_S: Final = 120.0  # between two requests; Prometheus keeps its connection
_WRITE_S: Final = 30.0  # for a client to take a piece

Collect: TypeAlias = Callable[[], Awaitable[list[AnyReading]]]


class MetricsEndpoint:
    """Listens between `__aenter__` and `__aexit__`, which leaves nothing open."""

    def __init__(
        self, address: str, port: int, collect: Collect, measured: Collector | None = None
    ) -> None:
        """`collect`: everything there is now; ValueError if that cannot be said now.
        `measured`: what the process measured since it began."""
        self._address = address
        self._port = port
        self._collect = collect
        self._measured = measured
        self._one = asyncio.Lock()  # however many ask
        self._listening: Listening | None = None

    async def __aenter__(self) -> MetricsEndpoint:
        what = f"metrics: {self._address} port {self._port}"
        try:
            listener = _listener(self._address, self._port)
        except OSError as error:
            raise from_os_error(error, what, "give metrics another address, or none") from None
        self._listening = Listening(
            listener,
            self._talk,
            what,
            line_octets_max=_READ_OCTETS,
            connections_max=CONNECTIONS_MAX,
        )
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

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = _Answering(h11.Connection(h11.SERVER, _HEADERS_OCTETS_MAX), reader, writer)
        try:
            while (request := await answering.next_request()) is not None:
                await self._answer(answering, request)
                if not answering.goes_on():
                    return
        except h11.RemoteProtocolError as error:
            await answering.refuse(error.error_status_hint, f"{error}")
        except TimeoutError:
            return  # the client says or takes nothing

    async def _answer(self, answering: _Answering, request: h11.Request) -> None:
        path = request.target.decode("ascii", "replace").partition("?")[0]
        if request.method not in (b"GET", b"HEAD"):
            await answering.refuse(405, "use GET", [("Allow", "GET, HEAD")])
        elif path != PATH:
            await answering.refuse(404, f"there is nothing here; metrics are at {PATH}")
        else:
            await self._expose(answering, request)

    async def _expose(self, answering: _Answering, request: h11.Request) -> None:
        accept = [value for name, value in request.headers if name == b"accept"]
        exposition = Exposition(b",".join(accept).decode("ascii", "replace"))
        try:
            async with self._one:
                readings = await self._collect()
        except (ValueError, CommandError) as error:
            await answering.refuse(503, f"{error}")
            return
        answering.begin(200, [("Content-Type", exposition.content_type)])
        for piece in exposition.pieces(readings, self._measured):
            await answering.go_on(piece)
            await asyncio.sleep(0)
        await answering.end()


class _Answering:
    """One connection; TimeoutError if its client takes too long."""

    def __init__(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._http = http
        self._reader = reader
        self._writer = writer
        self._has_body = True

    async def next_request(self) -> h11.Request | None:
        """What is asked next; None: the client is done.  h11.RemoteProtocolError if it is no HTTP.
        The body of a request is read and forgotten."""
        request: h11.Request | None = None
        async with asyncio.timeout(_IDLE_S):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(_READ_OCTETS))
                elif isinstance(event, h11.Request):
                    request = event
                    self._has_body = event.method != b"HEAD"
                elif isinstance(event, h11.EndOfMessage):
                    return request
                elif isinstance(event, h11.ConnectionClosed):
                    return None

    def goes_on(self) -> bool:
        """Whether another request may come."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """The head of an answer."""
        self._write(h11.Response(status_code=status, headers=headers))

    async def go_on(self, octets: bytes) -> None:
        """A piece of its body."""
        if octets and self._has_body:
            self._write(h11.Data(data=octets))
            async with asyncio.timeout(_WRITE_S):
                await self._writer.drain()

    async def end(self) -> None:
        """It is complete."""
        self._write(h11.EndOfMessage())
        async with asyncio.timeout(_WRITE_S):
            await self._writer.drain()

    async def refuse(
        self, status: int, sentence: str, headers: list[tuple[str, str]] | None = None
    ) -> None:
        """An error, in words."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # in the middle of an answer
        text = "text/plain; charset=utf-8"
        self.begin(status, [("Content-Type", text), *(headers or [])])
        await self.go_on(f"{sentence}\n".encode())
        await self.end()

    def _write(self, event: h11.Event) -> None:
        octets = self._http.send(event)
        if octets:
            self._writer.write(octets)


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # a restart, while connections of the process before wait for their last packets
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(CONNECTIONS_MAX)
    except OSError:
        listener.close()
        raise
    return listener
