# SPDX-License-Identifier: Apache-2.0
"""What a benchmark took is told from what others did on the same machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from processor_time import (
    Process,
    Snapshot,
    parse_machine,
    parse_process,
    spent,
    take,
    tree,
)

BENCH, AGENT, WRK = 100, 101, 102
SHELL, COMPILER, KERNEL = 50, 51, 2


def snapshot(busy: int, idle: int, *processes: Process) -> Snapshot:
    return Snapshot(busy, idle, 0, {process.pid: process for process in processes})


def process(pid: int, parent: int, own: int = 0, of_children: int = 0) -> Process:
    return Process(pid, parent, is_kernel=pid == KERNEL, own=own, of_children=of_children)


def test_the_machine_is_busy_but_for_idle_and_waiting_for_disks() -> None:
    text = "cpu  10 20 30 400 500 60 70 80 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert parse_machine(text) == (10 + 20 + 30 + 60 + 70 + 80, 400 + 500, 70)


@pytest.mark.parametrize("name", ["wrk", "a b", "a) R 7 (b"])
@pytest.mark.parametrize(("flags", "is_kernel"), [(4194304, False), (2129984, True)])
def test_a_processs_line(name: str, flags: int, is_kernel: bool) -> None:
    line = f"42 ({name}) S 7 42 42 0 -1 {flags} 9 8 7 6 100 20 3 4 20 0 1 0 17 0 0\n"
    assert parse_process(line) == Process(42, 7, is_kernel, own=120, of_children=7)


def test_a_tree_holds_its_root_and_all_below() -> None:
    processes = {it.pid: it for it in (process(1, 0), process(2, 1), process(3, 2), process(4, 1))}
    assert tree(processes, 2) == {2, 3}
    assert tree(processes, 1) == {1, 2, 3, 4}
    assert tree(processes, 9) == set()


def test_what_others_did_is_taken_off_and_the_kernels_threads_stay() -> None:
    before = snapshot(
        1000, 500, process(SHELL, 1, 10), process(BENCH, SHELL, 5), process(KERNEL, 0, 7)
    )
    after = snapshot(
        1600, 700, process(SHELL, 1, 210), process(BENCH, SHELL, 105), process(KERNEL, 0, 57)
    )
    took = spent(before, after, bench=BENCH, parts={}, ticks_per_s=100)
    assert (took.bench, took.foreign, took.idle) == (4.0, 2.0, 2.0)
    assert took.foreign_share == pytest.approx(0.25)


def test_one_that_ended_counts_once_by_its_parents_time() -> None:
    before = snapshot(0, 0, process(BENCH, 1), process(SHELL, 1, 10), process(COMPILER, SHELL, 30))
    after = snapshot(100, 0, process(BENCH, 1), process(SHELL, 1, 10, of_children=70))
    took = spent(before, after, bench=BENCH, parts={}, ticks_per_s=1)
    assert took.foreign == 40


def test_one_that_nobody_waited_for_makes_no_time_negative() -> None:
    before = snapshot(0, 0, process(BENCH, 1), process(SHELL, 1, 10), process(COMPILER, SHELL, 30))
    after = snapshot(100, 0, process(BENCH, 1), process(SHELL, 1, 15))
    took = spent(before, after, bench=BENCH, parts={}, ticks_per_s=1)
    assert took.foreign == 5


def test_a_part_is_a_process_with_all_its_children_dead_or_alive() -> None:
    before = snapshot(0, 0, process(BENCH, 1), process(AGENT, BENCH, 10), process(103, AGENT, 5))
    after = snapshot(
        100, 0, process(BENCH, 1), process(AGENT, BENCH, 20, of_children=9), process(104, AGENT, 3)
    )
    took = spent(before, after, bench=BENCH, parts={"agent": AGENT}, ticks_per_s=2)
    assert took.parts == {"agent": (20 + 9 + 3 - 10 - 5) / 2}
    assert took.foreign == 0


def test_this_machine_is_read() -> None:
    before, after = take(), take()
    assert os.getpid() in before.processes
    assert not before.processes[os.getpid()].is_kernel
    assert before.processes[os.getpid()].parent == os.getppid()
    assert after.busy >= before.busy > 0
