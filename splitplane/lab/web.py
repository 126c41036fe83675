# SPDX-License-Identifier: Apache-2.0
"""The laboratory's server: HTTP/1.1 with keep-alive and UDP that echoes; its octets are known.

    GET /bytes/N[?rate=R]   N octets of `pattern`, R octets per second at most, until SIGUSR1
    GET /name               this server's name
    GET /slow?seconds=S     its name, after S seconds (0.25 is a quarter of one)
    GET /client             the address and port that this server sees
    POST /digest            `<octets> <SHA-256 in hexadecimal>` of the body, which comes in chunks
                            (Transfer-Encoding: chunked), and is asked for where the client waits
                            (Expect: 100-continue)
    TCP, --stream           the server speaks first: `<name>`, a line feed, and `pattern` at --rate
                            octets per second until the client ends its half of the connection
    UDP                     `<name> <what was sent>`

Runs as `python -m splitplane.lab.web NAME --http 80 --udp 53 --stream 7`, on all addresses of both
families; port 0: not that one.
It imports little beside the standard library, so that starting twenty of them takes a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import signal
import socket
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

REQUEST_OCTETS_MAX: Final = 16 * 1024
BODY_OCTETS_MAX: Final = 1 << 40
_CHUNK: Final = 64 * 1024
_STREAM_RATE: Final = 20_000  # octets per second, of one connection that the server begins
_STEPS_PER_S: Final = 10  # of something that is sent slowly
# a prime period: a lost, doubled or moved segment cannot look right by chance of alignment
_PERIOD: Final = 65521
_PATTERN: Final = bytes((index * 167 + (index >> 8) * 13) & 0xFF for index in range(_PERIOD))
_THREE_TIMES: Final = _PATTERN * 3


def pattern(offset: int, length: int) -> bytes:
    """Octets *offset* to *offset* + *length* of every body; *length* up to 128,000."""
    start = offset % _PERIOD
    return _THREE_TIMES[start : start + length]


class _Refused(Exception):
    """An HTTP error to answer with."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class WebServer:
    """Serves HTTP for one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._hurries = False

    def hurry(self) -> None:
        """From now on no rate is kept: slow downloads end soon, with all their octets."""
        self._hurries = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end has had enough."""
        try:
            while await self._request(reader, writer):
                pass
        except _Refused as refused:
            await self._answer(writer, refused.status.encode() + b"\n", refused.status, close=True)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection shall end."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _Refused("431 Request Header Fields Too Large") from None
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3:
            raise _Refused("400 Bad Request")
        method, target, version = words
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        if (method, target) != ("POST", "/digest") and method not in {"GET", "HEAD"}:
            raise _Refused("405 Method Not Allowed")
        connection = headers.get("connection", "").lower()
        keep = connection != "close" and (version == "HTTP/1.1" or connection == "keep-alive")
        if method == "POST":
            if headers.get("transfer-encoding", "").lower() != "chunked":
                raise _Refused("411 Length Required")
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            octets, digest = await _digest_of_chunks(reader)
            await self._answer(writer, f"{octets} {digest}".encode(), close=not keep)
        else:
            await self._route(writer, target, head_only=method == "HEAD", close=not keep)
        return keep

    async def _route(
        self, writer: asyncio.StreamWriter, target: str, *, head_only: bool, close: bool
    ) -> None:
        url = urlsplit(target)
        query = parse_qs(url.query)
        if url.path.startswith("/bytes/"):
            length = _number(url.path.removeprefix("/bytes/"), BODY_OCTETS_MAX)
            rate = _number(query.get("rate", ["0"])[0], 1 << 40)
            await self._stream(writer, 0 if head_only else length, length, rate, close=close)
        elif url.path in {"/", "/name"}:
            await self._answer(writer, self.name.encode(), close=close)
        elif url.path == "/slow":
            await asyncio.sleep(_seconds(query.get("seconds", ["1"])[0], 3600))
            await self._answer(writer, self.name.encode(), close=close)
        elif url.path == "/client":
            host, port = writer.get_extra_info("peername")[:2]
            await self._answer(
                writer, f"{host.removeprefix('::ffff:')} {port}".encode(), close=close
            )
        else:
            raise _Refused("404 Not Found")

    def _head(self, status: str, length: int, *, close: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {status}",
            f"Server: {self.name}",
            "Content-Type: application/octet-stream",
            f"Content-Length: {length}",
        ]
        if close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    async def _answer(
        self, writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", *, close: bool
    ) -> None:
        writer.write(self._head(status, len(body), close=close) + body)
        await writer.drain()

    async def _stream(
        self, writer: asyncio.StreamWriter, send: int, announce: int, rate: int, *, close: bool
    ) -> None:
        writer.write(self._head("200 OK", announce, close=close))
        await _send_paced(writer, send, rate, lambda: self._hurries)


