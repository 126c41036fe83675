# SPDX-License-Identifier: Apache-2.0
"""How long a dead node still gets new connections: splitplane's monitors and HAProxy's checks, in one run.

    sudo python bench/health.py [--rounds 10] [--interval-ms 500] [--fall 3] [--timeout-ms 200] [--json FILE]

One laboratory with three nodes and two CSs' worth of space: splitplane serves its virtual address, and
HAProxy runs beside the CS, with the same nodes and the same settings.  In every round one node dies once,
at a random moment, for both; a client opens a connection to each every 10 ms.  What counts is when the last
connection began that the dead node got.  A node dies in two ways: its server is killed (it refuses), or its
link goes down (it is silent).  The bound: interval x fall, and 100 ms; a silent node is known to fail only
after the time-out of the last probe.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from admin.answers import NODES
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import HTTP_PORT, SERVER_HTTP_PORT, VIRTUAL_ADDRESS

EVERY_S = 0.01  # a connection to each
PATIENCE_S = 2.0  # of a client
AFTER_S = 1.5  # without a failure, the dead node gets nothing more
SLACK_MS = 100
HAPROXY_PORT = 8081
HAPROXY = """
global
  maxconn 4000
  stats socket {folder}/haproxy.sock
defaults
  mode tcp
  retries 0
  timeout connect {timeout}ms
  timeout check {timeout}ms
  timeout client 10s
  timeout server 10s
listen web
  bind :{port}
  balance roundrobin
  default-server check inter {interval}ms fall {fall} rise 2
{servers}
"""


@dataclass(frozen=True, slots=True)
class Death:
    """One node's, as each balancer met it."""

    way: str  # refuses, silent
    balancer: str
    last_ms: float  # after the death, the last connection began that the dead node got
    failed: int  # connections that it got


