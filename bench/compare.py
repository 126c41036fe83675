# SPDX-License-Identifier: Apache-2.0
"""Throughput and new connections compared with other load balancers, in one run on one machine.

    sudo python bench/compare.py [--seconds 5] [--rounds 3] [--only splitplane,routing] [--json FILE]

One client, one device under test (the "middle"), one server, each in its own network namespace.  The
middle is in turn plain kernel routing, nftables DNAT, HAProxy in TCP mode, nginx stream, and splitplane
with a QUERY to the CS for every connection.  Every round measures all of them one after the other, so
that the machine's noise affects all of them; the table shows medians and the ratio to plain routing.  Load goes only to addresses
inside these namespaces, for the given seconds.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from topology import (
    CLIENT,
    CONTROL,
    CONTROL_ADDRESS,
    MIDDLE,
    MIDDLE_CONTROL_ADDRESS,
    SERVER,
    SERVER_ADDRESS,
    SERVER_PORT,
    VIRTUAL_ADDRESS,
    VIRTUAL_PORT,
    need,
    process,
    run,
    topology,
    wait_for_http,
)

IPERF_PORT = 5201
NGINX_SERVER = """
worker_processes 1; pid {scratch}/server.pid; error_log {scratch}/server.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 65; keepalive_requests 1000000;
  server {{ listen {port} backlog=8192 reuseport; location / {{ return 200 "x"; }} }} }}
daemon off;
"""
NGINX_STREAM = """
load_module modules/ngx_stream_module.so;
worker_processes 2; pid {scratch}/middle.pid; error_log {scratch}/middle.err;
events {{ worker_connections 8192; }}
stream {{
  server {{ listen {vip}:{vport} backlog=8192 reuseport; proxy_pass {server}:{port}; }}
  server {{ listen {vip}:{iperf} backlog=8192 reuseport; proxy_pass {server}:{iperf}; }}
  server {{ listen {vip}:{iperf} udp reuseport; proxy_pass {server}:{iperf}; }} }}
daemon off;
"""
HAPROXY = """
global
  maxconn 8000
  nbthread 2
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind {vip}:{vport} backlog 8192
  server s1 {server}:{port}
listen iperf
  bind {vip}:{iperf}
  server s1 {server}:{iperf}
"""
NFT = """
table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat;
  ip daddr {vip} tcp dport {vport} dnat to {server}:{port}
  ip daddr {vip} tcp dport {iperf} dnat to {server}:{iperf}
  ip daddr {vip} udp dport {iperf} dnat to {server}:{iperf}
}}
}}
"""
CS_CONFIG = """
segment_id: 1
group_id: 1
active: true
ssmb: {{address: {cs}, port: 61019}}
key_file: cluster.key
admin_socket: {scratch}/cs.sock
data_flow_segments:
  - {{address: {dfs}, port: 61019}}
pools:
  - name: web
    method: round_robin
    nodes: [{{name: web1, address: {server}, port: {port}}}]
  - name: iperf
    method: round_robin
    nodes: [{{name: iperf1, address: {server}, port: {iperf}}}]
virtual_servers:
  - {{name: web, address: {vip}, port: {vport}, protocol: tcp, pool: web}}
  - {{name: iperf, address: {vip}, port: {iperf}, protocol: tcp, pool: iperf}}
  - {{name: iperf-udp, address: {vip}, port: {iperf}, protocol: udp, pool: iperf}}
"""
DFS_CONFIG = """
segment_id: 256
target: bpf
attach: {attach}
external: [ext0]
internal: [int0]
csmb: {{address: {dfs}, port: 61019}}
ssmb: {{address: {dfs}, port: 61019}}
key_file: cluster.key
admin_socket: {scratch}/dfs.sock
flow_capacity: 262144
pin_path: /sys/fs/bpf/splitplane/bench
"""


def _fill(template: str, scratch: Path, **more: str) -> str:
    return template.format(
        scratch=scratch, vip=VIRTUAL_ADDRESS, vport=VIRTUAL_PORT, server=SERVER_ADDRESS,
        port=SERVER_PORT, iperf=IPERF_PORT, cs=CONTROL_ADDRESS, dfs=MIDDLE_CONTROL_ADDRESS, **more,
    )  # fmt: skip


@contextmanager
def routing(scratch: Path) -> Iterator[str]:
    """The client connects to the server's own address; the middle only routes."""
    yield SERVER_ADDRESS


