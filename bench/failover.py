# SPDX-License-Identifier: Apache-2.0
"""What clients see of a failure: keepalived with HAProxy or nginx, and splitplane, in one run.

    sudo python bench/failover.py [--rounds 3] [--seconds 12] [--rate 200] [--only splitplane,nginx-default]
                                  [--failure kill] [--json FILE]

Every case (a device, what of it fails, and how) begins with a device that has just been started and
whose standby is ready.  The load of `splitplane.drill` comes from a client's network namespace: new
connections at a fixed rate whatever becomes of them, and downloads, uploads and idle connections
that are there when the failure comes.  The load goes on for --seconds after it.  Every round measures
all cases, one after the other.  All packets stay in namespaces that this script makes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from failover_devices import DEVICES, Running, cases
from failover_table import Case, Figures, figures, notes, table
from pair_configs import PRIORITIES, VRRP
from processor_time import spent, take, ticks_per_s
from topology import alone, need, run

from admin.errors import CommandError
from splitplane.drill.field import TIMINGS
from splitplane.drill.load import command
from splitplane.drill.recording import Plan, Recording
from splitplane.lab.processes import wait_for

ROOT = Path(__file__).resolve().parent.parent
BEFORE_S = 4.0  # of load before the failure: grants of splitplane come after a second or two
PROXIED = (
    "A proxy ends each connection and makes another one to a server: when its machine or its process"
    " fails, all of them break, however soon new ones succeed."
)
END_S = 60.0  # for the load to end after its time


def plan(running: Running, options: argparse.Namespace) -> Plan:
    return Plan(
        addresses=(running.address,),
        http_port=running.http_port,
        stream_port=running.stream_port,
        seconds=BEFORE_S + options.seconds,
        failure_s=BEFORE_S,
        rate=options.rate,
        downloads=options.long_flows,
        uploads=options.long_flows,
        idle=options.long_flows,
    )


@contextmanager
def loading(running: Running, wanted: Plan, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The load, in the client's namespace, while the block runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        child = subprocess.Popen(
            running.client.command(*command(wanted)), stdout=out, env=environment
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def begun(log: Path, child: subprocess.Popen[bytes]) -> Recording:
    """Once every long flow is under way."""

    def is_under_way() -> bool:
        return child.poll() is not None or Recording.read(log).under_way_s is not None

    wait_for("the load's long flows to be under way", is_under_way, END_S)
    seen = Recording.read(log)
    if seen.under_way_s is None:
        raise CommandError(
            f"the load ended with {child.returncode} before all its long flows were under way"
        )
    return seen


def measure(case: Case, scratch: Path, options: argparse.Namespace) -> Figures:
    log = scratch / "load.jsonl"
    with DEVICES[case.device](scratch, case) as running:
        before = take()
        with loading(running, plan(running, options), log) as child:
            start = begun(log, child).started_s
            time.sleep(max(0.0, start + BEFORE_S - time.monotonic()))
            failed_s = time.monotonic()
            running.fail()
            try:
                child.wait(BEFORE_S + options.seconds + END_S)
            except subprocess.TimeoutExpired:
                raise CommandError(
                    f"the load did not end within {END_S:g} s after its time"
                ) from None
        took = spent(before, take(), bench=os.getpid(), parts={}, ticks_per_s=ticks_per_s())
        takeovers = running.takeovers()
    return figures(
        Recording.read(log), failed_s, takeovers=takeovers, foreign_share=took.foreign_share
    )


def versions() -> list[str]:
    """What ran, and with which settings."""
    said = {
        "keepalived": run("sh", "-c", "keepalived --version 2>&1").split("\n", 1)[0],
        "HAProxy": run("haproxy", "-v").split("\n", 1)[0],
        "nginx": run("sh", "-c", "nginx -v 2>&1").strip(),
        "splitplane": run("git", "-C", str(ROOT), "describe", "--always", "--dirty", check=False)
        .strip(),
    }  # fmt: skip
    lines = [f"{name}: {version}" for name, version in said.items()]
    lines += [
        f"keepalived, {name}: {vrrp.meaning}; a backup takes over after"
        f" {vrrp.detection_s(PRIORITIES[1]):.3f} s of silence; a proxy is checked every second"
        for name, vrrp in VRRP.items()
    ]
    for name, timings in TIMINGS.items():
        words = ", ".join(f"{key} {value}" for key, value in timings.items())
        lines.append(f"splitplane, {name}: {words or 'no setting is changed'}")
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="of load after the failure")
    parser.add_argument("--rate", type=float, default=200, help="new connections per second")
    parser.add_argument("--long-flows", type=int, default=10, help="of each kind")
    parser.add_argument("--only", default=",".join(DEVICES), help="devices under test")
    parser.add_argument("--failure", default="", help="only failures whose name has this in it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := set(options.only) - set(DEVICES):
        sys.exit(f"--only: there is no {', '.join(unknown)}; there are {', '.join(DEVICES)}")
    return options


def main() -> None:
    options = arguments()
    need("keepalived", "haproxy", "nginx", "curl")
    results: dict[Case, list[Figures]] = {}
    troubles: dict[Case, str] = {}
    for device in options.only:
        results |= {case: [] for case in cases(device) if options.failure in case.failure}
    with alone() as scratch:
        for round_number in range(options.rounds):
            for case, rounds in results.items():
                said = f"round {round_number + 1} {case}"
                try:
                    rounds.append(measure(case, scratch, options))
                except CommandError as error:  # of one case: the others are worth having
                    troubles.setdefault(case, str(error))
                    print(f"{said}: {error}", file=sys.stderr)
                else:
                    print(f"{said}: {rounds[-1]}", file=sys.stderr)
    missing = {case: why for case, why in troubles.items() if not results[case]}
    results = {case: rounds for case, rounds in results.items() if rounds}
    print(f"\nkernel {platform.release()}, {os.cpu_count()} cores, {options.rounds} rounds,"
          f" {options.rate:g} new connections per second", *versions(), "", sep="\n")  # fmt: skip
    print(*table(results, missing), "", *notes(results, missing), PROXIED, sep="\n")
    if options.json:
        rows = [
            asdict(case) | {"rounds": [asdict(it) for it in rounds]}
            for case, rounds in results.items()
        ]
        options.json.write_text(json.dumps({"machine": platform.uname()._asdict(), "rows": rows}))
    if troubles:
        sys.exit(f"not measured in every round: {', '.join(map(str, troubles))}")


if __name__ == "__main__":
    main()
