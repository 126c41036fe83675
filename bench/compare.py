# SPDX-License-Identifier: Apache-2.0
"""New connections and throughput compared with other load balancers, in one run on one machine.

    sudo python bench/compare.py [--seconds 5] [--rounds 3] [--only splitplane,routing] [--json FILE]
                                 [--scenario plain] [--connections-only]

One client, one device under test (the "middle"), one server, each in its own network namespace.  The
middle is in turn plain kernel routing, nftables DNAT, HAProxy in TCP mode, nginx stream, and splitplane
with a decision of the CS for every connection.  Every round measures all of them one after the other, so
that the machine's noise affects all of them; the table shows medians and ratios.  Throughput is measured
in the scenario `plain` only.  Load goes only to addresses inside these namespaces, for the given seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from middles import DISCARD_PORT, IPERF_PORT, Middle, Running, left_out, middles
from natives import compiled, fill
from processor_time import spent, take, ticks_per_s
from report import Figures, notes, slept, table
from scenarios import SCENARIOS, Scenario
from topology import (
    CLIENT,
    SERVER,
    SERVER_PORT,
    bracketed,
    need,
    process,
    run,
    topology,
    wait_for_http,
)

NGINX_SERVER = """
worker_processes 1; pid {scratch}/server.pid; error_log {scratch}/server.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 65; keepalive_requests 1000000;
  server {{ listen {port} backlog=8192 reuseport; listen [::]:{port} backlog=8192 reuseport;
    location / {{ return 200 "x"; }} }} }}
daemon off;
"""
# nobody answers the datagrams that fill a table, not even with an error
DISCARD = f"table inet bench {{ chain in {{ type filter hook input priority 0; udp dport {DISCARD_PORT} drop; }}; }}"
TRIES = 3  # of a measurement during which the processors slept


def throughput(address: str, seconds: int, *extra: str) -> float:
    out = run("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J", *extra,
              namespace=CLIENT, check=False)  # fmt: skip
    end = json.loads(out)["end"]
    return float(end["sum_received"]["bits_per_second"]) / 1e9


def packets(address: str, seconds: int) -> float:
    """UDP datagrams of 64 octets that arrive each second."""
    out = run("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J", "-u",
              "-l", "64", "-b", "0", namespace=CLIENT, check=False)  # fmt: skip
    sums = json.loads(out)["end"]["sum_received"]
    return float(sums["packets"] - sums["lost_packets"]) / float(sums["seconds"])


class Clients:
    """What opens connections, each from another address where the scenario wants many clients."""

    def __init__(
        self, scenario: Scenario, scratch: Path, *, path: str = "/", host: str = ""
    ) -> None:
        self._scratch = scratch
        self._many = scenario.persistence
        self._used = 0
        self._path = path
        self._headers = ["-H", f"Host: {host}"] if host else []

    def _run(self, *command: str) -> str:
        if not self._many:
            return run(*command, namespace=CLIENT)
        library = self._scratch / "bind_clients"
        return run("env", f"LD_PRELOAD={library}", f"BIND_CLIENTS_FROM={self._used}", *command,
                   namespace=CLIENT)  # fmt: skip

    def connections(self, address: str, port: int, seconds: int) -> tuple[int, int, float]:
        """How many were made, how many failed, and the rate."""
        out = self._run("wrk", "-t2", "-c64", f"-d{seconds}s", "-H", "Connection: close",
                        *self._headers, f"http://{bracketed(address)}:{port}{self._path}")  # fmt: skip
        made = re.search(r"(\d+) requests in", out)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
        errors = re.search(
            r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out
        )
        if made is None or rate is None:
            raise SystemExit(f"wrk said: {out}")
        failed = sum(map(int, errors.groups())) if errors else 0
        self._used += int(made[1]) + failed
        return int(made[1]), failed, float(rate[1])

    def setup_us(self, address: str, port: int, count: int = 1000) -> list[float]:
        """How long connect() takes, one at a time, ascending."""
        out = self._run(sys.executable, "-c", CONNECT, address, str(port), str(count))
        self._used += count
        return sorted(int(line) / 1000 for line in out.split())


CONNECT = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
for _ in range(count):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    begin = time.perf_counter_ns(); s.connect((host, port)); print(time.perf_counter_ns() - begin); s.close()
    time.sleep(0.002)
"""


