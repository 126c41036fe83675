# SPDX-License-Identifier: Apache-2.0
"""From nothing to traffic by the command: an API, a CS that has its configuration from there, and a
virtual server that is added, drained, rolled back and removed while clients use it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin.answers import CS_STATUS, NODES, VIRTUAL_SERVERS
from splitplane.cli import cli
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import HTTP_PORT, SERVER_HTTP_PORT, VIRTUAL_ADDRESS
from support.cluster.laboratory import fetch

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

OF_THE_API = ("settings", "monitors", "pools", "virtual_servers")
Run = Callable[..., str]


def command(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def link(lab: Lab, folder: Path, segment: str) -> dict[str, object]:
    """The section `api` of a segment's file, with a token of its own."""
    token = folder / f"{segment}.token"
    token.touch(0o600)
    token.write_text(
        command("token", "create", segment, "--role", "segment", "--config", folder / "api.yaml")
    )
    return {"url": f"unix:{folder}/api.socket", "token_file": str(token)}


@pytest.fixture(scope="module")
def lab(
    make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, Run]]:
    """A laboratory whose CS knows no virtual server, and the command as an operator of its API."""
    folder = tmp_path_factory.mktemp("api")
    config = folder / "api.yaml"
    config.write_text("listen: {address: null, socket: api.socket}\ndatabase: sqlite:///api.db\n")
    lab = make_lab(clients=1, servers=2, ipv6=False, segments=False)
    token = folder / "operator.token"
    token.touch(0o600)
    token.write_text(command("token", "create", "operator", "--role", "operator",
                             "--config", config))  # fmt: skip
    cs = {name: value for name, value in lab.cs_configs["cs1"].items() if name not in OF_THE_API}
    lab.cs_configs["cs1"] = {**cs, "api": link(lab, folder, "cs1"),
                             "state_file": str(folder / "cs1.state")}  # fmt: skip

    def run(*arguments: object) -> str:
        return command(*arguments, "--api", f"unix:{folder}/api.socket", "--token-file", token)

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "splitplane", "api", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for("the API's socket", (folder / "api.socket").exists)
        with lab:
            lab.start_dfs()
            lab.start_cs()
            yield lab, run
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def is_ready(lab: Lab) -> bool:
    (dfs,) = lab.admin("cs1", CS_STATUS).data_flow_segments
    return dfs.ready and dfs.ssmb_authenticated


def served(lab: Lab) -> list[str]:
    """The virtual servers that the data path has."""
    return [str(server.name) for server in lab.admin("dfs", VIRTUAL_SERVERS)]


def state_of(lab: Lab, node: str) -> str:
    (found,) = [each.state for each in lab.admin("cs1", NODES) if each.name == node]
    return str(found)


def answers(lab: Lab, times: int) -> set[str]:
    """Which servers answer so many connections."""

    async def ask() -> set[str]:
        return {(await fetch(lab, "client1", VIRTUAL_ADDRESS))[0] for _ in range(times)}

    return asyncio.run(ask())


def test_from_nothing_to_traffic_and_back(lab: tuple[Lab, Run]) -> None:
    running, run = lab
    wait_for("CS and DFS to be one", lambda: is_ready(running))
    assert served(running) == []
    nodes = [
        word
        for host in running.topology.of("server")
        for word in ("--node", f"{host.address}:{SERVER_HTTP_PORT}")
    ]
    run("add", "virtual-server", "shop", "--address", VIRTUAL_ADDRESS, "--port", HTTP_PORT, *nodes)
    wait_for("the virtual server", lambda: len(served(running)) == 1)
    assert answers(running, 4) == {"server1", "server2"}

    run("node", "shop", "shop-1", "--state", "draining", "--comment", "a new disk")
    wait_for("the CS to drain it", lambda: state_of(running, "shop-1") == "draining")
    assert answers(running, 4) == {"server2"}
    assert "a new disk" in run("generations")

    run("roll-back", 1)
    wait_for("the CS to use it again", lambda: state_of(running, "shop-1") == "enabled")
    assert answers(running, 4) == {"server1", "server2"}

    run("remove", "virtual-server", "shop")
    wait_for("the data path to forget it", lambda: served(running) == [])
