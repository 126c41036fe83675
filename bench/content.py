# SPDX-License-Identifier: Apache-2.0
"""Content-aware virtual servers compared with HTTP proxies, in one run on one machine.

    sudo python bench/content.py [--seconds 5] [--rounds 3] [--only splitplane,haproxy] [--json FILE]

The network and the way of measuring are those of bench/compare.py.  Every device makes the same decision, a
host and the beginning of a path that choose one of two pools, before the request reaches a node: HAProxy
and nginx in HTTP mode with connections to the nodes that they keep, and splitplane with `kind: http`.  Beside
them are what does not decide: plain routing, and a plain virtual server of the same DFS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from compare import TRIES, Clients, connecting
from content_middles import (
    CONTENT,
    DO_NOT_DECIDE,
    HOST,
    LARGE,
    PLAIN_PORT,
    PREFIX,
    SMALL,
    VARIANTS,
    middles,
)
from middles import Middle, Running
from natives import compiled
from processor_time import spent, take, ticks_per_s
from report import Figures, notes, slept, table
from topology import CLIENT, SERVER, SERVER_PORT, need, process, run, topology, wait_for_http

OBJECT_OCTETS = 10_000_000
AT_ONCE = 8  # large objects
FIRST_COUNT = 500
PAIRS = 3
START_S = 60  # on a machine with other work
NGINX_SERVER = """
worker_processes 1; pid {scratch}/server.pid; error_log {scratch}/server.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 65; keepalive_requests 1000000; sendfile on; tcp_nopush on;
  open_file_cache max=10;
  server {{ listen {port} backlog=8192 reuseport;
    location {prefix} {{ alias {scratch}/files/; }}
    location = {small} {{ return 200 $server_addr; }}
    location / {{ return 200 $server_addr; }} }} }}
daemon off;
"""
# connect(), and until the first octet of an answer has come, of one connection at a time
FIRST = """
import socket, sys, time
host, port, request, count = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
for _ in range(count):
    with socket.socket() as s:
        s.settimeout(10)
        try:
            begin = time.perf_counter_ns(); s.connect((host, port)); s.sendall(request)
            print(time.perf_counter_ns() - begin if s.recv(1) else "-")
            while s.recv(4096): pass
        except OSError: print("-")
    time.sleep(0.002)
"""
COLUMNS_HERE = {
    "10 MB objects Gbit/s": ("gbit_per_s", ".1f"),
    "of HAProxy": ("gbit_per_s/haproxy", ".2f"),
    "of routing": ("gbit_per_s/routing", ".2f"),
    "Gbit per processor second": ("gbit_per_processor_s", ".1f"),
    "of HAProxy's": ("gbit_per_processor_s/haproxy", ".2f"),
    "of routing's": ("gbit_per_processor_s/routing", ".2f"),
    "one connection of plain": ("of_plain", ".2f"),
    "by processor time": ("of_plain_by_processor", ".2f"),
    "requests/s": ("connections_per_s", ",.0f"),
    "requests of HAProxy": ("connections_per_s/haproxy", ".2f"),
    "connect() median us": ("setup_us", ",.0f"),
    "its 99th": ("setup_p99_us", ",.0f"),
    "first octet median us": ("first_us", ",.0f"),
    "its 99th us": ("first_p99_us", ",.0f"),
    "processor us per connection": ("processor_us", ".1f"),
    "that of HAProxy's": ("processor_us/haproxy", ".2f"),
    "agent us": ("agent_us", ".1f"),
    "CS us": ("cs_us", ".1f"),
    "proxy us": ("proxy_us", ".1f"),
    "softirq us": ("softirq_us", ".1f"),
    "by the agent": ("by_agent", ".0%"),
}


@dataclass(frozen=True, slots=True)
class Content(Figures):
    """The figures of compare.py, and what is of requests alone."""

    gbit_per_processor_s: float | None = None  # of the benchmark and the kernel
    of_plain: float | None = None  # one connection, spliced, by one of the plain virtual server
    of_plain_by_processor: float | None = None
    first_us: float | None = None  # from the beginning of connect() to the answer's first octet
    first_p99_us: float | None = None
    by_agent: float | None = None  # share of the connections that the agent took (the general way)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Objects that were asked for one after the other, on some connections at once."""

    gbit_per_s: float  # of bodies
    gbit_per_processor_s: float
    failed: int  # exchanges


def transfer(scratch: Path, running: Running, seconds: float, at_once: int, ends: str) -> Transfer:
    before = take()
    out = run(str(scratch / "objects"), running.address, str(running.port), HOST, LARGE, str(seconds),
              str(at_once), ends, namespace=CLIENT)  # fmt: skip
    took = spent(before, take(), bench=os.getpid(), parts={}, ticks_per_s=ticks_per_s())
    _, octets, clock_s, failed = out.split()
    gbit = int(octets) * 8 / 1e9
    return Transfer(gbit / float(clock_s), gbit / took.bench, int(failed))


def against_plain(
    scratch: Path, running: Running, seconds: float
) -> tuple[float | None, float | None, int]:
    """One spliced connection by one of the plain virtual server of the same DFS, in turn, because the
    machine is another one every second: medians of the ratios, by the clock and by processor time,
    and how many exchanges failed."""
    ratios, failed = [], 0
    for _ in range(PAIRS):
        spliced = transfer(scratch, running, seconds, 1, "keep")
        plain = transfer(scratch, replace(running, port=PLAIN_PORT), seconds, 1, "keep")
        failed += spliced.failed + plain.failed
        if not spliced.gbit_per_s or not plain.gbit_per_s:
            continue
        ratios.append(
            (
                spliced.gbit_per_s / plain.gbit_per_s,
                spliced.gbit_per_processor_s / plain.gbit_per_processor_s,
            )
        )
    if not ratios:
        return None, None, failed
    by_clock, by_processor = zip(*ratios, strict=True)
    return statistics.median(by_clock), statistics.median(by_processor), failed


