# SPDX-License-Identifier: Apache-2.0
"""What a large configuration costs where an API has it, and how soon a change of it is in force.

    python bench/link.py [--servers 10000] [--nodes 10] [--rate 200] [--changes 30] [--often 5]

An API (SQLite) and a CS that follows it, each a process of its own; this script plays the DFS, asks
about new flows at a fixed rate, and changes the configuration by HTTP: all of it, one virtual
server (until the DFS has it), one node (until the CS reports the generation), and that again and
again; then nodes at a fixed rate, `--often` per second.  In the end the CS starts from its copy
while the API is away.  The load of the machine is printed with the figures.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from reload import Dfs, after, cpu_s, memory_mb, show, virtual_address

from api.access.keeper import Keeper
from api.access.roles import Role
from api.composition import opened, realtime
from splitplane.api_client import JSON, MERGE_PATCH, ApiClient

COMMAND = [sys.executable, "-m", "splitplane"]


def document(chosen: argparse.Namespace, weight: int) -> dict[str, Any]:
    pools = []
    for n in range(chosen.servers):
        nodes = []
        for i in range(chosen.nodes):
            number = n * chosen.nodes + i
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            nodes.append({"name": f"node-{n}-{i}", "address": address, "port": 8080,
                          "weight": weight + i % 3})  # fmt: skip
        pools.append({"name": f"pool-{n}", "nodes": nodes})
    servers = [
        {"name": f"server-{n}", "address": virtual_address(n), "port": 80, "protocol": "tcp",
         "pool": f"pool-{n}"}
        for n in range(chosen.servers)
    ]  # fmt: skip
    return {"pools": pools, "virtual_servers": servers}


def token(folder: Path, role: Role) -> Path:
    path = folder / f"{role}.token"
    with opened("sqlite:///api.db", folder) as database:
        path.touch(0o600)
        path.write_text(Keeper(database, realtime).add_token("bench", role, "bench")[1])
    return path


def put(client: ApiClient, path: str, body: object, method: str = "PUT") -> int:
    """Return the generation that it made."""
    kind = MERGE_PATCH if method == "PATCH" else JSON
    client.request(method, path, body, content_type=kind)
    return latest(client)


def latest(client: ApiClient) -> int:
    """The generation that is desired."""
    return int(client.get("/generations", limit=1)["items"][0]["number"])


class Applying:
    """Applies a whole configuration from a process of its own: its JSON would hold up for 100 ms
    what asks here, and that would look like the CS's delay."""

    def __init__(self, chosen: argparse.Namespace, weight: int) -> None:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_apply, args=(theirs, chosen, weight), daemon=True)
        self._process.start()
        self._pipe = ours
        assert ours.recv() == "made"

    def apply(self, url: str, secret: str) -> int:
        """Return its generation."""
        self._pipe.send((url, secret))
        generation: int = self._pipe.recv()
        self._process.join()
        return generation


def _apply(pipe: Connection, chosen: argparse.Namespace, weight: int) -> None:
    whole = document(chosen, weight)
    pipe.send("made")
    pipe.send(put(ApiClient(*pipe.recv()), "/configuration", whole))


