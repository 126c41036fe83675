# SPDX-License-Identifier: Apache-2.0
"""A modest load from a laboratory's clients: HTTP connections like a person's, and UDP exchanges.

Every octet that comes back is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from splitplane.lab.configs import BETA_HEADER
from splitplane.lab.lab import Lab
from splitplane.lab.responses import read_head, read_pattern
from splitplane.lab.topology import HTTP_PORT, SITE_PORT, UDP_PORT, VIRTUAL_ADDRESS

# small pages mostly, a picture now and then, a download rarely
_SIZES: Final = (300, 2_000, 2_000, 10_000, 10_000, 50_000, 200_000, 1_500_000)
_REQUESTS_MAX: Final = 6  # on one connection
_THINKING_S: Final = 0.6  # between two requests, at most
_UDP_SHARE: Final = 0.15
_SITE_SHARE: Final = 0.25  # of the HTTP connections over IPv4, where there is `site`
_BETA_SHARE: Final = 0.3  # of these
_TIMEOUT_S: Final = 10
_AGAIN_S: Final = 2  # as resolvers repeat a question (RFC 1035 4.2.1)
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
                if self._random.random() < _UDP_SHARE:
                    exchange = self._datagram(client, address)
                else:
                    sizes = self._random.choices(_SIZES, k=self._random.randint(1, _REQUESTS_MAX))
                    exchange = self._requests(client, address, sizes)
                tasks.create_task(self._tried(exchange, f"{client} to {address}"))
                delay = self._random.expovariate(1 / self._interval_s)
                try:
                    await asyncio.wait_for(self._stopping.wait(), delay)
                except TimeoutError:
                    continue

    async def _tried(self, exchange: Coroutine[Any, Any, None], what: str) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await exchange
        except (OSError, TimeoutError, EOFError, ValueError, KeyError) as error:
            self.tally.failures += 1
            self.tally.last_failure = f"{what}: {str(error) or type(error).__name__}"

    def _socket(self, client: str, address: str, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self._lab.socket(client, family, kind)
        sock.setblocking(False)
        return sock

    async def _datagram(self, client: str, address: str) -> None:
        """One request, one answer, from its own port."""
        loop = asyncio.get_running_loop()
        question = self._random.randbytes(self._random.randint(1, 500))
        with self._socket(client, address, socket.SOCK_DGRAM) as sock:
            await loop.sock_connect(sock, (address, UDP_PORT))
            self.tally.connections += 1
            answer = b""
            while not answer:  # no answer is empty
                await loop.sock_sendall(sock, question)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN_S):
                        answer = await loop.sock_recv(sock, 2048)
        server, _, echoed = answer.partition(b" ")
        if echoed != question:
            raise ValueError(f"{len(answer)} octets came back that were never sent")
        self._answered(server.decode(), len(echoed))

    def _answered(self, server: str, octets: int) -> None:
        self.tally.requests += 1
        self.tally.octets += octets
        self.tally.by_server[server] += 1

    async def _requests(self, client: str, address: str, sizes: list[int]) -> None:
        loop = asyncio.get_running_loop()
        port, header = self._aim(address)
        sock = self._socket(client, address, socket.SOCK_STREAM)
        started = loop.time()
        try:
            await loop.sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        self.tally.connect_ms.append((loop.time() - started) * 1000)
        self.tally.connections += 1
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            for size in sizes:
                head = f"GET /bytes/{size} HTTP/1.1\r\nHost: www\r\n{header}\r\n"
                writer.write(head.encode())
                await self._response(reader, size)
                await asyncio.sleep(self._random.uniform(0, _THINKING_S))
        finally:
            writer.close()

    def _aim(self, address: str) -> tuple[int, str]:
        """A port of a virtual address, and what the requests to it have beside Host."""
        if not (self._lab.has_content and address == VIRTUAL_ADDRESS):
            return HTTP_PORT, ""
        if self._random.random() >= _SITE_SHARE:
            return HTTP_PORT, ""
        is_beta = self._random.random() < _BETA_SHARE
        return SITE_PORT, f"{BETA_HEADER}: yes\r\n" if is_beta else ""

    async def _response(self, reader: asyncio.StreamReader, size: int) -> None:
        head = await read_head(reader)
        await read_pattern(reader, size)
        self._answered(head["Server"], size)
