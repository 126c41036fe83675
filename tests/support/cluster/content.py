# SPDX-License-Identifier: Apache-2.0
"""Requests to a laboratory's content-aware virtual servers, in segments of any size."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from splitplane.lab import Lab
from splitplane.lab.responses import read_head, read_pattern
from splitplane.lab.topology import SERVER_HTTP_PORT
from support.cluster.laboratory import TIMEOUT_S, Broken

HTTP: Final = 8000
_HEAD: Final = "GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"


def request(path: str = "/name", host: str = "www", more: str = "") -> bytes:
    return _HEAD.format(path=path, host=host, more=more).encode()


def pool(
    lab: Lab, name: str, servers: list[str], *, six: bool, more: list[str] | None = None
) -> dict[str, Any]:
    """The laboratory's servers; *more*: nodes at a port where nobody listens."""
    hosts = [lab.host(each) for each in servers]
    nodes = [
        {
            "name": host.name,
            "address": host.address_6 if six else host.address,
            "port": SERVER_HTTP_PORT,
        }
        for host in hosts
    ]
    nodes += [{**nodes[0], "name": each, "port": 9} for each in more or ()]
    return {"name": name, "nodes": nodes}


async def ask(
    lab: Lab, address: str, *pieces: bytes, port: int = HTTP, client: str = "client1", size: int = 0
) -> str:
    """Send a request in these pieces, each a segment of its own; who answered, or with *size* has
    sent so many right octets."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = lab.socket(client, family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    loop = asyncio.get_running_loop()
    what = f"{client} to {address} port {port}, {[len(each) for each in pieces]} octets"
    writer = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await loop.sock_connect(sock, (address, port))
            reader, writer = await asyncio.open_connection(sock=sock)
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            headers = await read_head(reader)
            if size:
                await read_pattern(reader, size)
                name = headers["Server"]
            else:
                name = (await reader.readexactly(int(headers["Content-Length"]))).decode()
            if await reader.read(1):
                raise Broken(f"{what}: more octets than were sent")
            return name
    except TimeoutError:
        raise Broken(f"{what}: not finished within {TIMEOUT_S} s") from None
    except (OSError, EOFError, ValueError) as error:
        raise Broken(f"{what}: {error or type(error).__name__}") from error
    finally:
        if writer is not None:
            writer.close()
        sock.close()
