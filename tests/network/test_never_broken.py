# SPDX-License-Identifier: Apache-2.0
"""Never a broken connection, whatever happens to the segments and to their configuration.

Many downloads are under way all the time, so slow that none ends before everything has happened;
then the servers hurry, and every octet of every download is compared to its last.  With a P4 switch
they are fewer, and the switch dies too.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from admin.answers import DFS_STATUS, NODES, RELOAD, SET_NODE
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from support.laboratory import TARGETS, Client, connected, cs_knows, fetch, wait_until_served

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

SIGN_OF_LIFE = 2_000  # more octets than were on their way when something happened


class Size(NamedTuple):
    """How much is under way; octets / rate is several times what everything takes."""

    downloads: int
    octets: int
    rate: int  # octets a second


SIZES = {"bpf": Size(200, 1_500_000, 10_000), "p4runtime": Size(24, 900_000, 6_000)}
SERVERS = {"server1", "server2", "server3"}
POOLS = ("web", "web6")


class Downloads:
    """The downloads, in an event loop of their own: the laboratory's processes are this thread's.

    One that breaks fails the next question about them.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._size = SIZES[lab.dfs_config["target"]]
        self._clients: list[Client] = []
        self.servers: dict[tuple[str, int], str] = {}  # by the client's address and port
        self._done: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

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


@pytest.fixture(params=TARGETS)
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    with make_lab(request.param, clients=2, servers=3) as lab:
        yield lab


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


def set_nodes(lab: Lab, node: str, **values: Any) -> None:
    for pool in POOLS:
        lab.admin("cs1", SET_NODE, pool=pool, node=node, **values)


def change_weights(lab: Lab, downloads: Downloads) -> None:
    """1,000 times; a weight of 0 is one too."""
    chance = random.Random(1)
    for number in range(1000):
        pool, node = chance.choice(POOLS), chance.choice(sorted(SERVERS - {"server1"}))
        weight = chance.choice((0, 1, 2, 10, 1000))
        lab.admin("cs1", SET_NODE, pool=pool, node=node, weight=weight)
        if number % 100 == 99:
            downloads.check()
            new_connections(lab, 1)
    for server in SERVERS:
        set_nodes(lab, server, weight=1)


def drain(lab: Lab, downloads: Downloads) -> None:
    set_nodes(lab, "server1", state="draining")
    assert new_connections(lab) == {"server2", "server3"}
    downloads.wait_for_signs_of_life()
    set_nodes(lab, "server1", state="enabled")


@contextmanager
def changed(lab: Lab) -> Iterator[list[dict[str, Any]]]:
    """Change the web pools' configuration and let the CS load it."""
    pools = [pool for pool in lab.cs_configs["cs1"]["pools"] if pool["name"] in POOLS]
    yield pools
    lab.write_configs()
    lab.admin("cs1", RELOAD)


def reload(lab: Lab, downloads: Downloads) -> None:
    """Another method, and a node less; then back."""
    with changed(lab) as pools:
        removed = [pool["nodes"].pop() for pool in pools]
        for pool in pools:
            pool["method"] = "least_connections"
    assert new_connections(lab) == {"server1", "server2"}
    downloads.wait_for_signs_of_life()
    with changed(lab) as pools:
        for pool, node in zip(pools, removed, strict=True):
            pool["nodes"].append(node)
            pool["method"] = "round_robin"


def kill_cs(lab: Lab, downloads: Downloads) -> None:
    lab.cs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_cs()
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_agent(lab: Lab, downloads: Downloads) -> None:
    lab.dfs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_dfs()
    assert lab.admin("dfs", DFS_STATUS).adopted
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_both(lab: Lab, downloads: Downloads) -> None:
    lab.cs().kill9()
    lab.dfs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_dfs()
    lab.start_cs()
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_switch(lab: Lab, downloads: Downloads) -> None:
    """Its flows are gone with it; the agent, which has them too, writes them again.

    What it saw of a close that is under way is gone too: such a flow stays until it was idle.
    """
    wait_for("no close to be under way", lambda: open_sessions(lab) == len(downloads.servers))
    lab.switch().kill9()
    lab.start_switch()
    downloads.wait_for_signs_of_life()
    assert_cs_knows(lab, downloads)


def assert_cs_knows(lab: Lab, downloads: Downloads) -> None:
    """Every download, with the server that it really has."""
    wait_for("the CS to know every download", lambda: cs_knows(lab, downloads.servers))


def test_no_download_breaks_whatever_happens(lab: Lab) -> None:
    downloads = Downloads(lab)
    downloads.wait_until_under_way()
    assert set(downloads.servers.values()) == SERVERS
    stories = [change_weights, drain, reload, kill_cs, kill_agent, kill_both]
    if lab.dfs_config["target"] == "p4runtime":
        stories.append(kill_switch)
    for happens in stories:
        happens(lab, downloads)
        downloads.wait_for_signs_of_life()
        assert new_connections(lab) == SERVERS, happens.__name__
    downloads.finish()
    wait_for("the CS to see the ends", lambda: open_sessions(lab) == 0)


def open_sessions(lab: Lab) -> int:
    return sum(node.active for node in lab.admin("cs1", NODES))