def first_us(running: Running) -> tuple[list[float], int]:
    """Ascending, and how many had no answer."""
    request = f"GET {SMALL} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    out = run(sys.executable, "-c", FIRST, running.address, str(running.port), request, str(FIRST_COUNT),
              namespace=CLIENT).split()  # fmt: skip
    took = sorted(int(line) / 1000 for line in out if line != "-")
    if not took:
        raise SystemExit("no request was answered")
    return took, len(out) - len(took)


def check_decisions(name: str, running: Running) -> None:
    """That both requests reach the pool that is meant for them."""
    if name in DO_NOT_DECIDE:
        return
    pages, images = CONTENT.addresses
    url = f"http://{running.address}:{running.port}"
    for host, path, wanted in ((HOST, SMALL, images), (HOST, "/", pages), ("www", SMALL, pages)):
        got = run("curl", "-s", "-m", "5", "-H", f"Host: {host}", url + path, namespace=CLIENT)
        if got != wanted:
            raise SystemExit(f"{name}: {host} {path} was answered by {got}, not {wanted}")


def measure(name: str, middle: Middle, scratch: Path, options: argparse.Namespace) -> Content:
    clients = Clients(CONTENT, scratch, path=SMALL, host=HOST)
    with middle(scratch, CONTENT) as running:
        wait_for_http(running.address, running.port, namespace=CLIENT, log=scratch / "middle.log",
                      seconds=START_S)  # fmt: skip
        check_decisions(name, running)
        for _ in range(TRIES):
            before = running.counters()
            figures = Content(**asdict(connecting(running, clients, options.seconds)))
            after = running.counters()
            if not slept(name, figures):
                break
            print(f"    {name}: both processors slept; again", file=sys.stderr)
        first, unanswered = first_us(running)
        time.sleep(1)
        objects = transfer(scratch, running, options.seconds, AT_ONCE, "close")
        by_clock, by_processor, failed = None, None, 0
        if name in VARIANTS:
            by_clock, by_processor, failed = against_plain(scratch, running, options.seconds / 2)
    return replace(
        figures,
        failed=figures.failed + unanswered + objects.failed + failed,
        first_us=first[len(first) // 2], first_p99_us=first[len(first) * 99 // 100],
        gbit_per_s=objects.gbit_per_s, gbit_per_processor_s=objects.gbit_per_processor_s,
        of_plain=by_clock, of_plain_by_processor=by_processor,
        by_agent=None if name in DO_NOT_DECIDE else by_agent(before, after),
    )  # fmt: skip


def by_agent(before: Mapping[str, int], after: Mapping[str, int]) -> float | None:
    """What of the connections that were answered by cookie and had data the agent took; None: no counters."""
    made = after.get("APP_QUERY received by the CS", 0) - before.get(
        "APP_QUERY received by the CS", 0
    )
    taken = after.get("proxied_connections", 0) - before.get("proxied_connections", 0)
    return min(1.0, taken / made) if made else None


@contextmanager
def server(scratch: Path) -> Iterator[None]:
    """nginx in the server's namespace."""
    folder = scratch / "files"
    folder.mkdir()
    (folder / LARGE.removeprefix(PREFIX)).write_bytes(os.urandom(OBJECT_OCTETS))
    for path in (scratch, folder):
        path.chmod(0o755)  # nginx's worker is not root
    config = NGINX_SERVER.format(scratch=scratch, port=SERVER_PORT, prefix=PREFIX, small=SMALL)
    (scratch / "server.conf").write_text(config)
    # what one device left in TIME-WAIT would meet the next one's connections from the same port
    run("sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0", namespace=SERVER)
    with process("nginx", "-c", str(scratch / "server.conf"), namespace=SERVER,
                 log=scratch / "server.log"):  # fmt: skip
        yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(middles()))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := set(options.only) - set(middles()):
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(middles())}")
    return options


def report(results: Mapping[str, Sequence[Content]], rounds: int) -> None:
    print(f"\nkernel {platform.release()}, {os.cpu_count()} cores, medians of {rounds};"
          f" load average {os.getloadavg()[2]:.1f}\n")  # fmt: skip
    print(*table(results, {}, COLUMNS_HERE), "", *notes(results, {}), sep="\n")


def main() -> None:
    options = arguments()
    need("wrk", "nginx", "haproxy", "curl", "clang")
    results: dict[str, list[Content]] = {name: [] for name in options.only}
    with topology() as scratch:
        compiled("objects.c", scratch, "-pthread")
        with server(scratch):
            for round_number in range(options.rounds):
                for name, rounds in results.items():
                    rounds.append(measure(name, middles()[name], scratch, options))
                    print(f"round {round_number + 1} {name}: {rounds[-1]}", file=sys.stderr)
    report(results, options.rounds)
    if options.json:
        rows = {name: [asdict(it) for it in rounds] for name, rounds in results.items()}
        options.json.write_text(json.dumps({"machine": platform.uname()._asdict(), "rows": rows}))


if __name__ == "__main__":
    try:
        main()
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{error.cmd}: did not end in {error.timeout:.0f} s")
