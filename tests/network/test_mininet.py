# SPDX-License-Identifier: Apache-2.0
"""Each topology for Mininet comes up, serves, survives its drills, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitplane.lab.processes import wait_for
from support.cluster.laboratory import require_laboratory
from support.require import require
from support.soak import SOAKING

pytestmark = pytest.mark.network

FOLDER = Path(__file__).parents[2] / "mininet"
TOPOLOGIES = ("single_switch", "two_cs", "two_dfs", "standby_cs")
SYSTEM_PYTHON = "/usr/bin/python3"
_TIMEOUT_S = 240


def missing_for_mininet() -> str | None:
    """Why no topology can run here, None if one can."""
    if shutil.which("mnexec") is None:
        return "Mininet is not installed (scripts/setup mininet)"
    importable = [SYSTEM_PYTHON, "-c", "import mininet.net"]
    if subprocess.run(importable, cwd="/", capture_output=True, check=False).returncode != 0:
        return f"Mininet cannot be imported by {SYSTEM_PYTHON}"
    return None


@pytest.fixture(scope="module", autouse=True)
def _machine() -> None:
    require("mininet", missing_for_mininet())
    require_laboratory()


def bmv2() -> None:
    """Skip where there is none."""
    absent = shutil.which("simple_switch_grpc") is None
    require("p4", "simple_switch_grpc is not on the PATH (p4lang-bmv2 has it)" if absent else None)


def command(topology: str, *options: str, python: str = SYSTEM_PYTHON) -> list[str]:
    return [python, str(FOLDER / f"{topology}.py"), *options]


def run(
    topology: str, *options: str, python: str = SYSTEM_PYTHON, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a topology from elsewhere, to its end."""
    return subprocess.run(
        command(topology, *options, python=python),
        cwd="/", capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
        env={**os.environ, **environment},
    )  # fmt: skip


def passes(done: subprocess.CompletedProcess[str], *sentences: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    for sentence in sentences:
        assert sentence in done.stdout


@pytest.mark.parametrize(
    ("topology", "part"),
    [("single_switch", "agent"), ("two_cs", "cs"), ("two_dfs", "agent"), ("standby_cs", "cs")],
)
def test_everybody_is_answered_by_the_kernel_and_a_drill_breaks_nothing(
    topology: str, part: str
) -> None:
    done = run(topology, "--target", "bpf", "--test", "--drill", part)
    passes(
        done, "Every connected pair answers", "Every request was answered; every server was used"
    )
    passes(done, "No download failed")


@pytest.mark.soak
def test_a_standby_takes_over_from_a_cs_that_hangs_is_killed_or_is_ordered_to() -> None:
    """By the drills of `splitplane drill failover`: nothing is lost, and each time the other CS is
    the active one afterwards.  The last drill is for `make soak`: test_drill.py has it too."""
    names = ("hang", "kill", "switchover") if SOAKING else ("hang", "kill")
    drills = [word for name in names for word in ("--drill", name)]
    options = ("--target", "bpf", "--test", "--clients", "1", "--servers", "2")
    done = run("standby_cs", *options, *drills)
    passes(done, "cs1 > cs2", "cs2 > cs1", "kill -9 of cs2")
    assert done.stdout.count("passed: nothing was lost") == len(names)


def test_a_drill_that_needs_a_standby_says_so_where_there_is_none() -> None:
    done = run("single_switch", "--target", "bpf", "--test", "--clients", "1", "--drill", "kill")
    assert done.returncode == 1
    assert "needs a standby CS" in done.stderr


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_everybody_is_answered_by_bmv2_and_no_drill_breaks_anything(topology: str) -> None:
    bmv2()
    done = run(topology, "--test", "--drill", "cs", "--drill", "agent", "--drill", "switch")
    passes(
        done, "Every connected pair answers", "Every request was answered; every server was used"
    )
    assert done.stdout.count("No download failed") == 3


def test_another_python_goes_on_in_the_systems() -> None:
    options = ("--target", "bpf", "--test", "--clients", "1", "--servers", "1")
    passes(run("single_switch", *options, python=sys.executable), "Every request was answered")


def test_without_bmv2_one_line_says_what_else_there_is() -> None:
    tools = [str(Path(str(shutil.which(tool))).parent) for tool in ("mnexec", "ip", "ethtool")]
    path = ":".join(folder for folder in dict.fromkeys([*tools, "/usr/bin", "/usr/sbin"]))
    if shutil.which("simple_switch_grpc", path=path):
        pytest.skip("simple_switch_grpc lies where everything else does")
    done = run("single_switch", "--test", PATH=path)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "p4lang-bmv2" in done.stderr
    assert "--target bpf" in done.stderr


def test_the_console_knows_our_commands() -> None:
    lines = ["h1 curl -s http://203.0.113.10/name", "flows", "nodes", "counters", "status"]
    done = subprocess.run(
        command("single_switch", "--target", "bpf", "--servers", "1", "--clients", "1"),
        input="\n".join([*lines, "requests 2", "drill switch", ""]),
        cwd="/", capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
    )  # fmt: skip
    passes(done, "flows_closed", "csmb version", "Every request was answered")
    assert re.search(r"server1 +10\.2\.1\.2 +8080 ", done.stdout)  # a node's address and port
    assert "server1" in done.stderr  # Mininet's own output
    assert "with --target bpf the kernel is the switch" in done.stdout


def folders(pid: int) -> list[Path]:
    """What the topology of this process has on the machine."""
    name = f"mininet-{pid}"
    places = (Path("/run/splitplane") / name, Path("/sys/fs/bpf/splitplane") / name)
    return [place for place in places if place.exists()]


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """A topology that stays up."""
    options = ("--target", "bpf", "--no-cli", "--clients", "1", "--servers", "1")
    process = subprocess.Popen(
        command("single_switch", *options), cwd="/", stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert any("admin sockets" in line for line in process.stdout)
        yield process
    finally:
        process.kill()
        process.communicate()


def sessions(process: subprocess.Popen[str]) -> list[int]:
    """The processes of a topology: they have its folder as theirs, or are Mininet's shells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().name == f"mininet-{process.pid}":
                found.append(int(entry.name))
        except OSError:
            pass  # it has ended
    return found


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after(running: subprocess.Popen[str], ending: signal.Signals) -> None:
    assert len(folders(running.pid)) == 2
    assert len(sessions(running)) >= 3  # a CS, an agent, a server
    running.send_signal(ending)
    running.wait(90)
    assert folders(running.pid) == []
    assert sessions(running) == []


def test_the_next_one_takes_away_what_a_killed_one_left(running: subprocess.Popen[str]) -> None:
    running.kill()
    running.wait(90)
    wait_for("its processes to end", lambda: not sessions(running))
    assert len(folders(running.pid)) == 2
    options = ("--target", "bpf", "--no-cli", "--seconds", "0.1", "--clients", "1")
    passes(run("two_cs", *options, "--servers", "1"))
    assert folders(running.pid) == []


def test_two_run_beside_each_other(running: subprocess.Popen[str]) -> None:
    passes(run("two_cs", "--target", "bpf", "--test"), "Every request was answered")
    assert running.poll() is None
    assert len(folders(running.pid)) == 2
