# SPDX-License-Identifier: Apache-2.0
"""What only a DFS with a switch has: it dies with its agent, and agents stand by for each other."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.answers import DFS_STATUS, HELLO
from admin.client import ask
from admin.errors import CommandError
from data_flow_segment.targets.p4runtime.line import RETRY_LAST_S, STANDBY_S
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.switch import socket_path
from splitplane.lab.topology import DFS_ADDRESS
from ssmb.constants import SSMB_PORT
from support.cluster.laboratory import Client, connected, cs_knows, fetch, wait_until_served
from support.processes import killed_after, line_of

pytestmark = pytest.mark.network

HELD = 12
OCTETS = 30_000
DOWNLOAD = 3_000_000
SHELL = Path(__file__).parents[2] / ".venv-p4shell/bin/python"


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """Its agent has an election id that others are below and above."""
    lab = make_lab("p4runtime", clients=2, servers=3, cs_count=2)
    lab.dfs_config["p4runtime"]["election_id"] = 5
    with lab:
        wait_until_served(lab)
        yield lab


def hold(lab: Lab, happens: Callable[[dict[tuple[str, int], str]], None]) -> None:
    """Connections that are quiet meanwhile, and go on afterwards with the server that they had."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            held: list[tuple[Client, str]] = []
            for number in range(HELD):
                client, address = f"client{number % 2 + 1}", lab.virtual_addresses[number // 2 % 2]
                opening = connected(lab, client, address, timeout_s=None)
                http = await stack.enter_async_context(opening)
                held.append((http, await http.get(OCTETS)))
            happens({http.local_address: server for http, server in held})
            again: list[Awaitable[str]] = [http.get(OCTETS) for http, _ in held]
            async with asyncio.timeout(90):
                assert await asyncio.gather(*again) == [server for _, server in held]

    asyncio.run(story())


def new_connections(lab: Lab) -> set[str]:
    """Who answers them."""

    async def ask() -> set[str]:
        asked = [fetch(lab, "client1", to, (OCTETS,)) for to in lab.virtual_addresses * 3]
        return {server for (server,) in await asyncio.gather(*asked)}

    return asyncio.run(ask())


def test_sessions_come_back_when_switch_and_agent_die_together(lab: Lab) -> None:
    """Nobody but the CS remembers them; it is asked as soon as a client says something."""

    def both_die(servers: dict[tuple[str, int], str]) -> None:
        assert cs_knows(lab, servers)
        lab.switch().kill9()
        lab.dfs().kill9()
        lab.start_switch()
        lab.start_dfs()
        assert not lab.admin("dfs", DFS_STATUS).adopted
        wait_until_served(lab)

    hold(lab, both_die)
    assert len(new_connections(lab)) == 3


def test_another_cs_takes_over(lab: Lab) -> None:
    """It learns every flow from the DFS."""

    def fail_over(servers: dict[tuple[str, int], str]) -> None:
        lab.cs("cs1").kill9()
        lab.cs("cs2").stop()
        lab.cs_configs["cs2"]["active"] = True
        lab.write_configs()
        lab.start_cs("cs2")
        wait_until_served(lab, "cs2")
        wait_for("it to know all", lambda: cs_knows(lab, servers, "cs2"))

    hold(lab, fail_over)
    assert len(new_connections(lab)) == 3


@contextmanager
def agent(lab: Lab, election_id: int, **elsewhere: Any) -> Iterator[subprocess.Popen[str]]:
    """Another agent of the same switch, at the same addresses or *elsewhere*.

    The command line tells it which switch.
    """
    config = {**lab.dfs_config, "p4runtime": {**lab.dfs_config["p4runtime"]}, **elsewhere}
    config["p4runtime"]["election_id"] = election_id
    options = ["--target", config.pop("target"), "--address", config["p4runtime"].pop("address")]
    path = lab.config_path(f"agent{election_id}")
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "splitplane", "dfs", str(path), *options]
    inside = lab.namespaces["dfs"].command(*command)
    with killed_after(subprocess.Popen(inside, stderr=subprocess.PIPE, text=True)) as process:
        yield process


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_stands_by_says_so_once_and_ends_cleanly(
    lab: Lab, ending: signal.Signals
) -> None:
    with agent(lab, 4) as standby:
        assert "the agent with election_id 5 is primary; this one (4) stands by" in line_of(
            standby.stderr
        )
        standby.send_signal(ending)
        _, rest = standby.communicate(timeout=60)
    assert standby.returncode == 0
    assert rest.count("\n") == 1, rest  # that it ended
    assert len(new_connections(lab)) == 3