class Clients:
    """Connections at an even rate, and when those began that failed."""

    def __init__(self, lab: Lab, address: str, port: int) -> None:
        self.failed: list[float] = []
        self.made = 0
        self._lab = lab
        self._target = address, port

    async def run(self, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not stopping.is_set():
                tasks.create_task(self._one())
                await asyncio.sleep(EVERY_S)

    async def _one(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                answered = await self._ask()
        except (OSError, TimeoutError):
            answered = False
        if answered:
            self.made += 1
        else:
            self.failed.append(began)

    async def _ask(self) -> bool:
        loop = asyncio.get_running_loop()
        with self._lab.socket("client1", socket.AF_INET) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._target)
            await loop.sock_sendall(sock, b"GET /name HTTP/1.1\r\nHost: www\r\n\r\n")
            return bool(await loop.sock_recv(sock, 4096))


@contextmanager
def haproxy(lab: Lab, choices: argparse.Namespace) -> Iterator[None]:
    servers = "\n".join(
        f"  server {host.name} {host.address}:{SERVER_HTTP_PORT}"
        for host in lab.topology.of("server")
    )
    config = lab.folder / "haproxy.cfg"
    config.write_text(
        HAPROXY.format(folder=lab.folder, port=HAPROXY_PORT, servers=servers, interval=choices.interval_ms,
                       fall=choices.fall, timeout=choices.timeout_ms)
    )  # fmt: skip
    command = lab.namespaces["cs1"].command("haproxy", "-db", "-f", str(config))
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("HAProxy", lambda: "server1" in haproxy_says(lab))
        yield
    finally:
        running.terminate()
        running.wait()


def haproxy_says(lab: Lab) -> dict[str, str]:
    """The status of each node."""
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.connect(str(lab.folder / "haproxy.sock"))
        sock.sendall(b"show stat\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.startswith("web,")]
        return {row[1]: row[17] for row in rows}
    return {}


def are_all_up(lab: Lab) -> bool:
    nodes = [node for node in lab.admin("cs1", NODES) if node.pool == "web"]
    theirs = haproxy_says(lab)
    return all(node.health == "up" and theirs.get(node.name) == "UP" for node in nodes)


async def one_death(lab: Lab, way: str, node: str) -> list[Death]:
    by_name = {
        "splitplane": Clients(lab, VIRTUAL_ADDRESS, HTTP_PORT),
        "HAProxy": Clients(lab, lab.host("cs1").address, HAPROXY_PORT),
    }
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for clients in by_name.values():
            tasks.create_task(clients.run(stopping))
        await asyncio.sleep(0.3 + random.random())
        died = time.monotonic()
        if way == "refuses":
            lab.process(node).kill9()
        else:
            lab.run("dfs", "ip", "link", "set", node, "down")
        while True:
            await asyncio.sleep(0.1)
            latest = max([died, *(time_ for each in by_name.values() for time_ in each.failed)])
            if time.monotonic() - latest > AFTER_S + PATIENCE_S:
                break
        stopping.set()
    found = []
    for balancer, clients in by_name.items():
        since = [(began - died) * 1000 for began in clients.failed if began >= died]
        found.append(Death(way, balancer, max(since, default=0.0), len(since)))
    return found


def revive(lab: Lab, way: str, node: str) -> None:
    if way == "refuses":
        lab.start_server(node)
    else:
        lab.run("dfs", "ip", "link", "set", node, "up")
    wait_for("every node to be up", lambda: are_all_up(lab))


def measure(choices: argparse.Namespace) -> list[Death]:
    lab = Lab(f"hb{os.getpid() % 100_000}", clients=1, servers=3, ipv6=False)
    config = lab.cs_configs["cs1"]
    config["monitors"] = [
        {"name": "tcp", "kind": "tcp", "interval_ms": choices.interval_ms, "fall": choices.fall,
         "rise": 2, "timeout_ms": choices.timeout_ms}
    ]  # fmt: skip
    for pool in config["pools"]:
        pool["monitors"] = ["tcp"] if pool["name"] == "web" else []
    deaths: list[Death] = []
    with lab, haproxy(lab, choices):
        wait_for("every node to be up", lambda: are_all_up(lab))
        for number in range(choices.rounds):
            for way in ("refuses", "silent"):
                node = f"server{number % 3 + 1}"
                found = asyncio.run(one_death(lab, way, node))
                deaths += found
                print(", ".join(f"{each.balancer} {each.last_ms:.0f} ms" for each in found), way,
                      file=sys.stderr)  # fmt: skip
                revive(lab, way, node)
    return deaths


def show(deaths: list[Death], choices: argparse.Namespace) -> None:
    bound = choices.interval_ms * choices.fall + SLACK_MS
    print("| the dead node | | median ms | worst ms | bound ms | rounds within | connections that it got, median |\n"
          "| --- | --- | ---: | ---: | ---: | ---: | ---: |")  # fmt: skip
    for way in ("refuses", "silent"):
        limit = bound + (choices.timeout_ms if way == "silent" else 0)
        for balancer in ("splitplane", "HAProxy"):
            chosen = [each for each in deaths if (each.way, each.balancer) == (way, balancer)]
            times = [each.last_ms for each in chosen]
            within = sum(value <= limit for value in times)
            failed = statistics.median(each.failed for each in chosen)
            print(f"| {way} | {balancer} | {statistics.median(times):.0f} | {max(times):.0f} | {limit} |"
                  f" {within} of {len(times)} | {failed:.0f} |")  # fmt: skip
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--interval-ms", type=int, default=500)
    parser.add_argument("--fall", type=int, default=3)
    parser.add_argument("--timeout-ms", type=int, default=200)
    parser.add_argument("--json", type=Path)
    choices = parser.parse_args()
    if shutil.which("haproxy") is None:
        raise SystemExit("HAProxy is not installed: apt install haproxy")
    deaths = measure(choices)
    show(deaths, choices)
    if choices.json is not None:
        choices.json.write_text(json.dumps([asdict(each) for each in deaths]))


if __name__ == "__main__":
    main()
