# SPDX-License-Identifier: Apache-2.0
"""Drills that were written by hand, as clients see a take-over; and a real node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from splitplane.drill.measure import measure
from splitplane.drill.recording import Attempt, LongFlow, Plan, Progress, Recording
from splitplane.drill.results import Drill, Played
from splitplane.drill.roles import SILENT, RoleChange
from splitplane.drill.runner import Done, Failure, Round
from support.processes import killed_after, line_of

ADDRESS = "203.0.113.10"
FAILURE_S = 100.0
BACK_S = 100.4  # the service


def attempt(due: float) -> Attempt:
    """One that waits while there is no service."""
    connected = max(due + 0.001, BACK_S) if due >= FAILURE_S else due + 0.001
    return Attempt(
        due_s=due,
        begun_s=due,
        connected_s=connected,
        ended_s=connected + 0.001,
        address=ADDRESS,
        server="server1",
    )


def recording() -> Recording:
    """Fifty new connections per second from 97 s to 103 s, and a download."""
    return Recording(
        started_s=97.0,
        under_way_s=97.5,
        ended_s=104.0,
        attempts=tuple(attempt(97 + number / 50) for number in range(300)),
        flows=(
            LongFlow(
                flow="download",
                number=0,
                address=ADDRESS,
                began_s=97.0,
                ended_s=103.0,
                octets=120_000,
                slowest_s=0.1,
                slowest_at_s=100.1,
            ),
        ),
        progress=(tuple(Progress(at_s=97 + step / 10, octets=2_000 * step) for step in range(60)),),
    )


def round_(recorded: Recording | None = None, problems: tuple[str, ...] = ()) -> Round:
    """The active CS was killed, and the other one took over."""
    recorded = recorded or recording()
    changes = (
        (96.0, "dfs", "obeys cs1"),
        (96.0, "cs1", "active"),
        (96.0, "cs2", "standby"),
        (100.1, "cs1", SILENT),
        (100.4, "cs2", "active"),
        (100.4, "dfs", "obeys cs2"),
    )
    found = measure(recorded, FAILURE_S)
    return Round(
        failures=(
            Failure(
                at_s=FAILURE_S,
                gap_ms=found.after.longest_gap_ms,
                ready_ms=None,
                active_before="cs1",
                active_after="cs2",
            ),
        ),
        done=(
            Done(at_s=100.0, says="kill -9 of the active CS"),
            Done(at_s=102.0, says="the killed CS is started again"),
        ),
        roles=tuple(RoleChange(at_s=at, segment=who, role=role) for at, who, role in changes),
        recording=recorded,
        measurement=found,
        problems=(*found.lost, *problems),
    )


def lossy_round() -> Round:
    """The same, but a new connection was refused in the gap."""
    whole = recording()
    refused = replace(
        whole.attempts[160], connected_s=None, outcome="broken", failure="<refused> & gone"
    )
    attempts = (*whole.attempts[:160], refused, *whole.attempts[161:])
    return round_(replace(whole, attempts=attempts))


def drill(*rounds: Round, errors: tuple[str, ...] = (), skipped: str = "") -> Drill:
    """A drill of one scenario."""
    played = Played("kill", "kill -9 of the active CS", "another", rounds, errors, skipped)
    return Drill(
        release="1.2.3",
        machine="Linux",
        deployment="laboratory",
        timings="default",
        plan=Plan(addresses=(ADDRESS,), stream_port=7, udp_port=53),
        loads=2,
        scenarios=(played,),
    )


@contextmanager
def node(plan: Plan, name: str = "node1") -> Iterator[subprocess.Popen[str]]:
    """The laboratory's server, on the plan's ports."""
    arguments = [sys.executable, "-m", "splitplane.lab.web", name]
    for option, port in (
        ("http", plan.http_port),
        ("stream", plan.stream_port),
        ("udp", plan.udp_port),
    ):
        arguments += [f"--{option}", str(port)]
    with killed_after(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)) as process:
        assert line_of(process.stdout) == "ready\n"
        yield process
