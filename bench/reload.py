# SPDX-License-Identifier: Apache-2.0
"""What a large configuration costs a Control Segment: its start, and QUERYs during a reload.

    python bench/reload.py [--servers 10000] [--nodes 10] [--method round_robin] [--rate 200]

A CS in a process of its own, by the command `splitplane cs`; this script plays its DFS.  Then every
weight of the file changes, and `splitplane reload` is run while QUERYs of new flows come at a fixed
rate.  What other processes on the machine cost is in the figures without a reload, too.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from csmb.connection import Connection
from csmb.constants import Role
from csmb.events import MessageReceived
from csmb.messages import Ack, VsList
from csmb.settings import ConnectionSettings
from ssmb.addresses import from_text
from ssmb.codec import decode_datagram, encode
from ssmb.messages import AuthChallenge, AuthResponse, Query, Reply, Sync, SyncDone

ACK_TYPES = {"Config": 5, "AddVs": 6, "DelVs": 7, "VsList": 8}
READ_SIZE = 4096
COMMAND = [sys.executable, "-m", "splitplane"]


def configuration(
    chosen: argparse.Namespace, folder: Path, ports: tuple[int, int], weight: int
) -> str:
    lines = [
        "segment_id: 1",
        f"ssmb: {{address: 127.0.0.1, port: {ports[0]}}}",
        "laboratory_no_authentication: true",
        f"admin_socket: {folder}/cs.sock",
        f"data_flow_segments: [{{address: 127.0.0.1, port: {ports[1]}}}]",
        "pools:",
    ]
    for n in range(chosen.servers):
        lines += [f"  - name: pool-{n}", f"    method: {chosen.method}", "    nodes:"]
        for i in range(chosen.nodes):
            number = n * chosen.nodes + i
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            lines += [
                f"      - name: node-{n}-{i}",
                f"        address: {address}",
                "        port: 8080",
                f"        weight: {weight + i % 3}",
            ]
    lines.append("virtual_servers:")
    for n in range(chosen.servers):
        lines += [
            f"  - name: server-{n}",
            f"    address: {virtual_address(n)}",
            "    port: 80",
            "    protocol: tcp",
            f"    pool: pool-{n}",
        ]
    return "\n".join(lines) + "\n"


def virtual_address(number: int) -> str:
    return f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


class Dfs:
    """Acknowledges everything, and asks."""

    def __init__(self, listener: socket.socket, cs_port: int, servers: int) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.connect(("127.0.0.1", cs_port))
        self._udp.setblocking(False)
        self._stream = listener.accept()[0]
        self._stream.setblocking(False)
        settings = ConnectionSettings(
            segment_id=256,
            key=b"",
            boot_id=1,
            ssmb_ipaddr=from_text("127.0.0.1"),
            ssmb_port=self._udp.getsockname()[1],
            laboratory=True,
        )
        self._connection = Connection(
            Role.DFS, settings, random_octets=os.urandom, now=time.monotonic()
        )
        self._servers = servers
        self._serial = 0
        self._asked: dict[int, float] = {}
        self.is_listed = self.is_synced = False
        self.changes = 0
        self.latencies: list[float] = []

    def run(self, until: Callable[[], bool], rate: float = 0.0) -> None:
        """Serve, and ask at a rate, until something is so."""
        started, asked = time.monotonic(), 0
        while not until():
            now = time.monotonic()
            if rate and now >= started + asked / rate:
                self._ask()
                asked += 1
            wait_s = max(0.0, started + asked / rate - now) if rate else 0.01
            ready = select.select([self._udp, self._stream], [], [], min(wait_s, 0.01))[0]
            if self._udp in ready:
                self._take(self._udp.recv(2048))
            if self._stream in ready:
                self._exchange(self._stream.recv(READ_SIZE))

    def _ask(self) -> None:
        self._serial += 1
        client = from_text(f"198.18.{self._serial >> 8 & 255}.{self._serial & 255}")
        server = from_text(virtual_address(self._serial * 7919 % self._servers))
        port = 1024 + self._serial % 60000
        query = Query(0, 0, self._serial, client, server, port, 80, 6, tcp_flags=2)
        self._asked[self._serial] = time.monotonic()
        self._udp.send(encode(query, 2))

    def _take(self, octets: bytes) -> None:
        for message in decode_datagram(octets, 2).messages:
            if isinstance(message, Reply):
                self.latencies.append(time.monotonic() - self._asked.pop(message.serial))
            elif isinstance(message, AuthChallenge):
                answer = AuthResponse(
                    challenge_id=message.challenge_id, auth_data=bytes(32), auth_nonce=bytes(32)
                )
                self._udp.send(encode(answer, 2))
            elif isinstance(message, Sync):
                self._udp.send(encode(SyncDone(sync_id=message.sync_id), 2))
                self.is_synced = True

    def _exchange(self, octets: bytes) -> None:
        now = time.monotonic()
        self._connection.receive_data(octets, now)
        while event := self._connection.next_event():
            if isinstance(event, MessageReceived):
                name = type(event.message).__name__
                self.changes += name in ("AddVs", "DelVs")
                if isinstance(event.message, VsList) and not event.message.flags:
                    self.is_listed = True
                ack = Ack(0, 0, ACK_TYPES[name], event.serial_global, event.serial_bytype)
                self._connection.send(ack, now)
        answer = self._connection.data_to_send()
        if answer:
            self._stream.sendall(answer)


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(what: str, latencies: list[float]) -> None:
    ordered = sorted(latencies)
    p50, p99 = (ordered[int(len(ordered) * part)] * 1000 for part in (0.5, 0.99))
    print(
        f"{what}: {len(ordered)} QUERYs answered, median {p50:.1f} ms, 99th percentile {p99:.1f} ms,"
        f" longest {ordered[-1] * 1000:.0f} ms",
        flush=True,
    )
    latencies.clear()


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def measure(chosen: argparse.Namespace, folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        cs_port: int = probe.getsockname()[1]
    listener = socket.create_server(("127.0.0.1", 0))
    ports = cs_port, listener.getsockname()[1]
    path = folder / "cs.yaml"
    path.write_text(configuration(chosen, folder, ports, 1))
    started = time.monotonic()
    process = subprocess.Popen([*COMMAND, "cs", str(path)], stderr=subprocess.DEVNULL)
    try:
        dfs = Dfs(listener, cs_port, chosen.servers)
        dfs.run(lambda: dfs.is_listed and dfs.is_synced)
        print(
            f"start: {time.monotonic() - started:.1f} s until the DFS has the whole list,"
            f" {cpu_s(process.pid):.1f} s of processor time, {memory_mb(process.pid):.0f} MB",
            flush=True,
        )
        dfs.run(after(5), chosen.rate)
        show("without a reload", dfs.latencies)
        path.write_text(configuration(chosen, folder, ports, 2))
        before, started = cpu_s(process.pid), time.monotonic()
        reload = subprocess.Popen([*COMMAND, "reload", "--socket", f"{folder}/cs.sock"])
        dfs.run(lambda: reload.poll() is not None, chosen.rate)
        took = time.monotonic() - started
        show("during a reload", dfs.latencies)
        print(
            f"reload: {took:.1f} s, {cpu_s(process.pid) - before:.1f} s of processor time in the"
            f" CS, exit code {reload.returncode}, {memory_mb(process.pid):.0f} MB",
            flush=True,
        )
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--method", default="round_robin")
    parser.add_argument("--rate", type=float, default=200.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen, Path(folder))


if __name__ == "__main__":
    main()
