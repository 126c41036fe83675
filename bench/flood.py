# SPDX-License-Identifier: Apache-2.0
"""What a SYN flood from spoofed addresses does to a legitimate client, and to the agent and the CS.

    sudo python bench/flood.py [--seconds 10] [--only splitplane,splitplane-http] [--per-second 50] [--rate 0]
                               [--generators 1] [--json FILE]

The network is that of bench/compare.py.  The client's namespace sends SYNs from random addresses
to the virtual server, as fast as one processor does (or --rate packets per second), or several, while a client
makes HTTP requests at a fixed rate, a connection each.  They are measured before, during and after
the flood.  splitplane-http is a virtual server of kind http, whose handshakes the DFS completes with SYN
cookies.  On veth the sender's processor also forwards its packets, so its limit is that of both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from compare import server
from content_middles import CONTENT, splitplane
from middles import Middle, Running, Variant, middles
from natives import compiled, external_mac
from processor_time import Snapshot, spent, take, ticks_per_s
from scenarios import SCENARIOS, Scenario
from topology import CLIENT, MIDDLE, need, process, run, topology, wait_for_http

HERE = Path(__file__).resolve().parent
RECOVERY_S = 120  # no more is waited for the first answer after the flood
SETTLE_S = 8  # half-open flows end after 5 s, closed ones linger for 2
SAMPLE_S = 0.1
START_S = 60  # on a machine with other work


@dataclass(frozen=True, slots=True)
class Phase:
    """Before, during or after the flood."""

    name: str
    flood_per_s: float
    asked: int
    answered: int  # within a second
    median_ms: float | None
    memory_mb: Mapping[str, float]  # resident, its largest, by part
    processors: Mapping[str, float]  # processor seconds per second, by part
    foreign_share: float
    idle_share: float


def resident_mb(pid: int) -> float:
    """VmRSS of proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def flooding(
    scratch: Path, running: Running, seconds: float, options: argparse.Namespace
) -> Iterator[None]:
    command = [str(scratch / "generator"), "eth0", external_mac(), "syn", running.address]
    command += [str(running.port), str(seconds), str(options.rate / options.generators)]
    with ExitStack() as stack:
        generators = [
            stack.enter_context(process(*command, namespace=CLIENT, log=log))
            for log in flood_logs(scratch, options)
        ]
        yield
        for generator, log in zip(generators, flood_logs(scratch, options), strict=True):
            if generator.wait(seconds + 10) != 0:
                raise SystemExit(log.read_text())


def flood_logs(scratch: Path, options: argparse.Namespace) -> list[Path]:
    return [scratch / f"flood{number}.log" for number in range(options.generators)]


@contextmanager
def quiet() -> Iterator[None]:
    yield


def phase(name: str, scratch: Path, running: Running, options: argparse.Namespace) -> Phase:
    seconds, log = options.seconds, scratch / "legitimate.log"
    flood = name == "during"
    load = flooding(scratch, running, seconds + 1, options) if flood else quiet()
    memory = dict.fromkeys(running.parts, 0.0)
    with load:
        time.sleep(0.5)
        before, begin = take(), time.monotonic()
        with process(sys.executable, str(HERE / "legitimate.py"), running.address, str(running.port),
                     str(options.per_second), str(seconds), namespace=CLIENT, log=log) as client:  # fmt: skip
            while client.poll() is None:
                for part, pid in running.parts.items():
                    memory[part] = max(memory[part], resident_mb(pid))
                time.sleep(SAMPLE_S)
        after, took = take(), time.monotonic() - begin
    lines = log.read_text().split()
    times = [float(line) for line in lines if line != "-"]
    per_s = 0.0
    if flood:
        for each in flood_logs(scratch, options):
            sent, during = each.read_text().split()
            per_s += int(sent) / float(during)
    return Phase(name, per_s, len(lines), len(times), statistics.median(times) if times else None,
                 memory, *shares(running, before, after, took))  # fmt: skip


