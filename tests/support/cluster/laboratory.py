# SPDX-License-Identifier: Apache-2.0
"""Clients of a laboratory: they compare every octet, and say what was wrong with which connection.

An exchange that goes wrong in any way raises Broken; nothing is tried twice, but what UDP leaves to
its clients: the first datagram of an exchange, which nothing keeps while the data path asks.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final

from admin.answers import COUNTERS, CS_STATUS, DFS_STATUS, FLOWS, VIRTUAL_SERVERS
from admin.errors import MachineError
from splitplane import machine
from splitplane.lab import Lab
from splitplane.lab.lab import PROGRAMS
from splitplane.lab.processes import wait_for
from splitplane.lab.responses import read_head, read_pattern
from splitplane.lab.topology import HTTP_PORT, UDP_PORT
from ssmb.addresses import endpoint_text, from_text
from support.require import require
from support.targets.bmv2 import missing_for_bmv2

TIMEOUT_S: Final = 60.0  # of one exchange: a hang is a failure, a busy machine is none
AGAIN_S: Final = (
    2.0  # after which a client repeats a first datagram, as a resolver does (RFC 1035 4.2.1)
)
_RECEIVE_BUFFER: Final = 4 << 20  # many answers wait here while Python compares one


class Broken(AssertionError):
    """A connection did not do what TCP, UDP and HTTP promise."""


TARGETS: Final = ("bpf", "p4runtime")
WAYS: Final = {"grants": "auto", "data path": "auto", "agent": "agent"}
"""How new flows find their node, and the DFS's setting `ask`: decisions made ahead, or questions of
the data path, or of the agent."""
BOTH_PLANES: Final = {
    **{f"bpf, {way}": ("bpf", way) for way in WAYS},
    "p4runtime": ("p4runtime", ""),
}
"""A target and, where there is a choice, one of WAYS."""


def require_laboratory(target: str = "bpf") -> None:
    """Skip, or fail where it is required, on a machine that cannot run the target."""
    if target == "p4runtime":
        require("p4", missing_for_bmv2())
        return
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    require("network", f"not installed: {missing}" if missing else None)
    require("network", None if os.geteuid() == 0 else "not root")
    try:
        machine.require_bpf()
    except MachineError as error:
        require("dataplane", str(error))
    program = files("data_flow_segment") / "artifacts/dfs.bpf.o"
    require("dataplane", None if program.is_file() else "the program is not compiled: make bpf")


class Client:
    """One HTTP connection, kept alive until the block ends."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str
    ) -> None:
        self.received = 0  # octets of bodies
        self.local_address: tuple[str, int] = writer.get_extra_info("sockname")[:2]
        self._reader = reader
        self._writer = writer
        self._what = what

    async def get(self, size: int, rate: int = 0) -> str:
        """GET that many octets, compare each, and return the server's name."""
        server = await self.begin(size, rate)
        await self.body(size)
        return server

    async def slow(self, seconds: int) -> str:
        """The server's name, which it sends after so many seconds of silence."""
        self._writer.write(f"GET /slow?seconds={seconds} HTTP/1.1\r\nHost: www\r\n\r\n".encode())
        length = int((await read_head(self._reader))["Content-Length"])
        return (await self._reader.readexactly(length)).decode()

    async def begin(self, size: int, rate: int = 0) -> str:
        """Ask for that many octets, R a second, read the head, and return the server's name."""
        query = f"?rate={rate}" if rate else ""
        self._writer.write(f"GET /bytes/{size}{query} HTTP/1.1\r\nHost: www\r\n\r\n".encode())
        headers = await read_head(self._reader)
        if headers["Content-Length"] != str(size):
            raise Broken(f"{self._what}: {headers['Content-Length']} octets instead of {size}")
        return headers["Server"]

    async def body(self, size: int) -> None:
        """Read and compare a body."""
        await read_pattern(self._reader, size, self._heard)

    def _heard(self, octets: int) -> None:
        self.received += octets


@asynccontextmanager
async def connected(
    lab: Lab,
    client: str,
    address: str,
    *,
    port: int = HTTP_PORT,
    source: tuple[str, int] | None = None,
    timeout_s: float | None = TIMEOUT_S,
) -> AsyncIterator[Client]:
    """A connection, from an address and port of its choice; *timeout_s* is for its whole life."""
    what = f"{client} to {address} port {port}"
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            sock = _socket(lab, client, address, socket.SOCK_STREAM, source)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except BaseException:
                sock.close()
                raise
            what += " from {} port {}".format(*sock.getsockname())
            reader, writer = await asyncio.open_connection(sock=sock)
            yield Client(reader, writer, what)
    except TimeoutError:
        raise Broken(f"{what}: not finished within {timeout_s} s") from None
    except (OSError, EOFError, ValueError) as error:
        raise Broken(f"{what}: {error or type(error).__name__}") from error
    finally:
        if writer is not None:
            writer.close()


def _socket(
    lab: Lab, client: str, address: str, kind: socket.SocketKind, source: tuple[str, int] | None
) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = lab.socket(client, family, kind)
    sock.setblocking(False)
    if kind == socket.SOCK_DGRAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if source:
        sock.bind(source)
    return sock


