# SPDX-License-Identifier: Apache-2.0
"""Connections of who says nothing, or too slowly, and of too many."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from api.config import ListenConfig
from api.patience import PatientProtocol
from api.serve import Listeners, Serving
from support.api.apps import AppUnderTest
from support.ports import free_port

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: api\r\n"


def serve(served: AppUnderTest, talk: Callable[[int], Awaitable[None]]) -> None:
    """Talk to the application over a socket."""

    async def run() -> None:
        port = free_port()
        listeners = Listeners(ListenConfig(port=port), served.folder)
        serving = Serving(served.app, listeners)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serving.run())
                try:
                    await talk(port)
                finally:
                    serving.stop()
        finally:
            listeners.close()

    asyncio.run(run())


async def opened(port: int, octets: bytes = b"") -> tuple[asyncio.StreamReader, Callable[[], None]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    return reader, writer.close


def test_who_sends_no_whole_head_is_left(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "PATIENCE_S", 0.1)

    async def talk(port: int) -> None:
        for octets in (b"", b"GET /", HEALTH):
            reader, close = await opened(port, octets)
            assert await ended(reader) == b"", octets
            close()

    serve(served, talk)


def test_a_second_request_has_its_time_too(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HEALTH + b"\r\n")
            await reader.readuntil(b'{"status":"ok"}')
        monkeypatch.setattr(PatientProtocol, "PATIENCE_S", 0.1)
        writer.write(b"GET ")
        assert await ended(reader) == b""
        writer.close()

    serve(served, talk)


def test_above_the_limit_connections_are_closed_at_once(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "connections_max", 2)

    async def talk(port: int) -> None:
        kept = [await opened(port) for _ in range(2)]
        reader, close = await opened(port, HEALTH + b"\r\n")
        assert await ended(reader) == b""
        close()
        kept[0][1]()
        while True:  # a place is free as soon as the server has noticed
            reader, close = await opened(port, HEALTH + b"Connection: close\r\n\r\n")
            answer = await ended(reader)
            close()
            if answer:
                break
        assert answer.startswith(b"HTTP/1.1 200")
        kept[1][1]()

    serve(served, talk)


def test_a_body_that_does_not_come_ends_the_connection(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "BODY_S", 0.1)
    head = b"POST /api/v1/tokens HTTP/1.1\r\nHost: api\r\nContent-Length: 1000\r\n\r\n"

    async def talk(port: int) -> None:
        for octets in (head, head + b"{"):
            reader, close = await opened(port, octets)
            assert await ended(reader) == b""
            close()

    serve(served, talk)


def test_who_takes_nothing_of_its_answers_is_left(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "TAKING_S", 0.1)

    async def talk(port: int) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: api\r\n\r\n"
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await loop.sock_sendall(client, asked * 200_000)  # more than is read meanwhile

    serve(served, talk)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other end closes."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
