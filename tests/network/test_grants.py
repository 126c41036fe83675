# SPDX-License-Identifier: Apache-2.0
"""Decisions made ahead, with real clients: most connections need no question, a drained node gets
none any more, and limits, restarts, a take-over and loss are as without (wire protocol 13.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from admin.answers import DFS_STATUS, RELOAD, SET_NODE, VIRTUAL_SERVERS, VirtualServer
from splitplane.impair import VARIABLE
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from support.cluster.laboratory import Broken, connected, fetch, until, wait_until_served

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

AT_ONCE = 16
SERVERS = {"server1", "server2", "server3"}


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    with make_lab(clients=2, servers=3) as lab:
        wait_until_served(lab)
        yield lab


def web(lab: Lab, segment: str = "cs1") -> VirtualServer:
    """The web server over IPv4."""
    (found,) = [
        each
        for each in lab.admin(segment, VIRTUAL_SERVERS)
        if each.address == lab.virtual_addresses[0] and each.protocol == "tcp"
    ]
    return found


class Load:
    """Connections one behind the other, by a thread of its own: when each began, and who served it.

    What is started by a thread ends with it, so that segments are left to the test's own.
    """

    def __init__(self, lab: Lab, refusal_s: float) -> None:
        self.lab = lab
        self.refusal_s = refusal_s
        self.served: list[tuple[float, str]] = []
        self.over = False
        self.ended: Future[None] | None = None

    async def _worker(self, client: str) -> None:
        while not self.over:
            began = time.monotonic()
            try:
                (server,) = await fetch(self.lab, client, self.lab.virtual_addresses[0])
            except Broken:
                if not self.refusal_s:
                    raise
                await asyncio.sleep(self.refusal_s)
            else:
                self.served.append((began, server))

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(self._worker(f"client{number % 2 + 1}"))

    def run(self) -> None:
        """In the thread."""
        asyncio.run(self._all())

    def since(self, when: float) -> set[str]:
        """Who served connections that began then or later."""
        return {server for began, server in self.served if began >= when}

    def until_granted(self, flows: int = 100) -> None:
        """Wait until so many more have taken a grant: grants begin after some tenths of a second,
        however many connections come meanwhile."""
        ended, wanted = self.ended, ahead(self.lab) + flows
        assert ended is not None
        wait_for("grants", lambda: ahead(self.lab) >= wanted or ended.done(), 120)
        self.some()

    def some(self, count: int = 60) -> None:
        """Wait until so many more were served, or one failed, which is raised."""
        wanted = len(self.served) + count
        ended = self.ended
        assert ended is not None
        wait_for(f"{count} connections", lambda: len(self.served) >= wanted or ended.done(), 120)
        if ended.done():
            ended.result()


@contextmanager
def load(lab: Lab, *, refusal_s: float = 0) -> Iterator[Load]:
    """`refusal_s`: after how long whoever is refused tries again; 0: nobody may be."""
    made = Load(lab, refusal_s)
    with ThreadPoolExecutor(1) as pool:
        made.ended = pool.submit(made.run)
        try:
            made.some(200)
            yield made
        finally:
            made.over = True
        made.ended.result(60)


def ahead(lab: Lab) -> int:
    """Flows that took a grant since the DFS began."""
    return web(lab, "dfs").answered_ahead or 0


def nothing_is_left(lab: Lab, cs: str = "cs1") -> bool:
    server = web(lab, cs)
    return (server.active, server.granted) == (0, 0)


def test_most_connections_need_no_question_and_both_planes_count_the_same(lab: Lab) -> None:
    with load(lab) as made:
        made.until_granted()
        before = web(lab, "dfs").asked or 0, ahead(lab)
        made.some(4000)
        assert (web(lab, "dfs").asked or 0) - before[0] < 2000
        assert ahead(lab) - before[1] > 2000
    wait_for("everything to be over", lambda: nothing_is_left(lab))
    server = web(lab)
    assert server.answered_ahead == ahead(lab)
    assert server.answered_ahead is not None
    assert server.asked is not None
    assert server.total == server.asked + server.answered_ahead >= 4200


def set_node(lab: Lab, node: str, state: str) -> float:
    """Change it; when the command had returned."""
    lab.admin("cs1", SET_NODE, pool="web", node=node, state=state)
    return time.monotonic()


def test_a_drained_node_gets_no_connection_once_the_command_has_returned(lab: Lab) -> None:
    with load(lab) as made:
        made.until_granted()
        before = ahead(lab)
        for turn in range(12):
            node = f"server{turn % 3 + 1}"
            returned = set_node(lab, node, "draining")
            made.some(80)
            assert made.since(returned) == SERVERS - {node}
            set_node(lab, node, "enabled")
            made.some(40)
        assert ahead(lab) - before > 500
    wait_for("everything to be over", lambda: nothing_is_left(lab))


def test_a_reload_takes_a_node_out_at_once(lab: Lab) -> None:
    with load(lab) as made:
        made.some(500)
        for pool in lab.cs_configs["cs1"]["pools"]:
            pool["nodes"] = [node for node in pool["nodes"] if node["name"] != "server2"]
        lab.write_configs()
        lab.admin("cs1", RELOAD)
        returned = time.monotonic()
        made.some(200)
        assert made.since(returned) == SERVERS - {"server2"}


def test_restarts_of_either_side_break_nothing_and_leave_no_grant(lab: Lab) -> None:
    with load(lab) as made:
        for _ in range(2):
            lab.dfs().kill9()
            lab.start_dfs()
            wait_until_served(lab)
            made.until_granted()
            lab.cs().kill9()
            lab.start_cs()
            wait_until_served(lab)
            made.until_granted()
        assert made.since(0) == SERVERS
    wait_for("everything to be over", lambda: nothing_is_left(lab), 60)


def test_a_limit_is_never_exceeded_and_no_place_is_lost(lab: Lab) -> None:
    limit = 100
    for server in lab.cs_configs["cs1"]["virtual_servers"]:
        server["connection_limit"] = limit
    lab.write_configs()
    lab.admin("cs1", RELOAD)
    # Those that have just ended are counted until their DELETE is there
    with load(lab, refusal_s=0.3) as made:
        made.some(1000)
    wait_for("those connections to end", lambda: web(lab).active == 0)
    held: list[str] = []
    refused: list[str] = []

    async def hold(number: int, enough: asyncio.Event) -> None:
        """A place in stock is taken back as soon as somebody is refused: the next try finds it."""
        while len(held) < limit or not refused:
            try:
                where = f"client{number % 2 + 1}", lab.virtual_addresses[0]
                async with connected(lab, *where) as http:
                    server = await http.get(10)
                    if enough.is_set():
                        return  # by a place that was given back
                    held.append(server)
                    assert len(held) <= limit
                    await enough.wait()
                return
            except Broken as error:
                refused.append(str(error))
                await asyncio.sleep(0.3)  # LIMIT_HOLD, and some

    async def fill() -> None:
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(2 * limit):
                tasks.create_task(hold(number, enough))
            await until("all places to be held", lambda: len(held) == limit)
            await asyncio.sleep(0.5)
            assert len(held) == limit
            assert (web(lab).active, web(lab).granted) == (limit, 0)
            enough.set()

    asyncio.run(fill())


def have_answered_ahead(lab: Lab, made: Load, number: int) -> None:
    """Grants come when the CS has seen the rate, a second or so after the first connections: on a
    fast machine a thousand are over by then."""

    def come() -> bool:
        made.some(200)
        return ahead(lab) > number

    wait_for("flows to take grants", come)


def test_the_second_cs_takes_over_among_new_connections(make_lab: Callable[..., Lab]) -> None:
    with make_lab(clients=2, servers=3, cs_count=2) as lab:
        for config in lab.cs_configs.values():
            config["active"] = True
            config["settings"] = {"hello_interval_s": 1}
        lab.write_configs()
        for name in ("cs1", "cs2"):
            lab.cs(name).kill9()
            lab.start_cs(name)
            wait_until_served(lab, name)

        def active() -> int | None:
            (group,) = lab.admin("dfs", DFS_STATUS).groups
            return None if group.active is None else group.active.segment_id

        with load(lab) as made:
            assert active() == 1
            have_answered_ahead(lab, made, 100)
            before = ahead(lab)
            lab.cs("cs1").kill9()
            wait_for("the second CS to take over", lambda: active() == 2)
            have_answered_ahead(lab, made, before + 100)
        wait_for("everything to be over", lambda: nothing_is_left(lab, "cs2"), 60)


def test_loss_costs_no_connection_and_no_count(make_lab: Callable[..., Lab]) -> None:
    with make_lab(clients=2, servers=3, segments=False) as lab:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(VARIABLE, "drop=0.05,duplicate=0.05,reorder=0.05,seed=8")
            lab.start_dfs()
            lab.start_cs()
        wait_until_served(lab)
        with load(lab) as made:
            made.until_granted(500)
        wait_for("no grant to be left", lambda: web(lab).granted == 0)
        assert ahead(lab) > 500
        assert web(lab).answered_ahead == ahead(lab)
