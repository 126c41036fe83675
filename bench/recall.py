# SPDX-License-Identifier: Apache-2.0
"""How long a CS that starts takes to learn from another one what persistence remembers.

    sudo python bench/recall.py [--clients 10000,100000,1000000]

A laboratory with a DFS of the bpf target and two CSs.  The active one has read a state file with so many
clients, of four virtual servers; then the standby starts.  Meanwhile a client opens new connections one
after another, which the active CS is asked about.  The standby's process has to start (Python, its
modules, its configuration), so the time counts from when it has its DFS.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from processor_time import spent, take, ticks_per_s

from admin.answers import CS_STATUS, NODES
from admin.errors import CommandError
from admin.state import encode
from control_segment.persistence import SourceAddressPersistence
from control_segment.persistence_tables import PersistenceTables
from splitplane.drill.measure import percentile
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from ssmb.addresses import from_text

TABLES = 4
FIRST_PORT = 9100
SEEN_S = 600  # ago, at most
POLL_S = 0.02
SETTLE_S = 2.0


class Taken(NamedTuple):
    """Seconds; processor time in seconds, connections in milliseconds."""

    seconds: float
    active: float
    standby: float
    before: list[float]
    during: list[float]


def configure(lab: Lab, folder: Path) -> list[str]:
    """Add the virtual servers, and say where the active CS's state is; return their tables."""
    names = [f"g{number}" for number in range(TABLES)]
    for config in lab.cs_configs.values():
        first = config["virtual_servers"][0]
        config["virtual_servers"] += [
            {
                **first,
                "name": name,
                "port": FIRST_PORT + number,
                "persistence": {"kind": "source_address", "timeout_s": 3600, "group": name},
            }
            for number, name in enumerate(names)
        ]
        config["settings"] = {**config.get("settings", {}), "grants": False}
    lab.cs_configs["cs1"]["state_file"] = str(folder / "cs-1.state")
    lab.write_configs()
    return names


def write_state(path: Path, names: list[str], clients: int, place: tuple[bytes, int]) -> None:
    """A state file as CS 1 would have written it."""
    tables, now = PersistenceTables(), time.monotonic()
    for name in names:
        table = tables.by_name[f"group {name}"] = SourceAddressPersistence(3600, is_shared=True)
        for number in range(clients // TABLES):
            address = ipaddress.IPv4Address((10 << 24) + number)
            seen = now - SEEN_S * (1 - number * TABLES / clients)
            table.remember(from_text(str(address)), place, seen)
    wall_now = time.clock_gettime(time.CLOCK_REALTIME)
    path.write_bytes(b"".join(encode(1, wall_now, tables.sections(now, wall_now))))


class Load:
    """New connections one after another, by a thread."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took_ms: list[float] = []

    def _run(self) -> None:
        while not self._over.is_set():
            begun = time.perf_counter()
            with self._lab.connect("client1", timeout_s=20) as connection:
                self.took_ms.append((time.perf_counter() - begun) * 1000)
                connection.get("/")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def status(lab: Lab, name: str) -> Any:
    """What it says, None while it says nothing."""
    try:
        return lab.admin(name, CS_STATUS)
    except CommandError:
        return None


def has_its_dfs(lab: Lab, name: str) -> bool:
    """Whether it is connected to it."""
    said = status(lab, name)
    return said is not None and said.data_flow_segments[0].ssmb_authenticated


def is_whole(lab: Lab, name: str) -> bool:
    """Whether it has all flows, and waits for nothing."""
    said = status(lab, name)
    copy = said.data_flow_segments[0].copy
    heard = any(each.role for each in said.control_segments)
    return bool(heard and copy is not None and copy.complete and not said.waits_for_records)


def measure(clients: int) -> Taken:
    """One laboratory."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Lab(f"recall{os.getpid() % 100_000}", servers=2, cs_count=2, segments=False) as lab,
    ):
        names = configure(lab, Path(folder))
        server = lab.topology.of("server")[0]
        node = from_text(server.address), lab.cs_configs["cs1"]["pools"][0]["nodes"][0]["port"]
        write_state(Path(folder) / "cs-1.state", names, clients, node)
        lab.start_dfs()
        lab.start_cs("cs1")
        lab.wait_until_serving()
        assert lab.admin("cs1", NODES)
        with Load(lab) as load:
            time.sleep(SETTLE_S)
            before, load.took_ms = load.took_ms, []
            lab.start_cs("cs2")
            wait_for("the standby to have its DFS", partial(has_its_dfs, lab, "cs2"), 60)
            load.took_ms, begun = [], time.monotonic()
            pids = {name: lab.cs(name).pid for name in ("cs1", "cs2")}
            snapshot = take()
            wait_for("the standby to have everything", partial(is_whole, lab, "cs2"), 600)
            seconds = time.monotonic() - begun
            used = spent(snapshot, take(), bench=os.getpid(), parts=pids, ticks_per_s=ticks_per_s())
        return Taken(seconds, used.parts["cs1"], used.parts["cs2"], before, load.took_ms)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="learn from another CS what persistence remembers")
    parser.add_argument("--clients", default="10000,100000,1000000")
    options = parser.parse_args()
    print("| clients | s | active CS s | standby s | connections before: 50, 99 % ms | meanwhile |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for clients in map(int, options.clients.split(",")):
        taken = measure(clients)
        before, during = (
            f"{percentile(some, 0.5):.2f}, {percentile(some, 0.99):.2f}"
            for some in (taken.before, taken.during)
        )
        print(
            f"| {clients:,} | {taken.seconds:.1f} | {taken.active:.2f} | {taken.standby:.2f}"
            f" | {before} | {during} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
