# SPDX-License-Identifier: Apache-2.0
"""`splitplane dfs` with a switch, as a real process: it waits for what comes by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.answers import HELLO
from admin.client import ask
from admin.errors import CommandError
from support.ports import free_port
from support.processes import killed_after, line_of
from support.targets.p4_switch import FakeSwitch

WAIT_S = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short name: a Unix socket's has a limit."""
    with tempfile.TemporaryDirectory(prefix="p4-") as name:
        yield Path(name)


def config(folder: Path, **changes: Any) -> Path:
    """Of an agent at the loopback, whose switch is at a socket in *folder*."""
    key = folder / "cluster.key"
    key.touch(0o600)
    key.write_text("00112233445566778899aabbccddeeff\n")
    interface = {
        "port": 1,
        "name": "both",
        "mac": "02:5b:00:00:00:01",
        "addresses": ["198.51.100.2/24"],
        "external": True,
        "internal": True,
    }
    settings = {
        "segment_id": 256,
        "target": "p4runtime",
        "p4runtime": {
            "address": f"unix:{folder}/grpc",
            "interfaces": [interface],
            "replace_program": True,
            **changes,
        },
        "csmb": {"address": "127.0.0.1", "port": free_port()},
        "ssmb": {"address": "127.0.0.1", "port": free_port()},
        "key_file": "cluster.key",
        "admin_socket": f"{folder}/dfs.sock",
    }
    path = folder / "dfs.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def command(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "splitplane", "dfs", str(path), *options]


@contextmanager
def agent(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Its log is its standard error."""
    with killed_after(
        subprocess.Popen(command(path), stderr=subprocess.PIPE, text=True)
    ) as process:
        yield process


def wait_until_serving(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        try:
            ask(folder / "dfs.sock", HELLO)
        except CommandError:
            time.sleep(0.05)
        else:
            return


def test_an_agent_that_is_started_before_its_switch_waits_and_then_serves(folder: Path) -> None:
    with agent(config(folder)) as process:
        said = line_of(process.stderr)
        assert "nothing listens there: start the switch" in said
        assert said.endswith("; waiting for it\n")
        switch = FakeSwitch(f"unix:{folder}/grpc")
        try:
            wait_until_serving(folder, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            switch.stop()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_waits_for_its_switch_ends_when_it_is_asked(
    folder: Path, ending: signal.Signals
) -> None:
    with agent(config(folder)) as process:
        assert "waiting for it" in line_of(process.stderr)
        process.send_signal(ending)
        _, rest = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert rest.count("\n") == 1, rest  # that it ended


def test_detach_does_not_wait_for_a_switch_that_is_not_there(folder: Path) -> None:
    done = subprocess.run(
        command(config(folder), "--detach"),
        capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 4
    assert "nothing listens there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_no_waiting_mends_ends_the_agent(folder: Path) -> None:
    switch = FakeSwitch(f"unix:{folder}/grpc")
    switch.config.p4info.tables.add().preamble.name = "ingress.somebody_elses"
    try:
        done = subprocess.run(
            command(config(folder, replace_program=False)),
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
    finally:
        switch.stop()
    assert done.returncode == 4
    assert "runs another program" in done.stderr
