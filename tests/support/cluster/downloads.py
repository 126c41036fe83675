# SPDX-License-Identifier: Apache-2.0
"""Many downloads through a laboratory, under way all the time, so slow that none ends before
everything has happened; then the servers hurry, and every octet is compared to its last."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, NamedTuple

from admin.answers import NODES
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from support.cluster.laboratory import Client, connected, cs_knows, fetch
from support.soak import part

SIGN_OF_LIFE = 2_000  # more octets than were on their way when something happened


class Size(NamedTuple):
    """How much is under way; octets / rate is several times what everything takes."""

    downloads: int
    octets: int
    rate: int  # octets a second


# of the kernel's, `make soak` has 200; a test that uses them is marked `soak`
SIZES = {"bpf": Size(part(200, 4), 1_500_000, 10_000), "p4runtime": Size(24, 900_000, 6_000)}
SERVERS = {"server1", "server2", "server3"}


class _Thread:
    """Work in an event loop of its own; `_done` ends as it does."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._done: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)


class Downloads(_Thread):
    """The downloads, in an event loop of their own: the laboratory's processes are this thread's.

    One that breaks fails the next question about them.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._size = SIZES[lab.dfs_config["target"]]
        self._clients: list[Client] = []
        self.servers: dict[tuple[str, int], str] = {}  # by the client's address and port
        super().__init__(self._all)

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._size.downloads):
                address = self._lab.virtual_addresses[number % 2]
                tasks.create_task(self._one(f"client{number // 2 % 2 + 1}", address))

    async def _one(self, client: str, address: str) -> None:
        async with connected(self._lab, client, address, timeout_s=None) as http:
            self.servers[http.local_address] = await http.begin(self._size.octets, self._size.rate)
            self._clients.append(http)
            await http.body(self._size.octets)

    def check(self) -> None:
        """None is broken, and none has ended."""
        if self._done.done():
            self._done.result()
            raise AssertionError("the downloads ended before everything has happened")

    def wait_until_under_way(self) -> None:
        """Return once all have begun."""

        def all_began() -> bool:
            self.check()
            return len(self._clients) == self._size.downloads

        wait_for("every download to begin", all_began)
        self.wait_for_signs_of_life()

    def wait_for_signs_of_life(self) -> None:
        """Return once every download has gone on from where it is now."""
        before = {client: client.received for client in self._clients}

        def all_went_on() -> bool:
            self.check()
            return all(
                client.received >= octets + SIGN_OF_LIFE for client, octets in before.items()
            )

        wait_for("every download to go on", all_went_on)

    def finish(self) -> None:
        """Let the servers hurry; every octet has come and was right, or this raises."""
        self.check()
        for server in SERVERS:
            self._lab.process(server).signal(signal.SIGUSR1)
        self._done.result(60)
        count, octets, _ = self._size
        assert [client.received for client in self._clients] == [octets] * count


class Arrivals(_Thread):
    """New connections, one after another in each of many workers, in a thread, until `stop`.

    Each fetches an octet and then some; what the first failure said fails `stop`.
    """

    def __init__(self, lab: Lab, at_once: int) -> None:
        self.count = 0
        self._lab, self._at_once = lab, at_once
        self._stopping = threading.Event()
        super().__init__(self._all)

    def stop(self) -> None:
        """Return when what has begun is finished."""
        self._stopping.set()
        self._done.result(120)

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._at_once):
                address = self._lab.virtual_addresses[number % 2]
                tasks.create_task(self._one(f"client{number // 2 % 2 + 1}", address))

    async def _one(self, client: str, address: str) -> None:
        while not self._stopping.is_set():
            await fetch(self._lab, client, address, (1, 3_000))
            self.count += 1


def new_connections(lab: Lab, times: int = 3) -> set[str]:
    """Who answers new connections, that all work, from everywhere to everywhere."""

    async def ask() -> set[str]:
        answered = set()
        for address in lab.virtual_addresses:
            for client in ("client1", "client2"):
                for _ in range(times):
                    answered |= set(await fetch(lab, client, address, (1, 30_000)))
        return answered

    return asyncio.run(ask())


def assert_cs_knows(lab: Lab, downloads: Downloads) -> None:
    """Every download, with the server that it really has."""
    wait_for("the CS to know every download", lambda: cs_knows(lab, downloads.servers))


def open_sessions(lab: Lab) -> int:
    return sum(node.active for node in lab.admin("cs1", NODES))
