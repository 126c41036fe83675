# SPDX-License-Identifier: Apache-2.0
"""A whole drill with --config: here the deployment is one node, reached without a load balancer."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from splitplane.drill.recording import Plan
from support.ports import free_port
from support.segments.drills import node


def drill(folder: Path, plan: Plan, fail: str, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Its exit code, what it printed, its result."""
    file = folder / "drill.yaml"
    ports = {"http_port": plan.http_port, "stream_port": plan.stream_port}
    load = {"addresses": list(plan.addresses), **ports, "udp_port": plan.udp_port}
    scenarios = {"mine": {"title": "of my own", "fail": fail, "active": "either"}}
    file.write_text(yaml.safe_dump({"load": load, "scenarios": scenarios}))
    command = [sys.executable, "-m", "splitplane", "drill", "failover", "--config", str(file)]
    command += ["--report", str(folder / "report"), "--no-plots", "--rate", "20"]
    command += ["--settle", "2", "--outage", "0.5", "--after", "1.5", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert (folder / "report/result.json").exists(), said
    return done.returncode, said, json.loads((folder / "report/result.json").read_text())


def plan() -> Plan:
    ports = (free_port(), free_port(), free_port())
    return Plan(
        addresses=("127.0.0.1",), http_port=ports[0], stream_port=ports[1], udp_port=ports[2]
    )


def test_a_failure_that_nobody_notices_passes(tmp_path: Path) -> None:
    there = plan()
    done = tmp_path / "done"
    with node(there):
        code, said, result = drill(tmp_path, there, f"touch {done}")
    assert code == 0, said
    assert done.exists()
    assert result["passed"] is True
    assert result["scenarios"][0]["title"] == "of my own"
    assert result["timings"] == "as deployed"


def test_failures_in_a_row_are_under_one_load(tmp_path: Path) -> None:
    there = plan()
    done = tmp_path / "done"
    with node(there):
        code, said, result = drill(tmp_path, there, f"echo >>{done}", "--in-a-row", "3")
    assert code == 0, said
    assert done.read_text() == "\n\n\n"
    (one,) = result["scenarios"][0]["rounds"]
    begun = [failure["at_ms"] for failure in one["failures"]]
    assert len(begun) == 3
    assert all(later - earlier >= 1900 for earlier, later in pairwise(begun))
    assert one["measurement"]["flows"]["download"]["flows"] == 8  # that lived through all three
    assert one["measurement"]["attempts"] == 20 * (2 + 3 * 2)
    assert "3 failures in a row: " in said


def test_a_node_that_the_command_kills_is_a_loss(tmp_path: Path) -> None:
    there = plan()
    with node(there) as process:
        code, said, result = drill(tmp_path, there, f"kill -9 {process.pid}")
    assert code == 1, said
    problems = result["scenarios"][0]["rounds"][0]["problems"]
    for what in ("new connections", "download flows", "upload flows", "idle flows", "udp flows"):
        assert [problem for problem in problems if f"{what} broken" in problem], problems


def test_a_command_that_fails_fails_the_drill(tmp_path: Path) -> None:
    there = plan()
    with node(there):
        code, said, result = drill(tmp_path, there, "echo no such host; exit 7")
    assert code == 1
    assert "it ended with 7: no such host" in said
    assert result["scenarios"][0]["rounds"] == []
