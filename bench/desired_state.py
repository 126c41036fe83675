# SPDX-License-Identifier: Apache-2.0
"""What a large desired state costs the API: its start, a whole document, a change of one node.

    python bench/desired_state.py [--servers 10000] [--nodes 10] [--database URL]

Without a URL it is SQLite in a temporary folder.  Each figure is time by the clock, and beside it
the processor time of the API's process: the database's is not in it, if that is a server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.database import Database
from api.desired.resources import Body, Edit, Kind
from api.desired.store import DesiredState


def document(servers: int, nodes: int) -> Body:
    return {
        "pools": [
            {
                "name": f"pool-{n}",
                "nodes": [
                    {
                        "name": f"node-{n}-{i}",
                        "address": address(10, n * nodes + i),
                        "port": 8080,
                        "weight": 2 + i % 3,
                    }
                    for i in range(nodes)
                ],
            }
            for n in range(servers)
        ],
        "virtual_servers": [
            {
                "name": f"server-{n}",
                "address": address(172, n),
                "port": 80,
                "protocol": "tcp",
                "pool": f"pool-{n}",
            }
            for n in range(servers)
        ],
    }


def address(first: int, number: int) -> str:
    number += 1 << 20  # 172.16.0.0 and on
    return f"{first}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def timed(what: str, times: int, run: Callable[[int], object]) -> Any:
    """Print how long it takes; return what the last one returned."""
    walls, processor, result = [], time.process_time(), None
    for number in range(times):
        begun = time.perf_counter()
        result = run(number)
        walls.append((time.perf_counter() - begun) * 1000)
    processor = (time.process_time() - processor) * 1000 / times
    middle = statistics.median(walls)
    print(
        f"| {what} | {times} | {middle:,.1f} | {max(walls):,.1f} | {processor:,.1f} |", flush=True
    )
    return result


def start(url: str) -> DesiredState:
    database = Database(url)
    database.migrate()
    return DesiredState(database)


def memory() -> str:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (int(lines[field].split()[0]) >> 10 for field in ("VmRSS", "VmHWM"))
    return f"{now} MB (at its largest {most})"


def measure(desired: DesiredState, servers: int) -> None:
    def weigh(number: int) -> object:
        pool = desired.get((Kind.POOL, f"pool-{number * 97 % servers}"))
        first, *others = pool.body["nodes"]
        nodes = [{**first, "weight": 100 + number}, *others]
        return desired.change(
            [Edit(pool.key, 1, {**pool.body, "nodes": nodes})], who="bench", how="bench"
        )

    def add(number: int) -> object:
        body = {"address": "172.31.0.1", "port": 1 + number, "protocol": "tcp", "pool": "pool-0"}
        return desired.change(
            [Edit((Kind.VIRTUAL_SERVER, f"new-{number}"), 1, body)], who="bench", how="bench"
        )

    def delete(number: int) -> object:
        return desired.change(
            [Edit((Kind.VIRTUAL_SERVER, f"new-{number}"), 1, None)], who="bench", how="bench"
        )

    def apply(number: int) -> object:
        whole["pools"][0]["nodes"][0]["weight"] = 200 + number
        return desired.apply(1, whole, who="bench", how="bench")

    timed("read one pool", 200, lambda number: desired.get((Kind.POOL, f"pool-{number % servers}")))
    timed("change one node", 100, weigh)
    timed("add a virtual server", 50, add)
    timed("delete it", 50, delete)
    timed(
        "what a CS lacks after one change", 20, lambda _: desired.delta(1, desired.generation - 1)
    )
    timed("the whole document, as JSON", 5, lambda _: json.dumps(desired.document(1)))
    timed(
        "the document 100 generations ago",
        5,
        lambda _: desired.document(1, desired.generation - 100),
    )
    whole = json.loads(json.dumps(desired.document(1)))
    timed("apply a document of which one node is different", 3, apply)
    timed(
        "apply a document of which nothing is different",
        3,
        lambda _: desired.apply(1, whole, who="bench", how="bench"),
    )
    timed(
        "roll back by one generation",
        3,
        lambda _: desired.roll_back(desired.generation - 1, who="bench"),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10, help="of each virtual server")
    parser.add_argument("--database", help="URL; it must be empty")
    parser.add_argument("--started", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.started:
        before = memory()
        desired = timed("start", 1, lambda _: start(chosen.database))
        loaded = memory()
        measure(desired, chosen.servers)
        print(
            f"\nmemory: {before} with the imports alone; {loaded} after the start; {memory()} at the end"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        url = chosen.database or f"sqlite:///{folder}/api.db"
        print(
            "| | times | median, ms | longest, ms | processor, ms each |\n| --- | --- | --- | --- | --- |",
            flush=True,
        )
        empty = start(url)
        whole = document(chosen.servers, chosen.nodes)
        timed(
            "apply the whole document to nothing",
            1,
            lambda _: empty.apply(1, whole, who="bench", how="bench"),
        )
        # a process of its own, whose memory is its own
        command = [
            sys.executable,
            __file__,
            "--started",
            "--database",
            url,
            "--servers",
            str(chosen.servers),
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
