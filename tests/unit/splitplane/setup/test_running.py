# SPDX-License-Identifier: Apache-2.0
"""From nothing: `splitplane init`, the three processes, and a virtual server by the API."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from admin.answers import DFS_STATUS, VIRTUAL_SERVERS
from admin.client import ask
from admin.errors import CommandError
from api.config import ApiConfig
from splitplane.cli import cli
from splitplane.config import load
from support.deployments import initialised
from support.processes import killed_after

POOL = {"name": "web", "nodes": [{"name": "one", "address": "10.1.1.1", "port": 80}]}
SERVER = {"name": "www", "address": "203.0.113.9", "port": 80, "protocol": "tcp", "pool": "web"}


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def answers(path: Path, command: Any, expected: Callable[[Any], bool]) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return expected(ask(path, command))
        except CommandError:
            return False  # it has not begun yet

    return look


def test_what_init_wrote_runs_and_a_virtual_server_reaches_the_dfs(tmp_path: Path) -> None:
    etc, token = initialised(tmp_path)
    listen = load(etc / "api.yaml", ApiConfig).listen
    with ExitStack() as stack:
        processes = []
        for component in ("api", "dfs", "cs"):
            log = stack.enter_context((tmp_path / f"{component}.log").open("wb"))
            command = [
                sys.executable,
                "-m",
                "splitplane",
                component,
                str(etc / f"{component}.yaml"),
            ]
            process: Any = subprocess.Popen(command, stderr=log)
            processes.append(stack.enter_context(killed_after(process)))
        at_cs, at_dfs = (tmp_path / "run" / each / "admin.sock" for each in ("cs", "dfs"))
        linked = answers(at_dfs, DFS_STATUS, lambda it: it.api.linked and bool(it.groups))
        until("the DFS to be linked to the API, and to have its CS", linked)
        client = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{listen.port}/api/v1",
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
        )
        assert client.put("/pools/web", json=POOL).status_code == 201
        assert client.put("/virtual-servers/www", json=SERVER).status_code == 201

        def has_it(servers: Any) -> bool:
            return [(each.address, each.port) for each in servers] == [("203.0.113.9", 80)]

        for path in (at_cs, at_dfs):
            until("the virtual server to be there", answers(path, VIRTUAL_SERVERS, has_it))
        done = CliRunner().invoke(cli, ["doctor", "--folder", str(etc)])
        assert done.exit_code == 0, done.output
        assert done.output.count("it runs, so its ports are not looked at") == 3
        assert "Connection refused" not in done.output
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in processes] == [0, 0, 0]