class Rig:
    """The processes, and what asks them."""

    def __init__(self, chosen: argparse.Namespace, folder: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.cs_port: int = probe.getsockname()[1]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.chosen, self.folder = chosen, folder
        secret = token(folder, Role.ADMIN).read_text()
        token(folder, Role.SEGMENT)
        (folder / "api.yaml").write_text(
            "listen: {address: null, socket: api.sock}\ndatabase: sqlite:///api.db\n"
        )
        (folder / "cs.yaml").write_text(
            "segment_id: 1\n"
            f"ssmb: {{address: 127.0.0.1, port: {self.cs_port}}}\n"
            "laboratory_no_authentication: true\n"
            f"admin_socket: {folder}/cs.sock\n"
            "state_file: cs.state\n"
            f"data_flow_segments: [{{address: 127.0.0.1, port: {self.listener.getsockname()[1]}}}]\n"
            f"api: {{url: 'unix:{folder}/api.sock', token_file: segment.token}}\n"
        )
        self.api = f"unix:{folder}/api.sock", secret
        self.client = ApiClient(*self.api)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)
        self.listener.close()

    def start(self, name: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        # who measures in real time, because the machine has other work, lets the API run as usual
        ordinary = ["chrt", "-o", "0"] if name == "api" and os.sched_getscheduler(0) else []
        command = [*ordinary, *COMMAND, name, str(self.folder / f"{name}.yaml")]
        process = subprocess.Popen(command, stderr=log)
        log.close()
        self.processes[name] = process
        return process

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait()

    def generation(self) -> int | None:
        """That the CS runs, as the API knows it."""
        items = self.client.get("/segments")["items"]
        running: int | None = items[0]["generation"] if items else None
        return running


def beside(dfs: Dfs, rate: float, work: Callable[[], None]) -> float:
    """Serve and ask until other work is done; how long that took, s."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    started = time.monotonic()
    thread = threading.Thread(target=guarded)
    thread.start()
    dfs.run(lambda: not thread.is_alive(), rate)
    if errors:
        raise errors[0]
    return time.monotonic() - started


def wait_for(rig: Rig, generation: int) -> None:
    while rig.generation() != generation:
        time.sleep(0.005)


def measure(rig: Rig) -> None:
    chosen = rig.chosen
    rig.start("api")
    while True:
        try:
            rig.client.get("/segments")
            break
        except Exception:
            time.sleep(0.05)
    api = rig.processes["api"]
    before, started = cpu_s(api.pid), time.monotonic()
    put(rig.client, "/configuration", document(chosen, 1))
    print(
        f"apply at the API: {time.monotonic() - started:.1f} s,"
        f" {cpu_s(api.pid) - before:.1f} s of processor time, {memory_mb(api.pid):.0f} MB",
        flush=True,
    )
    started = time.monotonic()
    cs = rig.start("cs")
    dfs = Dfs(rig.listener, rig.cs_port, chosen.servers)
    listed = {"done": False}

    def is_whole() -> bool:
        return dfs.changes >= chosen.servers or (dfs.is_listed and dfs.is_synced and listed["done"])

    beside(dfs, 0, lambda: wait_for(rig, 1))
    listed["done"] = True
    dfs.run(is_whole)
    print(
        f"a CS without a copy: {time.monotonic() - started:.1f} s until the DFS has all,"
        f" {cpu_s(cs.pid):.1f} s of processor time, {memory_mb(cs.pid):.0f} MB",
        flush=True,
    )
    dfs.run(after(5), chosen.rate)
    show("without a change", dfs.latencies)

    whole = Applying(chosen, 2)
    before = cpu_s(cs.pid)
    took = beside(dfs, chosen.rate, lambda: wait_for(rig, whole.apply(*rig.api)))
    show("while every weight changes", dfs.latencies)
    print(f"every weight: {took:.1f} s until in force, {cpu_s(cs.pid) - before:.1f} s in the CS")

    changes: list[float] = []
    for n in range(chosen.changes):
        body = {"idle_timeout_s": 100 + n}
        seen, started = dfs.changes, time.monotonic()
        thread = threading.Thread(
            target=put, args=(rig.client, f"/virtual-servers/server-{n}", body, "PATCH")
        )
        thread.start()
        dfs.run(lambda seen=seen: dfs.changes > seen, chosen.rate)  # type: ignore[misc]
        changes.append(time.monotonic() - started)
        thread.join()
    show("while single virtual servers change", dfs.latencies)
    said("one virtual server, until the DFS has it", changes)

    changes.clear()
    before = cpu_s(cs.pid)
    for n in range(chosen.changes):
        path = f"/pools/pool-{n}/nodes/node-{n}-0"
        body = {"weight": 9}
        change = partial(put, rig.client, path, body, "PATCH")
        changes.append(beside(dfs, chosen.rate, lambda c=change: wait_for(rig, c())))  # type: ignore[misc]
    show("while single nodes change", dfs.latencies)
    said("one node, until in force", changes)
    print(
        f"  {(cpu_s(cs.pid) - before) / chosen.changes * 1000:.0f} ms of processor time each in the CS"
    )

    often(rig, dfs, cs.pid)

    rig.stop("api")
    rig.stop("cs")
    started = time.monotonic()
    cs = rig.start("cs")
    dfs = Dfs(rig.listener, rig.cs_port, chosen.servers)
    dfs.run(lambda: dfs.is_listed and dfs.is_synced)
    print(
        f"from its copy, the API away: {time.monotonic() - started:.1f} s until the DFS has all,"
        f" {memory_mb(cs.pid):.0f} MB; the copy has"
        f" {sum(each.stat().st_size for each in rig.folder.glob('cs.configuration*')) / 1e6:.1f} MB",
        flush=True,
    )


def often(rig: Rig, dfs: Dfs, pid: int) -> None:
    """Change nodes at a fixed rate; what the CS works for each, beside what it works anyway."""
    chosen = rig.chosen
    count = chosen.changes * 4
    seconds = count / chosen.often
    anyway = cpu_s(pid)
    dfs.run(after(seconds), chosen.rate)
    anyway = cpu_s(pid) - anyway
    show("once more without a change", dfs.latencies)

    def change() -> None:
        started = time.monotonic()
        for n in range(count):
            time.sleep(max(0.0, started + n / chosen.often - time.monotonic()))
            path = f"/pools/pool-{n * 97 % chosen.servers}/nodes/node-{n * 97 % chosen.servers}-1"
            rig.client.request("PATCH", path, {"weight": 20 + n}, content_type=MERGE_PATCH)
        wait_for(rig, latest(rig.client))

    before = cpu_s(pid)
    took = beside(dfs, chosen.rate, change)
    each = cpu_s(pid) - before - anyway * took / seconds
    show(f"while {count / took:.1f} single nodes change per second", dfs.latencies)
    print(
        f"  {each / count * 1000:.1f} ms of processor time each in the CS, beside the"
        f" {anyway / seconds * 100:.1f} % that it works anyway; load average"
        f" {os.getloadavg()[0]:.0f} with {os.cpu_count()} cores",
        flush=True,
    )


def said(what: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    median = ordered[len(ordered) // 2]
    print(f"{what}: median {median * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--often", type=float, default=5.0, help="changes per second")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Rig(chosen, Path(folder)) as rig:
        measure(rig)


if __name__ == "__main__":
    main()
