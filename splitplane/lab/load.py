# SPDX-License-Identifier: Apache-2.0
"""A modest load of real HTTP connections from a laboratory's clients, with every octet checked."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from splitplane.lab.lab import Lab
from splitplane.lab.topology import HTTP_PORT
from splitplane.lab.web import pattern

# small pages mostly, a picture now and then, a download rarely
_SIZES: Final = (300, 2_000, 2_000, 10_000, 10_000, 50_000, 200_000, 1_500_000)
_REQUESTS_MAX: Final = 6  # on one connection
_READ_OCTETS: Final = 64 * 1024
_TIMEOUT_S: Final = 10
_LATENCIES: Final = 2_000  # of the latest connections


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    connections: int = 0
    requests: int = 0
    octets: int = 0
    failures: int = 0
    last_failure: str = ""
    by_server: Counter[str] = field(default_factory=Counter)  # requests
    connect_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))


class Load:
    """Each client opens connections at a rate, makes some requests on each, and closes it."""

    def __init__(self, lab: Lab, *, connections_per_second: float, seed: int = 1) -> None:
        self.tally = Tally()
        self._lab = lab
        self._clients = [host.name for host in lab.topology.of("client")]
        self._interval_s = len(self._clients) / connections_per_second
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; connections under way are finished."""
        async with asyncio.TaskGroup() as tasks:
            for client in self._clients:
                tasks.create_task(self._client(client))

    def stop(self) -> None:
        """Open no more connections."""
        self._stopping.set()

    async def _client(self, client: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                address = self._random.choice(self._lab.virtual_addresses)
                sizes = self._random.choices(_SIZES, k=self._random.randint(1, _REQUESTS_MAX))
                tasks.create_task(self._connection(client, address, sizes))
                delay = self._random.expovariate(1 / self._interval_s)
                try:
                    await asyncio.wait_for(self._stopping.wait(), delay)
                except TimeoutError:
                    continue

    async def _connection(self, client: str, address: str, sizes: list[int]) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._requests(client, address, sizes)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            self.tally.failures += 1
            said = str(error) or type(error).__name__
            self.tally.last_failure = f"{client} to {address}: {said}"

    async def _requests(self, client: str, address: str, sizes: list[int]) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self._lab.socket(client, family)
        sock.setblocking(False)
        started = loop.time()
        try:
            await loop.sock_connect(sock, (address, HTTP_PORT))
        except BaseException:
            sock.close()
            raise
        self.tally.connect_ms.append((loop.time() - started) * 1000)
        self.tally.connections += 1
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            for size in sizes:
                writer.write(f"GET /bytes/{size} HTTP/1.1\r\nHost: www\r\n\r\n".encode())
                await self._response(reader, size)
        finally:
            writer.close()

    async def _response(self, reader: asyncio.StreamReader, size: int) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if not head[0].startswith("HTTP/1.1 200 "):
            raise ValueError(f"answered {head[0]!r}")
        offset = 0
        while offset < size:
            octets = await reader.read(min(_READ_OCTETS, size - offset))
            if not octets:
                raise ValueError(f"the connection ended {size - offset} octets early")
            if octets != pattern(offset, len(octets)):
                raise ValueError(f"wrong octets within {len(octets)} from {offset}")
            offset += len(octets)
        self.tally.requests += 1
        self.tally.octets += size
        for line in head:
            name, _, value = line.partition(": ")
            if name == "Server":
                self.tally.by_server[value] += 1
