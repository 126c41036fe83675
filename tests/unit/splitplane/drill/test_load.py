# SPDX-License-Identifier: Apache-2.0
"""The load against the laboratory's real server, on the loopback: what it records is what was."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from splitplane.drill.flows import PAUSE_S, Idle, Schedule
from splitplane.drill.load import command
from splitplane.drill.recording import Plan, Recording
from support.ports import free_port
from support.segments.drills import node

PLAN = Plan(
    addresses=("127.0.0.1",),
    seconds=1.6,
    failure_s=0.5,
    rate=40,
    downloads=2,
    uploads=2,
    idle=2,
    udp_flows=2,
)


@pytest.fixture
def plan() -> Plan:
    return replace(PLAN, http_port=free_port(), stream_port=free_port(), udp_port=free_port())


def load(plan: Plan, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command(plan), stdout=out)


def test_everything_is_attempted_answered_and_compared(plan: Plan, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with node(plan):
        assert load(plan, log).wait(60) == 0
    recording = Recording.read(log)
    assert recording.under_way_s is not None
    assert recording.ended_s is not None
    assert [attempt for attempt in recording.attempts if attempt.outcome != "ok"] == []
    assert len(recording.attempts) == 64  # 40 per second, for 1.6 s
    assert {attempt.server for attempt in recording.attempts} == {"node1"}
    dues = [attempt.due_s - recording.started_s for attempt in recording.attempts]
    assert dues == pytest.approx([number / 40 for number in range(64)])
    assert [flow for flow in recording.flows if flow.outcome != "ok"] == []
    assert Counter(flow.flow for flow in recording.flows) == Counter(
        {"download": 2, "upload": 2, "idle": 2, "udp": 2}
    )
    for flow in recording.flows:
        assert flow.server == "node1"
        assert flow.octets > 0
        assert flow.ended_s >= recording.started_s + plan.seconds or flow.flow == "idle"


def test_a_node_that_dies_breaks_what_it_had(plan: Plan, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with node(plan) as process:
        child = load(plan, log)
        wait_until(log, "under_way")
        process.kill()
        assert child.wait(60) == 0
    recording = Recording.read(log)
    assert {flow.outcome for flow in recording.flows} == {"broken"}
    assert recording.attempts[0].outcome == "ok"
    refused = [attempt for attempt in recording.attempts if attempt.outcome == "broken"]
    assert refused[-1].connected_s is None
    assert "refused" in refused[-1].failure or "Connect call failed" in refused[-1].failure


def wait_until(log: Path, event: str) -> None:
    with subprocess.Popen(["tail", "-n", "+1", "-F", str(log)], stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        for line in tail.stdout:
            if f'"{event}"'.encode() in line:
                break
        tail.kill()


def test_a_server_that_accepts_and_says_nothing_breaks_attempts_at_their_limit(
    plan: Plan, tmp_path: Path
) -> None:
    """Open-loop: that the first attempts hang makes none of the later ones late."""
    plan = replace(plan, timeout_s=0.4, stream_port=0, udp_port=0, uploads=0, idle=0)
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", plan.http_port), backlog=1000):
        assert load(plan, log).wait(60) == 0
    recording = Recording.read(log)
    assert len(recording.attempts) == 64
    for attempt in recording.attempts:
        assert attempt.failure == "timed out after 0.4 s, waiting for the answer"
        assert attempt.ended_s - attempt.due_s >= plan.timeout_s


def test_other_octets_are_wrong_and_not_merely_broken(plan: Plan, tmp_path: Path) -> None:
    plan = replace(plan, stream_port=0, udp_port=0, uploads=0, idle=0)
    log = tmp_path / "log"
    head = f"HTTP/1.1 200 OK\r\nServer: node1\r\nContent-Length: {plan.request_octets}\r\n\r\n"
    answer = head.encode() + b"\xff" * plan.request_octets

    def serve(listening: socket.socket) -> None:
        for _ in range(64):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", plan.http_port), backlog=1000) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        assert load(plan, log).wait(60) == 0
        thread.join()
    assert {attempt.outcome for attempt in Recording.read(log).attempts} == {"wrong"}


def test_a_plan_that_cannot_be_carried_out_is_refused_in_one_line() -> None:
    for text, said in (
        ("{}", "addresses"),
        ('{"addresses": ["nowhere"]}', "not IPv4 or IPv6 addresses: nowhere"),
        ('{"addresses": ["::1"], "failure_s": 30}', "must come within"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "splitplane.drill.load", text],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_idle_connections_of_a_long_load_are_silent_for_a_minute_at_most() -> None:
    plan = Plan(addresses=("127.0.0.1",), seconds=354, failure_s=4, idle=8)
    for number in range(plan.idle):
        words = list(Idle(Schedule(plan, 1000.0), number).speaks_at())
        assert 1004 < words[0] < 1064
        assert words[-1] < 1353
        assert all(later - earlier == PAUSE_S for earlier, later in pairwise(words))
        assert 1353 - words[-1] <= PAUSE_S


def test_idle_connections_of_a_short_load_speak_once_after_the_failure() -> None:
    plan = Plan(addresses=("127.0.0.1",), seconds=14, failure_s=4, idle=4)
    words = [list(Idle(Schedule(plan, 0.0), number).speaks_at()) for number in range(4)]
    assert words == [[5.125], [7.375], [9.625], [11.875]]
