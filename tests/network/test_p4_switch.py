# SPDX-License-Identifier: Apache-2.0
"""What only a DFS with a switch has: it dies with its agent, and agents stand by for each other."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitplane import admin
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import DFS_ADDRESS
from ssmb.constants import SSMB_PORT
from support.laboratory import Client, connected, cs_knows, fetch, wait_until_served

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

HELD = 12
OCTETS = 30_000
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
            async with asyncio.timeout(30):
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
        assert not lab.admin("dfs", "status")["adopted"]
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
    process = subprocess.Popen(
        lab.namespaces["dfs"].command(*command), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_stands_by_says_so_once_and_ends_cleanly(
    lab: Lab, ending: signal.Signals
) -> None:
    with agent(lab, 4) as standby:
        assert "the agent with election_id 5 is primary; 4 stands by" in line_of(standby)
        standby.send_signal(ending)
        _, rest = standby.communicate(timeout=20)
    assert standby.returncode == 0
    assert rest.count("\n") == 1, rest  # that it ended
    assert len(new_connections(lab)) == 3


def test_an_agent_that_stands_by_takes_over_with_all_flows(lab: Lab) -> None:
    with agent(lab, 4) as standby:
        assert "4 stands by" in line_of(standby)

        def primary_dies(servers: dict[tuple[str, int], str]) -> None:
            lab.dfs().kill9()
            wait_until_served(lab)
            status = lab.admin("dfs", "status")
            assert status["adopted"]
            assert status["flows"] >= HELD
            assert cs_knows(lab, servers)

        hold(lab, primary_dies)
        assert len(new_connections(lab)) == 3
        standby.send_signal(signal.SIGTERM)
        standby.communicate(timeout=20)
        assert standby.returncode == 0


def test_a_primary_ends_when_a_higher_one_comes_which_has_all_its_flows(lab: Lab) -> None:
    place = {"address": DFS_ADDRESS, "port": SSMB_PORT + 1}
    socket = str(lab.folder / "other.sock")

    def higher_one_comes(_servers: dict[tuple[str, int], str]) -> None:
        with agent(lab, 9, csmb=place, ssmb=place, admin_socket=socket) as higher:
            assert lab.dfs().wait(20) == 4
            words = lab.dfs().last_words().splitlines()[-1]
            assert words.startswith("splitplane: switch unix:"), words
            assert "election_id 9 is primary" in words
            wait_for("the other one to serve", lambda: Path(socket).exists())
            status = admin.call(Path(socket), "status")
            assert status["adopted"]
            assert status["flows"] == HELD
            higher.send_signal(signal.SIGTERM)
            assert higher.wait(20) == 0

    hold(lab, higher_one_comes)


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