def test_an_agent_that_stands_by_takes_over_with_all_flows(lab: Lab) -> None:
    with agent(lab, 4) as standby:
        assert "this one (4) stands by" in line_of(standby.stderr)

        def primary_dies(servers: dict[tuple[str, int], str]) -> None:
            lab.dfs().kill9()
            wait_until_served(lab)
            status = lab.admin("dfs", DFS_STATUS)
            assert status.adopted
            assert status.flows >= HELD
            assert cs_knows(lab, servers)

        hold(lab, primary_dies)
        assert len(new_connections(lab)) == 3
        standby.send_signal(signal.SIGTERM)
        standby.communicate(timeout=60)
        assert standby.returncode == 0


def leads(socket_of_admin: Path) -> bool:
    """Whether this agent serves; one that stands by has no sockets."""
    with contextlib.suppress(CommandError):
        return bool(ask(socket_of_admin, HELLO))
    return False


def elsewhere(lab: Lab) -> dict[str, Any]:
    """Addresses beside those of the laboratory's own agent."""
    place = {"address": DFS_ADDRESS, "port": SSMB_PORT + 1}
    return {"csmb": place, "ssmb": place, "admin_socket": str(lab.folder / "other.sock")}


def test_a_primary_stands_by_when_a_higher_one_comes_and_leads_again_afterwards(lab: Lab) -> None:
    place = elsewhere(lab)
    ours, others = lab.socket_of("dfs"), Path(place["admin_socket"])

    def higher_one_comes(servers: dict[tuple[str, int], str]) -> None:
        with agent(lab, 9, **place) as higher:
            wait_for("it to lead", lambda: leads(others) and not leads(ours))
            status = ask(others, DFS_STATUS)
            assert status.adopted
            assert status.flows == HELD
            words = lab.dfs().log.read_text()
            assert (
                "the agent with election_id 9 is primary; this one (5) stands by; starting over"
                in words
            )
            higher.send_signal(signal.SIGTERM)
            assert higher.wait(60) == 0
        wait_until_served(lab)
        assert lab.admin("dfs", DFS_STATUS).adopted
        assert cs_knows(lab, servers)

    hold(lab, higher_one_comes)
    assert len(new_connections(lab)) == 3
    lab.dfs().signal(signal.SIGTERM)
    assert lab.dfs().wait(60) == 0


def test_sigterm_ends_a_primary_that_was_put_out(lab: Lab) -> None:
    with agent(lab, 9, **elsewhere(lab)):
        wait_for("our own to stand by", lambda: "starting over" in lab.dfs().last_words())
        lab.dfs().signal(signal.SIGTERM)
        assert lab.dfs().wait(60) == 0
        assert "Traceback" not in lab.dfs().log.read_text()


