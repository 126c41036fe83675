# SPDX-License-Identifier: Apache-2.0
"""What a change of one node costs a CS, in one process and without sockets or disk waits.

    python bench/single_change.py [--servers 10000] [--nodes 10] [--changes 60]

Processor time: a change as the API sends it is parsed and checked, put in force and announced, and
what follows from it (monitors, the digest, timers) is done until nothing is left.  Then a
configuration copy with many such changes is read, as at a start.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import as_deployed  # noqa: F401 # first of all
from desired_state import document

from admin.link.messages import Change, encode
from control_segment.config import GroupConfig
from control_segment.config_changes import Known, changed, with_group
from control_segment.runtime.desired import copy
from control_segment.runtime.desired.frames import Head, frame_of
from control_segment.runtime.memory import without_automatic_collection

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.segments.dfs_double import Rig, config

COPY_OCTETS = 4 << 20  # of changes, at which a CS folds them


@contextmanager
def timed(taken: list[float]) -> Iterator[None]:
    begun = time.process_time()
    yield
    taken.append((time.process_time() - begun) * 1000)


def show(what: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    print(f"| {what} | {ordered[len(ordered) // 2]:.2f} | {ordered[-1]:.2f} |", flush=True)


def settle(rig: Rig) -> None:
    rig.settle()
    while rig.cs.monitoring.get_timer() == 0.0:
        rig.cs.monitoring.handle_timer(rig.now)


def weighed(whole: dict[str, Any], number: int) -> Change:
    """Another weight of one node."""
    pools = whole["pools"]
    pool = pools[number * 97 % len(pools)]
    pool["nodes"][0]["weight"] = 100 + number % 900
    return Change(generation=number + 2, since=number + 1, made_at=1.0, pools=[pool])


def measure_changes(whole: dict[str, Any], count: int) -> None:
    now = with_group(
        config(monitors=[], pools=[], virtual_servers=[]), GroupConfig.model_validate(whole)
    )
    rig, known = Rig(now), Known(now)
    settle(rig)
    check, apply, rest, each = list[float](), list[float](), list[float](), list[float]()
    for number in range(count):
        change = weighed(whole, number)
        with timed(each):
            with timed(check):
                checked = changed(now, known, change)
            with timed(apply):
                rig.cs.apply_config(checked.config, rig.now, checked.difference)
                known.take(checked)
            with timed(rest):
                settle(rig)
        now = checked.config
    show("parsed and checked", check)
    show("put in force and announced", apply)
    show("what follows", rest)
    show("a change of one node", each)


def measure_copy(whole: dict[str, Any], path: Path) -> None:
    head = Head(generation=1, made_at=1.0, group_id=1)
    copy.write_whole(path, frame_of(head, whole), "lineage")
    lines, number = bytearray(), 0
    while len(lines) < COPY_OCTETS:
        change = weighed(whole, number)
        lines += copy.line_of(change, "lineage", encode(change))
        number += 1
    copy.append_lines(path, bytes(lines))
    taken: list[float] = []
    with timed(taken):
        copy.read_copy(path)
    show(f"reading a copy with {number:,} changes", taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10, help="of each virtual server")
    parser.add_argument("--changes", type=int, default=60)
    chosen = parser.parse_args()
    print("| processor time, ms | median | longest |\n| --- | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder, without_automatic_collection():
        measure_changes(document(chosen.servers, chosen.nodes), chosen.changes)
        measure_copy(document(chosen.servers, chosen.nodes), Path(folder) / "copy")
    print(f"\nload average {os.getloadavg()[0]:.0f} with {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
