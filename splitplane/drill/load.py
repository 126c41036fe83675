# SPDX-License-Identifier: Apache-2.0
"""A load that records what became of every connection, to be read afterwards.

It runs as a process of its own in a client's network namespace, and writes JSON lines:

    plan = Plan(addresses=("203.0.113.10",), stream_port=7, udp_port=53, seconds=20, failure_s=5)
    with log.open("wb") as out:
        child = subprocess.Popen([*inside_the_namespace, *command(plan)], stdout=out)
    ...                                   # the failure, at Started.at_s + plan.failure_s
    child.wait()
    recording = Recording.read(log)       # of one process, or of several: read(log1, log2)

`recording.py` has the types; the first line is Started, the last one Ended.  The nodes run
`splitplane.lab.web` (--http, --stream, --udp), so that every octet is known; what is between the
load and them may be any load balancer.

New connections are open-loop: attempt number n is due at start + n / rate, whatever became of those
before, and all times count from when it was due.  Each connects, requests some octets, compares
them, and ends.  No attempt is made twice; TCP's own repeats of a SYN happen, and cost a second.

Long flows begin at the start and are to be under way before `failure_s`:

* download: the node speaks first and sends until the end of the load; the client says nothing.
* upload: octets at a rate until the end; the node answers with their number and SHA-256.
* idle: one request, then silence; some time after the failure (spread over the rest of the load, at
  most a minute) the client asks again on half of them, and the node answers a request from before
  on the others.  In a long load that goes on, with a minute's silence each time.
* udp: numbered datagrams at a rate; each must come back once, with its octets, from one node.
  The first one is repeated every 2 s until it is answered, as UDP leaves to its clients.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from splitplane.drill.datagrams import Datagrams
from splitplane.drill.flows import Download, Flow, Idle, Schedule, Upload, connected
from splitplane.drill.recording import (
    Attempt,
    Ended,
    Event,
    Plan,
    Progress,
    Started,
    UnderWay,
    plan_from_json,
    plan_to_json,
    to_line,
)
from splitplane.lab.responses import WrongOctets, read_head, read_pattern

_PROGRESS_S: Final = 0.1


def flows_of(schedule: Schedule) -> list[Flow]:
    """The long flows of a plan, not yet begun."""
    plan = schedule.plan
    kinds: tuple[tuple[type[Flow], int, int], ...] = (
        (Download, plan.stream_port, plan.downloads),
        (Upload, plan.http_port, plan.uploads),
        (Idle, plan.http_port, plan.idle),
        (Datagrams, plan.udp_port, plan.udp_flows),
    )
    return [
        kind(schedule, number) for kind, port, count in kinds if port for number in range(count)
    ]


def command(plan: Plan, python: str = sys.executable) -> list[str]:
    """The argument vector that carries out *plan* and writes its events to standard output."""
    return [python, "-m", "splitplane.drill.load", plan_to_json(plan)]


class Load:
    """One load, in a running event loop; a signal that ends the process ends it too."""

    def __init__(self, plan: Plan, emit: Callable[[Event], None]) -> None:
        self._plan = plan
        self._emit = emit

    async def run(self) -> None:
        """Carry out the plan; returns once everything has ended and is recorded."""
        schedule = Schedule(self._plan, time.monotonic())
        self._emit(Started(at_s=schedule.started_s))
        flows = flows_of(schedule)
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(self._wait_until_under_way(flows)),
                tasks.create_task(self._progress(flows)),
            ]
            async with asyncio.TaskGroup() as work:
                for flow in flows:
                    work.create_task(self._flow(flow))
                work.create_task(self._attempts(schedule))
            for task in watching:
                task.cancel()
        self._emit(Ended(at_s=time.monotonic()))

    async def _attempts(self, schedule: Schedule) -> None:
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while (due := schedule.started_s + number / self._plan.rate) < schedule.end_s:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                address = self._plan.addresses[number % len(self._plan.addresses)]
                tasks.create_task(self._attempt(due, address))
                number += 1

    async def _attempt(self, due: float, address: str) -> None:
        begun = time.monotonic()
        seen: dict[str, Any] = {"connected_s": None}
        try:
            async with asyncio.timeout_at(due + self._plan.timeout_s):
                await self._request(address, seen)
        except WrongOctets as error:
            seen |= {"outcome": "wrong", "failure": str(error)}
        except (OSError, EOFError, ValueError, KeyError) as error:
            doing = "waiting for the answer" if seen["connected_s"] else "connecting"
            # TimeoutError of the plan's limit says nothing; the kernel's does
            said = str(error) or f"timed out after {self._plan.timeout_s:g} s"
            seen |= {"outcome": "broken", "failure": f"{said}, {doing}"}
        self._emit(
            Attempt(due_s=due, begun_s=begun, ended_s=time.monotonic(), address=address, **seen)
        )

    async def _request(self, address: str, seen: dict[str, Any]) -> None:
        size = self._plan.request_octets
        async with connected(address, self._plan.http_port) as (reader, writer):
            seen["connected_s"] = time.monotonic()
            request = f"GET /bytes/{size} HTTP/1.1\r\nHost: drill\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = await read_head(reader)
            seen["server"] = head["Server"]
            await read_pattern(reader, size)

    async def _flow(self, flow: Flow) -> None:
        await flow.run()  # its failure is in its record, and the others go on
        self._emit(flow.record())

    async def _wait_until_under_way(self, flows: list[Flow]) -> None:
        for flow in flows:
            await flow.under_way.wait()
        self._emit(UnderWay(at_s=time.monotonic(), flows=len(flows)))

    async def _progress(self, flows: list[Flow]) -> None:
        while True:
            octets = sum(flow.octets for flow in flows)
            self._emit(Progress(at_s=time.monotonic(), octets=octets))
            await asyncio.sleep(_PROGRESS_S)


def writing(out: TextIO) -> Callable[[Event], None]:
    """Events become lines there, at once: what a killed load saw is not lost."""

    def emit(event: Event) -> None:
        out.write(to_line(event) + "\n")
        out.flush()

    return emit


def main() -> None:
    """The command line: one argument, the plan."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m splitplane.drill.load PLAN (JSON, see splitplane.drill.load)")
    try:
        plan = plan_from_json(sys.argv[1])
        for address in plan.addresses:
            socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)
    except ValueError as error:
        sys.exit(f"splitplane.drill.load: {error}")
    except OSError:
        sys.exit(f"splitplane.drill.load: not IPv4 or IPv6 addresses: {', '.join(plan.addresses)}")
    asyncio.run(Load(plan, writing(sys.stdout)).run())


if __name__ == "__main__":
    main()