class Relay:
    """Between an agent and its switch, at a Unix socket of its own."""

    def __init__(self, address: Path, switch: Callable[[], Path]) -> None:
        self.address = address
        self._switch = switch
        self._ends: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(address))
        self._listening.listen()
        self._start(self._accept)

    @staticmethod
    def _start(target: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                agent_end, _ = self._listening.accept()
                switch_end = socket.socket(socket.AF_UNIX)
                self._ends += (agent_end, switch_end)
                try:
                    switch_end.connect(str(self._switch()))
                except OSError:
                    agent_end.close()
                    switch_end.close()
                    continue
                self._start(self._pass_on, agent_end, switch_end)
                self._start(self._pass_on, switch_end, agent_end)

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := one.recv(65536):
                other.sendall(octets)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
        one.close()

    def cut(self) -> None:
        """Every connection of now ends; the next ones do not."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()


@pytest.fixture
def relayed(make_lab: Callable[..., Lab], tmp_path: Path) -> Iterator[tuple[Lab, Relay]]:
    """Its agent reaches the switch over a relay; others need not."""
    lab = make_lab("p4runtime", clients=2, servers=3, cs_count=2)
    relay = Relay(tmp_path / "relay", lambda: socket_path(lab.folder))
    lab.dfs_config["p4runtime"].update(election_id=5, address=f"unix:{relay.address}")
    with lab:
        wait_until_served(lab)
        yield lab, relay
    relay.close()


@pytest.mark.parametrize("is_neighbour", [False, True], ids=["elsewhere", "same addresses"])
def test_a_blip_of_the_primarys_connection_ends_nothing(
    relayed: tuple[Lab, Relay], is_neighbour: bool
) -> None:
    """The switch makes the other agent primary at once, and the old one again when it is back."""
    lab, relay = relayed
    direct = {**lab.dfs_config["p4runtime"], "address": f"unix:{socket_path(lab.folder)}"}
    place = {**elsewhere(lab), "p4runtime": direct}
    if is_neighbour:
        place = {key: place[key] for key in ("admin_socket", "p4runtime")}
    ours, others = lab.socket_of("dfs"), Path(place["admin_socket"])

    def blip(standby: subprocess.Popen[str]) -> None:
        for _ in range(3):
            before = standing_by(standby)
            relay.cut()
            assert "stands by" in before
            wait_for("one to lead", lambda: leads(ours) and not leads(others))
        wait_until_served(lab)
        assert lab.dfs().is_running
        assert standby.poll() is None

    def standing_by(standby: subprocess.Popen[str]) -> str:
        while "starting over" in (line := line_of(standby.stderr)) or "stands by" not in line:
            assert standby.poll() is None, line
        return line

    async def story(standby: subprocess.Popen[str]) -> None:
        async with connected(lab, "client1", lab.virtual_addresses[0], timeout_s=120) as http:
            await http.begin(DOWNLOAD, DOWNLOAD // 30)
            async with asyncio.TaskGroup() as tasks:
                body = tasks.create_task(http.body(DOWNLOAD))
                await asyncio.to_thread(blip, standby)
                assert not body.done(), "nothing was under way"

    with agent(lab, 4, **place) as standby:
        asyncio.run(story(standby))
        assert len(new_connections(lab)) == 3
        lab.dfs().kill9()
        wait_for("the other one to lead", lambda: leads(others))
        standby.send_signal(signal.SIGTERM)
        _, rest = standby.communicate(timeout=60)
        assert standby.returncode == 0
        assert "Traceback" not in rest
    assert "Traceback" not in lab.dfs().log.read_text()


@pytest.mark.parametrize("away_s", [0, 2.5])
def test_a_switch_that_restarts_is_filled_by_the_agent_that_knows_what_it_held(
    lab: Lab, away_s: float
) -> None:
    """The one that stands by lets it."""
    with agent(lab, 4, **elsewhere(lab)) as standby:
        assert "this one (4) stands by" in line_of(standby.stderr)

        def restart(servers: dict[tuple[str, int], str]) -> None:
            lab.switch().kill9()
            time.sleep(away_s)
            lab.start_switch()
            wait_until_served(lab)
            time.sleep(STANDBY_S + RETRY_LAST_S)  # the other one's turn to ask came, too
            assert cs_knows(lab, servers)
            assert lab.admin("dfs", DFS_STATUS).flows >= HELD

        hold(lab, restart)
        assert len(new_connections(lab)) == 3
        assert "starting over" not in lab.dfs().log.read_text()
        standby.send_signal(signal.SIGTERM)
        _, rest = standby.communicate(timeout=60)
        assert standby.returncode == 0
        assert rest.count("\n") == 1, rest  # that it ended


def test_the_shell_reads_beside_the_agent_and_changes_nothing(lab: Lab) -> None:
    if not SHELL.exists():
        pytest.skip("p4: no .venv-p4shell; make p4-shell makes it")
    section = lab.dfs_config["p4runtime"]
    options = ["--address", section["address"], "--device-id", str(section["device_id"])]

    def looks(_servers: dict[tuple[str, int], str]) -> None:
        done = subprocess.run(
            [sys.executable, "scripts/p4_shell.py", *options],
            input='table_entry["flows"].read(lambda e: print("key", e.action.action_name))\nexit\n',
            cwd=SHELL.parents[2], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert "only have read access" in done.stdout
        for direction in ("inbound", "returning"):
            assert done.stdout.count(f"key SegmentIngress.flows.{direction}") == HELD, done.stdout

    hold(lab, looks)
    assert len(new_connections(lab)) == 3
