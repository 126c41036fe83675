# SPDX-License-Identifier: Apache-2.0
"""`splitplane drill failover` as an operator runs it: what it finds, and how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitplane.lab import state
from splitplane.lab.namespaces import existing
from splitplane.lab.topology import prefix
from support.cluster.laboratory import require_laboratory
from support.processes import killed_after, line_of
from support.require import require

pytestmark = pytest.mark.network

NAME = f"drill{os.getpid() % 100_000}"
FOLDER = str(state.folder(NAME))


@pytest.fixture(autouse=True)
def _machine() -> Iterator[None]:
    require_laboratory()
    require("network", None if shutil.which("nft") else "not installed: nft")
    yield
    state.clean(NAME)


def drill(folder: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Its exit code, what it printed, and its result."""
    command = [sys.executable, "-m", "splitplane", "drill", "failover", "--name", NAME]
    command += ["--report", str(folder), "--rate", "30", "--settle", "4", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, cwd=folder
    )
    said = done.stdout + done.stderr
    assert (folder / "result.json").exists(), said
    assert existing(prefix(NAME)) == []
    assert mounts() == []
    return done.returncode, said, json.loads((folder / "result.json").read_text())


def mounts() -> list[str]:
    """What is mounted for a laboratory of this test."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(FOLDER)]


def test_a_drill_that_is_killed_leaves_nothing_that_cannot_be_taken_away(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "splitplane", "drill", "failover", "--name", NAME]
    command += ["--no-plots", "--report", str(tmp_path), "--scenario", "kill"]
    with killed_after(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as process:
        while "load:" not in line_of(process.stdout):
            assert process.poll() is None
    assert len(mounts()) == 3  # of the DFS and two CSs
    assert state.clean(NAME)
    assert mounts() == []
    assert existing(prefix(NAME)) == []
    assert not Path(FOLDER).exists()


def test_a_killed_cs_costs_a_pause_and_nothing_else(tmp_path: Path) -> None:
    code, said, result = drill(tmp_path, "--scenario", "kill", "--outage", "3", "--after", "2")
    assert code == 0, said
    assert result["passed"] is True
    ((one,),) = (scenario["rounds"] for scenario in result["scenarios"])
    assert (one["active_before"], one["active_after"]) == ("cs1", "cs2")
    found = one["measurement"]
    assert found["attempts"] == 2 * 135  # 15 per second for 9 s
    assert (found["broken"], found["wrong"], found["lost"]) == (0, 0, [])
    assert {kind: tally["broken"] for kind, tally in found["flows"].items()} == {
        "download": 0,
        "upload": 0,
        "idle": 0,
        "udp": 0,
    }
    assert all(tally["octets"] > 0 for tally in found["flows"].values())
    assert {"cs1", "cs2", "dfs"} == {change["segment"] for change in one["roles"]}
    assert "passed: nothing was lost" in said
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert (tmp_path / "kill-1.png").stat().st_size > 10_000
    assert len(list((tmp_path / "kill-1").glob("load-*.jsonl"))) == 2


def test_switch_overs_by_command_in_a_row_cost_nothing(tmp_path: Path) -> None:
    options = ("--scenario", "switchover", "--no-plots", "--outage", "1", "--after", "2")
    code, said, result = drill(tmp_path, *options, "--in-a-row", "3")
    assert code == 0, said
    ((one,),) = (scenario["rounds"] for scenario in result["scenarios"])
    active = [(each["active_before"], each["active_after"]) for each in one["failures"]]
    assert active == [("cs1", "cs2"), ("cs2", "cs1"), ("cs1", "cs2")]
    assert one["measurement"]["lost"] == []


def test_without_a_standby_new_connections_are_lost_and_the_drill_fails(tmp_path: Path) -> None:
    """The flows that are there go on; who comes meanwhile waits for longer than it wants to."""
    code, said, result = drill(
        tmp_path,
        *("--scenario", "kill", "--cs", "1", "--no-plots"),
        *("--timeout", "1", "--outage", "3", "--after", "2"),
    )
    assert code == 1, said
    assert result["passed"] is False
    ((one,),) = (scenario["rounds"] for scenario in result["scenarios"])
    assert one["measurement"]["broken"] > 0
    assert one["measurement"]["after"]["longest_gap_ms"] > 1000
    assert [problem for problem in one["problems"] if "new connections broken" in problem]
    assert [problem for problem in one["problems"] if "no other CS took over" in problem]
    assert {kind: tally["broken"] for kind, tally in one["measurement"]["flows"].items()} == {
        "download": 0,
        "upload": 0,
        "idle": 0,
        "udp": 0,
    }
    assert "FAILED" in said
    assert not list(tmp_path.glob("*.png"))


def test_what_cannot_be_carried_out_fails_too_and_says_why(tmp_path: Path) -> None:
    """A drill of nothing must not pass: here there is no standby that could take over."""
    code, said, result = drill(
        tmp_path,
        *("--scenario", "switchover", "--cs", "1", "--no-plots"),
        *("--outage", "0.5", "--after", "1.5"),
    )
    assert code == 1, said
    assert result["scenarios"][0]["rounds"] == []
    assert result["scenarios"][0]["errors"]
    assert "it could not be carried out: splitplane switchover: " in said