@contextmanager
def nftables(scratch: Path) -> Iterator[str]:
    """Destination NAT with connection tracking."""
    (scratch / "nat.nft").write_text(_fill(NFT, scratch))
    run("nft", "-f", str(scratch / "nat.nft"), namespace=MIDDLE)
    try:
        yield VIRTUAL_ADDRESS
    finally:
        run("nft", "delete", "table", "ip", "nat", namespace=MIDDLE)


@contextmanager
def _proxy(scratch: Path, *command: str) -> Iterator[str]:
    run("ip", "addr", "add", f"{VIRTUAL_ADDRESS}/32", "dev", "lo", namespace=MIDDLE)
    try:
        with process(*command, namespace=MIDDLE, log=scratch / "middle.log"):
            yield VIRTUAL_ADDRESS
    finally:
        run("ip", "addr", "del", f"{VIRTUAL_ADDRESS}/32", "dev", "lo", namespace=MIDDLE)


@contextmanager
def haproxy(scratch: Path) -> Iterator[str]:
    """HAProxy in TCP mode, two threads."""
    (scratch / "haproxy.cfg").write_text(_fill(HAPROXY, scratch))
    with _proxy(scratch, "haproxy", "-db", "-f", str(scratch / "haproxy.cfg")) as address:
        yield address


@contextmanager
def nginx_stream(scratch: Path) -> Iterator[str]:
    """nginx with the stream module, two workers."""
    (scratch / "stream.conf").write_text(_fill(NGINX_STREAM, scratch))
    with _proxy(scratch, "nginx", "-c", str(scratch / "stream.conf")) as address:
        yield address


@contextmanager
def splitplane(scratch: Path) -> Iterator[str]:
    """DFS in the middle, CS in a namespace of its own; a QUERY for every connection."""
    (scratch / "cluster.key").write_text(os.urandom(32).hex())
    (scratch / "cluster.key").chmod(0o600)
    (scratch / "cs.yaml").write_text(_fill(CS_CONFIG, scratch))
    (scratch / "dfs.yaml").write_text(_fill(DFS_CONFIG, scratch, attach=ATTACH))
    command = (sys.executable, "-m", "splitplane")
    with ExitStack() as stack:
        stack.enter_context(process(*command, "dfs", str(scratch / "dfs.yaml"),
                                    namespace=MIDDLE, log=scratch / "middle.log"))  # fmt: skip
        stack.enter_context(process(*command, "cs", str(scratch / "cs.yaml"),
                                    namespace=CONTROL, log=scratch / "cs.log"))  # fmt: skip
        yield VIRTUAL_ADDRESS
    run("rm", "-rf", "/sys/fs/bpf/splitplane/bench", check=False)


MIDDLES = {
    "routing": routing,
    "nftables": nftables,
    "haproxy": haproxy,
    "nginx": nginx_stream,
    "splitplane": splitplane,
}
ATTACH = "auto"


@dataclass(frozen=True, slots=True)
class Figures:
    """One middle in one round."""

    gbit_per_s: float  # one TCP stream, client to server
    gbit_per_s_down: float  # one TCP stream, server to client
    packets_per_s: float  # UDP of 64 octets, received
    requests_per_s: float  # a new connection each (Connection: close)
    setup_us: float  # median time of connect(), one at a time
    setup_p99_us: float


def throughput(address: str, seconds: int, *extra: str) -> float:
    out = run("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J", *extra,
              namespace=CLIENT, check=False)  # fmt: skip
    end = json.loads(out)["end"]
    return float(end["sum_received"]["bits_per_second"]) / 1e9