def shares(
    running: Running, before: Snapshot, after: Snapshot, took: float
) -> tuple[dict[str, float], float, float]:
    """Processor seconds per second of each part; the shares of foreign processes and of idleness."""
    used = spent(before, after, bench=os.getpid(), parts=running.parts, ticks_per_s=ticks_per_s())
    total = used.bench + used.foreign + used.idle
    return (
        {name: seconds / took for name, seconds in used.parts.items()},
        used.foreign_share,
        used.idle / total,
    )


def recovery_s(running: Running) -> float | None:
    """Until a request is answered again; None: not within RECOVERY_S."""
    begin = time.monotonic()
    command = [sys.executable, str(HERE / "legitimate.py"), running.address, str(running.port)]
    while (took := time.monotonic() - begin) < RECOVERY_S:
        if run(*command, "1", "1", namespace=CLIENT).strip() != "-":
            return took
    return None


@dataclass(frozen=True, slots=True)
class Result:
    """Of one middle."""

    phases: list[Phase]
    recovery_s: float | None
    counters: Mapping[
        str, int
    ]  # of agent and CS, how much they rose from the first phase to the last


def flood(name: str, middle: Middle, scratch: Path, options: argparse.Namespace) -> Result:
    """All phases."""
    with middle(scratch, SCENARIOS["plain"]) as running:
        wait_for_http(running.address, running.port, namespace=CLIENT, log=scratch / "middle.log",
                      seconds=START_S)  # fmt: skip
        before = running.counters()
        phases = [phase(each, scratch, running, options) for each in ("before", "during")]
        recovery = recovery_s(running)
        time.sleep(SETTLE_S)
        phases.append(phase("after", scratch, running, options))
        after = running.counters()
    risen = {name: count - before.get(name, 0) for name, count in after.items()}
    return Result(phases, recovery, {name: count for name, count in risen.items() if count})


def report(name: str, result: Result) -> None:
    phases = result.phases
    parts = list(phases[0].memory_mb)
    head = ["flood, packets/s", "requests", "answered within 1 s", "median ms"]
    head += [f"{part}: MB resident, processors" for part in parts]
    print(f"\n| {name} | {' | '.join(head)} |\n| --- |{' ---: |' * len(head)}")
    for it in phases:
        median = "-" if it.median_ms is None else f"{it.median_ms:.1f}"
        cells = [f"{it.flood_per_s:,.0f}", str(it.asked), f"{it.answered / it.asked:.1%}", median]
        cells += [f"{it.memory_mb[part]:.1f}, {it.processors[part]:.2f}" for part in parts]
        print(f"| {it.name} | {' | '.join(cells)} |")
    foreign = max(it.foreign_share for it in phases)
    recovered = (
        "not within 2 minutes" if result.recovery_s is None else f"{result.recovery_s:.1f} s"
    )
    print(f"\nFrom the end of the flood to the first answer: {recovered}.")
    print(f"Foreign processes: up to {foreign:.0%} of the processors' time.")
    if result.counters:
        print("Counted: " + ", ".join(f"{key} {n:,}" for key, n in result.counters.items()))


def http(scratch: Path, _: Scenario) -> AbstractContextManager[Running]:
    """A virtual server of kind http.  Not in XDP: veth does not wake a receiver for what XDP sends back."""
    return splitplane(Variant(attach="tc"), scratch, CONTENT)


def main() -> None:
    known = middles("auto") | {"splitplane-http": http}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--per-second", type=float, default=50, help="legitimate requests")
    parser.add_argument("--rate", type=float, default=0, help="SYNs per second; 0: no limit")
    parser.add_argument("--generators", type=int, default=1, help="processes that send them")
    parser.add_argument(
        "--only", default="splitplane,splitplane-http", help=f"of {', '.join(known)}"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(",")]
    if unknown := set(names) - set(known):
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    need("nginx", "haproxy", "nft", "iperf3", "curl", "clang")
    rows = {}
    with topology() as scratch:
        compiled("generator.c", scratch)
        # the answers to spoofed addresses go to the client's namespace, which drops them
        run("ip", "route", "add", "default", "via", "10.90.1.2", namespace=MIDDLE)
        with server(scratch):
            for name in names:
                result = flood(name, known[name], scratch, options)
                report(name, result)
                rows[name] = asdict(result)
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.uname()._asdict(), "rows": rows}))


if __name__ == "__main__":
    main()