async def fetch(
    lab: Lab, client: str, address: str, sizes: Iterable[int] = (1,), **where: Any
) -> list[str]:
    """These bodies on one connection; who sent each."""
    async with connected(lab, client, address, **where) as http:
        return [await http.get(size) for size in sizes]


def choose_way(lab: Lab, way: str) -> None:
    """Have new flows find their node in one of WAYS; before the laboratory is entered.  "": as the
    configuration says."""
    if not way:
        return
    lab.dfs_config["ask"] = WAYS[way]
    for config in lab.cs_configs.values():
        config["settings"] = {**config.get("settings", {}), "grants": way == "grants"}


def assert_way(lab: Lab, way: str) -> None:
    """That new flows did find their node so; a few may meet no grant, which come with a rate."""
    if way not in ("data path", "agent"):
        return
    servers = lab.admin("dfs", VIRTUAL_SERVERS)
    assert sum(server.answered_ahead or 0 for server in servers) == 0
    assert (lab.admin("dfs", COUNTERS)["asked"].value > 0) == (way == "data path")


def path_asks(lab: Lab) -> bool:
    """Whether the data path is to ask about new flows: then nobody keeps a client's packet."""
    config = lab.dfs_config
    return (config["target"], config.get("ask", "auto")) == ("bpf", "auto")


def send_first(lab: Lab, sock: socket.socket, content: bytes) -> None:
    """Send a flow's first datagram; where the data path asks, until an answer or error comes."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)  # POLLERR comes unasked
    deadline = time.monotonic() + TIMEOUT_S
    sock.send(content)
    while path_asks(lab) and not poll.poll(AGAIN_S * 1000):
        if time.monotonic() > deadline:
            raise Broken(f"nothing came back within {TIMEOUT_S} s")
        sock.send(content)


async def echo(
    lab: Lab,
    client: str,
    address: str,
    contents: Iterable[bytes],
    *,
    source: tuple[str, int] | None = None,
    port: int = UDP_PORT,
    timeout_s: float = TIMEOUT_S,
    repeats: bool = True,
    tally: Counter[str] | None = None,
) -> list[str]:
    """Send each datagram from one port, compare what comes back; who answered each.

    Where the data path asks and *repeats* is set, the first one is repeated, which *tally* counts.
    No other may be lost, and none may be answered more often than it was sent.
    """
    servers: list[str] = []
    again_s = AGAIN_S if repeats and path_asks(lab) else None
    with _socket(lab, client, address, socket.SOCK_DGRAM, source) as sock:
        exchange = _Exchange(sock, f"{client} to {address}")
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
                for content in contents:
                    servers.append(await exchange.ask(content, None if servers else again_s))
        except OSError as error:  # TimeoutError is one
            what = f"{client} {source or ''} to {address}: after {len(servers)} datagrams"
            raise Broken(f"{what}: {error or type(error).__name__}") from error
        finally:
            if tally is not None:
                tally["repeats"] += exchange.repeats
    return servers


class _Exchange:
    """Datagrams from one socket, one at a time."""

    def __init__(self, sock: socket.socket, what: str) -> None:
        self.repeats = 0
        self._sock = sock
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._late: list[bytes] = []  # what may be answered once more

    async def ask(self, content: bytes, again_s: float | None) -> str:
        """The name of who sent it back."""
        await self._loop.sock_sendall(self._sock, content)
        while True:
            try:
                async with asyncio.timeout(again_s):
                    answer = await self._loop.sock_recv(self._sock, 65536)
            except TimeoutError:
                self.repeats += 1
                self._late.append(content)
                await self._loop.sock_sendall(self._sock, content)
                continue
            server, _, echoed = answer.partition(b" ")
            if echoed == content:
                return server.decode()
            if echoed not in self._late:
                raise Broken(f"{self._what}: other octets, {len(echoed)}")
            self._late.remove(echoed)


def wait_until_served(lab: Lab, cs: str = "cs1") -> None:
    """Return once CS and DFS have found each other (again), and the CS knows what goes on."""

    def served() -> bool:
        (dfs,) = lab.admin(cs, CS_STATUS).data_flow_segments
        return (
            dfs.ready and dfs.ssmb_authenticated and dfs.sync is not None and not dfs.sync.running
        )

    wait_for("CS and DFS to be one", served)
    lab.wait_until_serving()


def wait_until_asking(lab: Lab, way: str) -> None:
    """Return once new flows are asked about in one of WAYS."""

    def asks() -> set[str]:
        return {group.asks.partition(":")[0] for group in lab.admin("dfs", DFS_STATUS).groups}

    wait_for(f"the {way} to ask", lambda: asks() == {way})


def cs_knows(lab: Lab, servers: Mapping[tuple[str, int], str], cs: str = "cs1") -> bool:
    """Whether the CS has a record of each TCP client's address and port, with its server.

    A UDP client of an earlier test may have had the same port.
    """
    flows = lab.admin(cs, FLOWS, limit=10_000)
    known = {flow.client: flow.node_name for flow in flows if flow.protocol == "tcp"}
    wanted = {
        endpoint_text(from_text(address), port): server
        for (address, port), server in servers.items()
    }
    return wanted.items() <= known.items()


async def until(what: str, come: Callable[[], bool]) -> None:
    """`wait_for` beside connections that go on."""
    await asyncio.to_thread(wait_for, what, come)


async def crowd(jobs: Iterable[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Do all, so many at a time; the first failure ends it."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(worker())