def packets(name: str, address: str, seconds: int) -> float:
    """UDP datagrams of 64 octets that arrive each second; HAProxy does not carry UDP."""
    if name == "haproxy":
        return 0.0
    out = run("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J", "-u",
              "-l", "64", "-b", "0", namespace=CLIENT, check=False)  # fmt: skip
    sums = json.loads(out)["end"]["sum_received"]
    return float(sums["packets"] - sums["lost_packets"]) / float(sums["seconds"])


def connections(address: str, port: int, seconds: int) -> float:
    out = run("wrk", "-t2", "-c64", f"-d{seconds}s", "-H", "Connection: close",
              f"http://{address}:{port}/", namespace=CLIENT)  # fmt: skip
    errors = re.search(r"Socket errors: (.*)", out)
    if errors:
        print(f"    wrk: {errors[0]}", file=sys.stderr)
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    return float(found[1]) if found else 0.0


CONNECT = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(count):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    begin = time.perf_counter_ns(); s.connect((host, port)); print(time.perf_counter_ns() - begin); s.close()
    time.sleep(0.002)
"""


def setup_latency(address: str, port: int, count: int = 1000) -> list[float]:
    out = run(sys.executable, "-c", CONNECT, address, str(port), str(count), namespace=CLIENT)
    return sorted(int(line) / 1000 for line in out.split())


def measure(name: str, scratch: Path, seconds: int) -> Figures:
    middle: Callable[..., object] = MIDDLES[name]
    with middle(scratch) as address:  # type: ignore[attr-defined]
        port = SERVER_PORT if address == SERVER_ADDRESS else VIRTUAL_PORT
        wait_for_http(address, port, namespace=CLIENT, log=scratch / "middle.log")
        setup = setup_latency(address, port)
        rate = connections(address, port, seconds)
        time.sleep(1)
        up = throughput(address, seconds)
        down = throughput(address, seconds, "-R")
        rate_udp = packets(name, address, seconds)
    return Figures(
        up, down, rate_udp, rate, statistics.median(setup), setup[len(setup) * 99 // 100]
    )


def main() -> None:
    global ATTACH
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(MIDDLES))
    parser.add_argument("--attach", default="auto", choices=("auto", "tc", "xdp"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ATTACH = options.attach
    names = [name.strip() for name in options.only.split(",")]
    unknown = set(names) - set(MIDDLES)
    if unknown:
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(MIDDLES)}")
    need("wrk", "iperf3", "nginx", "haproxy", "nft", "curl")
    results: dict[str, list[Figures]] = {name: [] for name in names}
    with topology() as scratch:
        (scratch / "server.conf").write_text(_fill(NGINX_SERVER, scratch))
        with (
            process("nginx", "-c", str(scratch / "server.conf"), namespace=SERVER,
                    log=scratch / "server.log"),
            process("iperf3", "-s", "-p", str(IPERF_PORT), namespace=SERVER,
                    log=scratch / "iperf.log"),
        ):  # fmt: skip
            for round_number in range(options.rounds):
                for name in names:
                    figures = measure(name, scratch, options.seconds)
                    results[name].append(figures)
                    print(f"round {round_number + 1} {name}: {figures}", file=sys.stderr)
    report(results)
    if options.json:
        rows = {n: [asdict(f) for f in fs] for n, fs in results.items()}
        options.json.write_text(json.dumps({"machine": platform.uname()._asdict(), "rows": rows}))


def report(results: dict[str, list[Figures]]) -> None:
    """A table in Markdown: medians, and the ratio to plain routing."""
    print(f"\nkernel {platform.release()}, {os.cpu_count()} cores, "
          f"medians of {len(next(iter(results.values())))}\n")  # fmt: skip
    print(
        "| device under test | Gbit/s up | Gbit/s down | UDP packets/s | new connections/s | set-up median us | 99th us |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds in results.items():
        up, down, udp, rate, setup, p99 = (
            statistics.median(getattr(figures, field) for figures in rounds)
            for field in Figures.__slots__
        )
        print(
            f"| {name} | {up:.1f} | {down:.1f} | {udp:.0f} | {rate:.0f} | {setup:.0f} | {p99:.0f} |"
        )


if __name__ == "__main__":
    try:
        main()
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{error.cmd}: did not end in {error.timeout:.0f} s")