def connecting(running: Running, clients: Clients, seconds: int) -> Figures:
    """New connections, one at a time and as many as go."""
    setup = clients.setup_us(running.address, running.port)
    before = take()
    made, failed, rate = clients.connections(running.address, running.port, seconds)
    took = spent(before, take(), bench=os.getpid(), parts=running.parts, ticks_per_s=ticks_per_s())
    total = took.bench + took.foreign + took.idle

    def each(seconds_of: float) -> float:
        return seconds_of * 1e6 / made if made else 0.0

    parts = {f"{name.lower()}_us": each(part) for name, part in took.parts.items()}
    parts["softirq_us"] = each(took.softirq)
    return Figures(
        rate, failed, statistics.median(setup), setup[len(setup) * 99 // 100], each(took.bench),
        took.foreign_share, took.idle / total, **parts,
    )  # fmt: skip


def measure(
    name: str, middle: Middle, scenario: Scenario, scratch: Path, options: argparse.Namespace
) -> Figures:
    clients = Clients(scenario, scratch)
    with middle(scratch, scenario) as running:
        wait_for_http(running.address, running.port, namespace=CLIENT, log=scratch / "middle.log")
        if scenario.other_flows and running.flow_count:
            fill(scratch / "generator", running.address, DISCARD_PORT, scenario.other_flows,
                 running.flow_count)  # fmt: skip
        for _ in range(TRIES):
            figures = connecting(running, clients, options.seconds)
            if not slept(name, figures):
                break
            print(f"    {name}: both processors slept; again", file=sys.stderr)
        if options.connections_only or scenario is not SCENARIOS["plain"]:
            return figures
        time.sleep(1)
        address, seconds = running.address, options.seconds
        return replace(
            figures,
            gbit_per_s=throughput(address, seconds),
            gbit_per_s_down=throughput(address, seconds, "-R"),
            packets_per_s=None if name == "haproxy" else packets(address, seconds),
        )


@contextmanager
def server(scratch: Path) -> Iterator[None]:
    """nginx and iperf3 in the server's namespace."""
    config = NGINX_SERVER.format(scratch=scratch, port=SERVER_PORT)
    (scratch / "server.conf").write_text(config)
    run("nft", DISCARD, namespace=SERVER)
    with (
        process("nginx", "-c", str(scratch / "server.conf"), namespace=SERVER,
                log=scratch / "server.log"),
        process("iperf3", "-s", "-p", str(IPERF_PORT), namespace=SERVER,
                log=scratch / "iperf.log"),
    ):  # fmt: skip
        yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(middles("auto")))
    parser.add_argument("--scenario", default="plain", choices=SCENARIOS)
    parser.add_argument("--connections-only", action="store_true", help="no throughput")
    parser.add_argument("--attach", default="auto", choices=("auto", "tc", "xdp"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",")]
    known = middles(options.attach)
    unknown = set(options.only) - set(known)
    if unknown:
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def main() -> None:
    options = arguments()
    need("wrk", "iperf3", "nginx", "haproxy", "nft", "curl", "clang")
    scenario, known = SCENARIOS[options.scenario], middles(options.attach)
    missing = {name: why for name in options.only if (why := left_out(name, scenario))}
    results: dict[str, list[Figures]] = {n: [] for n in options.only if n not in missing}
    with topology() as scratch:
        compiled("generator.c", scratch)
        compiled("bind_clients.c", scratch, "-shared", "-fPIC")
        with server(scratch):
            for round_number in range(options.rounds):
                for name, rounds in results.items():
                    rounds.append(measure(name, known[name], scenario, scratch, options))
                    print(f"round {round_number + 1} {name}: {rounds[-1]}", file=sys.stderr)
    print(f"\nkernel {platform.release()}, {os.cpu_count()} cores, medians of {options.rounds};"
          f" {options.scenario}: {scenario.meaning}\n")  # fmt: skip
    print(*table(results, missing), "", *notes(results, missing), sep="\n")
    if options.json:
        rows = {n: [asdict(f) for f in fs] for n, fs in results.items()}
        machine = platform.uname()._asdict()
        options.json.write_text(
            json.dumps({"machine": machine, "scenario": options.scenario, "rows": rows})
        )


if __name__ == "__main__":
    try:
        main()
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{error.cmd}: did not end in {error.timeout:.0f} s")