async def _digest_of_chunks(reader: asyncio.StreamReader) -> tuple[int, str]:
    """How many octets a chunked body has (RFC 9112 7.1), and their SHA-256."""
    digest = hashlib.sha256()
    octets = 0
    while True:
        size_line = (await reader.readuntil(b"\r\n")).split(b";", 1)[0].strip().decode("latin-1")
        try:
            size = int(size_line, 16)
        except ValueError:
            raise _Refused("400 Bad Request") from None
        if not 0 <= size <= _CHUNK:
            raise _Refused("413 Content Too Large")
        chunk = await reader.readexactly(size + 2)  # and the line's end
        if not size:
            return octets, digest.hexdigest()
        digest.update(chunk[:size])
        octets += size


class Streams:
    """Speaks first on every connection, and goes on until the client has ended its half."""

    def __init__(self, name: str, rate: int) -> None:
        self._name = name
        self._rate = rate

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            async with asyncio.TaskGroup() as tasks:
                speaking = tasks.create_task(self._speak(writer))
                while await reader.read(_CHUNK):
                    pass  # what a client says changes nothing
                speaking.cancel()
        except* (ConnectionError, TimeoutError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._name.encode() + b"\n")
        await _send_paced(writer, BODY_OCTETS_MAX, self._rate, lambda: False)


async def _send_paced(
    writer: asyncio.StreamWriter, octets: int, rate: int, hurries: Callable[[], bool]
) -> None:
    """Send the first *octets* of the pattern; *rate* per second, 0: as fast as it goes."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    offset = 0
    step = _CHUNK if not rate else max(1, min(_CHUNK, rate // _STEPS_PER_S))
    while offset < octets:
        size = min(step, octets - offset)
        writer.write(pattern(offset, size))
        offset += size
        await writer.drain()
        if rate and not hurries():
            await asyncio.sleep(max(0.0, started + offset / rate - loop.time()))
    await writer.drain()


def _seconds(text: str, most: int) -> float:
    whole, _, part = text.partition(".")
    return _number(whole, most) + (_number(part, 10**9) / 10 ** len(part) if part else 0.0)


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or len(text) > 15 or int(text) > most:
        raise _Refused("400 Bad Request")
    return int(text)


class UdpEcho(asyncio.DatagramProtocol):
    """Answers each datagram with the server's name, a space, and the datagram."""

    def __init__(self, name: str) -> None:
        self._prefix = name.encode() + b" "
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # 3.11's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """asyncio's."""
        assert self._transport is not None
        self._transport.sendto(self._prefix + data, addr)


def _both_families(kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock


async def _main(name: str, http_port: int, udp_port: int, stream_port: int, rate: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    web, streams = WebServer(name), Streams(name, rate)
    loop.add_signal_handler(signal.SIGUSR1, web.hurry)
    servers = [
        await asyncio.start_server(
            serve,
            sock=_both_families(socket.SOCK_STREAM, port),
            limit=REQUEST_OCTETS_MAX,
            backlog=4096,
        )
        for serve, port in ((web.serve, http_port), (streams.serve, stream_port))
        if port
    ]
    if udp_port:
        await loop.create_datagram_endpoint(
            lambda: UdpEcho(name), sock=_both_families(socket.SOCK_DGRAM, udp_port)
        )
    print("ready", flush=True)
    await stop.wait()
    for server in servers:
        server.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The laboratory's web server.")
    parser.add_argument("name")
    parser.add_argument("--http", type=int, default=80)
    parser.add_argument("--udp", type=int, default=53)
    parser.add_argument("--stream", type=int, default=0)
    parser.add_argument("--rate", type=int, default=_STREAM_RATE)
    arguments = parser.parse_args()
    asyncio.run(
        _main(
            arguments.name, arguments.http, arguments.udp, arguments.stream, max(1, arguments.rate)
        )
    )


if __name__ == "__main__":
    main()
