# SPDX-License-Identifier: Apache-2.0
"""The processor time that a benchmark took on a machine which others use, too.

What the whole machine worked, as /proc/stat counts it, less what the processes did that do not belong
to the benchmark.  What remains are the benchmark's own processes and the kernel: its threads, and the
interrupts in which packets are forwarded, which belong to no process.

Errors: the kernel samples the machine's time (CONFIG_TICK_CPU_ACCOUNTING: at each tick) and counts
that of processes exactly; without CONFIG_IRQ_TIME_ACCOUNTING an interrupt counts for the process
that it interrupts, also for one that is not the benchmark's.  So the figure is good on a quiet machine, and
`Spent.foreign_share` says how quiet it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h
_IDLE_FIELDS = (3, 4)  # idle, iowait: proc_stat(5)
_SOFTIRQ_FIELD = 6
_TIME_FIELDS = 8  # user to steal; what follows (guest) is in user already


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat; times in ticks of the clock, user and kernel together."""

    pid: int
    parent: int
    is_kernel: bool
    own: int
    of_children: int  # of those that ended and were waited for, and of theirs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The machine at one moment; times in ticks of the clock, since the machine started."""

    busy: int
    idle: int
    softirq: int  # of busy: in interrupts' later halves, where packets are forwarded
    processes: Mapping[int, Process]


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent between two snapshots, seconds of processor time."""

    bench: float  # by the benchmark and the kernel
    foreign: float  # by processes that are not the benchmark's
    idle: float
    softirq: float  # of the whole machine, in what precedes
    parts: Mapping[str, float]  # by parts of the benchmark, each with its children

    @property
    def foreign_share(self) -> float:
        """Of all that the processors could have done, 0 to 1."""
        return self.foreign / ((self.bench + self.foreign + self.idle) or 1.0)


def parse_machine(text: str) -> tuple[int, int, int]:
    """Ticks busy, idle, and of the busy ones in softirqs, of all processors, from /proc/stat."""
    times = [int(field) for field in text.split("\n", 1)[0].split()[1 : _TIME_FIELDS + 1]]
    idle = sum(times[place] for place in _IDLE_FIELDS)
    return sum(times) - idle, idle, times[_SOFTIRQ_FIELD]


def parse_process(text: str) -> Process:
    """From /proc/PID/stat, whose second field may hold blanks and brackets."""
    pid = int(text.split(" ", 1)[0])
    fields = text[text.rindex(")") + 1 :].split()  # from the third field of proc_pid_stat(5) on
    return Process(
        pid,
        parent=int(fields[1]),
        is_kernel=bool(int(fields[6]) & _KERNEL_THREAD),
        own=int(fields[11]) + int(fields[12]),
        of_children=int(fields[13]) + int(fields[14]),
    )


def tree(processes: Mapping[int, Process], root: int) -> set[int]:
    """*root* and all that descend from it."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        if pid in processes and pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def spent(
    before: Snapshot, after: Snapshot, *, bench: int, parts: Mapping[str, int], ticks_per_s: int
) -> Spent:
    """*bench*: the process that all of the benchmark's descend from; *parts*: likewise, by name."""
    foreign = _by_foreigners(before, after, bench)
    return Spent(
        bench=(after.busy - before.busy - foreign) / ticks_per_s,
        foreign=foreign / ticks_per_s,
        idle=(after.idle - before.idle) / ticks_per_s,
        softirq=(after.softirq - before.softirq) / ticks_per_s,
        parts={
            name: (_total(after, tree(after.processes, pid)) - _total(before, tree(before.processes, pid)))
            / ticks_per_s
            for name, pid in parts.items()
        },
    )  # fmt: skip


def _by_foreigners(before: Snapshot, after: Snapshot, bench: int) -> int:
    """One that ends is in its parent's time afterwards, so the sum keeps it.  Where the parent ignores
    its children the kernel forgets it, so at least what the living did themselves counts."""
    were, are = _foreigners(before, bench), _foreigners(after, bench)
    living = sum(
        after.processes[pid].own - (before.processes[pid].own if pid in were else 0) for pid in are
    )
    return max(_total(after, are) - _total(before, were), living)


def _foreigners(snapshot: Snapshot, bench: int) -> set[int]:
    ours = tree(snapshot.processes, bench)
    return {it.pid for it in snapshot.processes.values() if not it.is_kernel} - ours


def _total(snapshot: Snapshot, pids: Iterable[int]) -> int:
    return sum(snapshot.processes[pid].own + snapshot.processes[pid].of_children for pid in pids)


def take(proc: Path = Path("/proc")) -> Snapshot:
    """Read the machine's times and those of all processes."""
    processes = {}
    for entry in os.scandir(proc):
        if entry.name.isdecimal():
            try:
                process = parse_process((Path(entry) / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            processes[process.pid] = process
    busy, idle, softirq = parse_machine((proc / "stat").read_text())
    return Snapshot(busy, idle, softirq, processes)


def ticks_per_s() -> int:
    """The unit of all times in /proc."""
    return os.sysconf("SC_CLK_TCK")
