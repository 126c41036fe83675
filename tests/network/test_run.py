# SPDX-License-Identifier: Apache-2.0
"""`splitplane run` and `splitplane lab`, as a person starts and ends them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from admin.errors import MachineError
from splitplane import machine
from splitplane.lab import state
from splitplane.lab.lab import PROGRAMS
from splitplane.lab.namespaces import existing
from splitplane.lab.topology import prefix
from support.cluster.laboratory import TARGETS, require_laboratory
from support.processes import killed_after, line_of
from support.require import require
from support.soak import SOAKING

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

NAME = f"r{os.getpid()}"
COMMAND = [sys.executable, "-m", "splitplane"]


@pytest.fixture(autouse=True)
def _machine() -> Iterator[None]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    require("network", f"not installed: {missing}" if missing else None)
    require("network", None if os.geteuid() == 0 else "not root")
    try:
        machine.require_bpf()
    except MachineError as error:
        require("dataplane", str(error))
    program = files("data_flow_segment") / "artifacts/dfs.bpf.o"
    require("dataplane", None if program.is_file() else "the program is not compiled: make bpf")
    yield
    state.clean(NAME)


def remains() -> list[str]:
    """Whatever has the laboratory's name."""
    left = [*Path("/run/splitplane").glob(f"lab-{NAME}*"), state.pins(NAME)]
    return [*existing(prefix(NAME)), *(str(path) for path in left if path.exists())]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, in a session of its own as from a terminal of its own."""
    with killed_after(
        subprocess.Popen(
            [*COMMAND, *arguments, "--name", NAME],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
    ) as process:  # fmt: skip
        yield process


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_for_the_given_time_without_a_failure_and_leaves_nothing(target: str) -> None:
    require_laboratory(target)
    done = subprocess.run(
        [*COMMAND, "run", "--no-api", "--name", NAME, "--target", target, "--seconds", "5"],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    *seconds, last = done.stdout.splitlines()
    assert len(seconds) >= 2
    assert all(line.split()[1] == "connections/s," for line in seconds)
    assert "0 failures" in last
    for server in ("server1", "server2", "server3"):
        assert server in last
    assert remains() == []


def test_once_prints_the_screen_once() -> None:
    done = subprocess.run(
        [*COMMAND, "run", "--name", NAME, "--once"],
        capture_output=True, text=True, check=False, timeout=90,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    for part in (
        "nodes",
        " flows, newest first",
        "messages/s",
        "QUERY",
        "web6",
        "0 failures",
        "site  beta ",
    ):
        assert part in done.stdout


def test_it_says_where_its_page_is_and_a_link_signs_one_in() -> None:
    with started("run") as process:
        said = line_of(process.stderr)
        found = re.search(r"page (http://127\.0\.0\.1:\d+/) .*#sign-in=(\S+)", said)
        assert found is not None, said
        page, secret = found.groups()
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert b"web/js/main.js" in answer.read()
        wanted = urllib.request.Request(
            f"{page}api/v1/session", json.dumps({"secret": secret}).encode(),
            {"Content-Type": "application/json", "X-Splitplane-Request": "1"},
        )  # fmt: skip
        with urllib.request.urlopen(wanted, timeout=60) as answer:
            assert json.load(answer)["role"] == "admin"
            assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert "connections/s" in line_of(process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err + out
    assert "0 failures" in out
    assert remains() == []


# a terminal's Ctrl-C and a supervisor's order; `make soak` has the other two as well
ENDINGS = [("group", signal.SIGINT), ("alone", signal.SIGTERM)]
if SOAKING:
    ENDINGS += [("alone", signal.SIGINT), ("group", signal.SIGTERM)]


@pytest.mark.soak
@pytest.mark.parametrize(("whom", "ending"), ENDINGS)
def test_it_ends_politely_and_leaves_nothing(whom: str, ending: signal.Signals) -> None:
    with started("run", "--no-api") as process:
        assert "connections/s" in line_of(process.stdout)
        if whom == "group":
            os.killpg(process.pid, ending)
        else:
            process.send_signal(ending)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err + out
    assert "0 failures" in out
    assert remains() == []


def test_after_kill_9_the_next_run_works_and_leaves_nothing() -> None:
    with started("run", "--no-api") as process:
        assert "connections/s" in line_of(process.stdout)
        process.kill()
        process.wait(60)
    assert remains() != []
    done = subprocess.run(
        [*COMMAND, "run", "--no-api", "--name", NAME, "--seconds", "2"],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert remains() == []


def test_a_laboratory_ends_when_its_switch_does() -> None:
    require_laboratory("p4runtime")
    with started("lab", "up", "--target", "p4runtime") as process:
        assert "is up" in line_of(process.stdout)
        record = json.loads(Path(f"/run/splitplane/lab-{NAME}.json").read_text())
        os.kill(record["processes"]["switch"][0], signal.SIGKILL)
        _, err = process.communicate(timeout=90)
    assert (process.returncode, "splitplane: switch exited with -9" in err) == (1, True), err
    assert remains() == []


def test_a_laboratory_can_be_looked_at_and_entered() -> None:
    with started("lab", "up") as process:
        assert "is up" in line_of(process.stdout)
        sockets = [f"/run/splitplane/lab-{NAME}/{name}.sock" for name in ("cs-1", "dfs-256")]
        options = [word for path in sockets for word in ("--socket", path)]
        name = "import urllib.request as r; print(r.urlopen('http://203.0.113.10/name').read())"
        inside = subprocess.run(
            [*COMMAND, "lab", "exec", "--name", NAME, "client1", sys.executable, "-c", name],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert "server" in inside.stdout, inside.stderr
        rows = shown("show", "nodes", *options)[0]["data"]
        assert sum(row["total"] for row in rows) == 1
        site = (
            "import urllib.request as r;"
            "print(r.urlopen(r.Request('http://203.0.113.10:8000/name',"
            " headers={'X-Beta': 'yes'})).read())"
        )
        inside = subprocess.run(
            [*COMMAND, "lab", "exec", "--name", NAME, "client1", sys.executable, "-c", site],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert "server3" in inside.stdout, inside.stderr
        decided = shown("show", "rules", "site", "--socket", sockets[0])[0]["data"]
        assert [(row["rule"], row["pool"], row["connections"]) for row in decided] == [
            ("beta", "beta", 1),
            ("no admin", None, 0),
            ("(no rule)", "web", 0),
            ("(unreadable)", None, 0),
        ]
        for what in ("virtual-servers", "messages", "status"):
            assert shown("show", what, *options)
        flow = until_shown(options)
        told = shown("trace", f"{flow['client']}-203.0.113.10:80", *options)
        assert {answer["segment"] for answer in told} == {"cs-1", "dfs-256"}
        assert all(answer["data"] for answer in told)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 0
    assert remains() == []


def until_shown(options: list[str]) -> dict[str, object]:
    """The one flow of the CS, opened anew where the first has been closed meanwhile."""
    hold = "import socket,time; s=socket.create_connection(('203.0.113.10',80)); time.sleep(300)"
    holder = subprocess.Popen(
        [*COMMAND, "lab", "exec", "--name", NAME, "client1", sys.executable, "-c", hold]
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            wanted = "--from", "cs", "--vip", "203.0.113.10:80"
            flows = shown("show", "flows", *wanted, *options)[0]["data"]
            if flows:
                flow: dict[str, object] = flows[0]
                return flow
        raise AssertionError("no flow came")
    finally:
        holder.kill()
        holder.wait()


def shown(*arguments: str) -> list[dict[str, Any]]:
    """What a command says in JSON."""
    done = subprocess.run(
        [*COMMAND, *arguments, "--json"], capture_output=True, text=True, check=True, timeout=90
    )
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer
