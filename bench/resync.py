# SPDX-License-Identifier: Apache-2.0
"""What a Control Segment's restart and a take-over cost, by the number of living flows.

    sudo python bench/resync.py [--flows 10000,100000,1000000] [--rounds 3] [--rate 100]
                                [--only restart,takeover] [--grants]

restart: the only CS is killed and started again, and gets every flow from its DFS by SYNC.
takeover: the active CS of two is killed; its standby has every flow already.

A DFS with the bpf target, its nodes and a client run in network namespaces, CSs and agent as
processes of their own, over real sockets.  The flow table is filled while no agent runs; the next
agent adopts it.  Meanwhile the client opens new connections at a fixed rate, whatever becomes of
them.  They are asked about, each with a QUERY; with --grants they take decisions made ahead.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import full_table
from processor_time import spent, take, ticks_per_s

from admin.answers import CS_STATUS, DFS_STATUS
from admin.errors import CommandError
from splitplane.drill.load import command
from splitplane.drill.measure import percentile
from splitplane.drill.recording import Attempt, Plan, Recording
from splitplane.lab import Lab, state
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import HTTP_PORT, SERVER_HTTP_PORT, VIRTUAL_ADDRESS

ROOT = Path(__file__).resolve().parent.parent
HOUR_S = 3600.0
SETTLE_S = 3.0  # of load before a CS is killed, and after all is as before
POLL_S = 0.02
ADOPTED_PER_S = 20_000  # entries that a new agent looks at; two for each flow
FOREIGN_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Seconds; memory in octets."""

    started: float  # until the new process answers
    ready: float  # until its DFS is connected and SYNC has begun
    complete: float  # until it knows every flow
    first: float  # until the first new connection was decided
    waits: list[float]  # of new connections that began while it ran SYNC
    failed: int  # new connections that were given up
    tries: int  # times that it asked for SYNC
    cs: int
    cs_peak: int
    agent_before: int
    agent_peak: int
    foreign_share: float


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """Seconds from the kill."""

    claims: float  # until the standby says that it claims, by its log
    accepted: float  # until it says that it takes over: a DFS has agreed
    first: float  # until the first new connection that it decided
    gap: float  # the longest time without a new connection that succeeded
    slowest: float  # new connection
    failed: int
    synchronised: bool  # it asked for SYNC although it had every flow
    foreign_share: float


class Setting:
    """A laboratory, its full table and its load."""

    def __init__(self, lab: Lab, flows: int, options: argparse.Namespace, scratch: Path) -> None:
        self.lab = lab
        self.flows = flows
        self._options = options
        self._log = scratch / "load.jsonl"

    def fill(self) -> None:
        """Return when every CS knows every flow, and the agent has looked at each."""
        lab = self.lab
        lab.dfs().kill9()
        nodes = [(host.address, SERVER_HTTP_PORT) for host in lab.topology.of("server")]
        full_table.fill(state.pins(lab.name), self.flows, (VIRTUAL_ADDRESS, HTTP_PORT), nodes)
        begun = time.monotonic()
        lab.start_dfs()
        for name in lab.cs_configs:
            wait_for(f"{name} to know the table", partial(self.knows_all, name), 600)
        wait_for("a CS to be active", lambda: bool(self.active))
        time.sleep(max(0.0, begun + 2 * self.flows / ADOPTED_PER_S + 2 - time.monotonic()))

    @property
    def active(self) -> str:
        """The CS that the DFS asks; empty: none."""
        (group,) = self.lab.admin("dfs", DFS_STATUS).groups
        return "" if group.active is None else f"cs{group.active.segment_id}"

    def knows_all(self, name: str) -> bool:
        """Whether a CS has been told every flow."""
        try:
            status = self.lab.admin(name, CS_STATUS)
        except CommandError:
            return False
        (dfs,) = status.data_flow_segments
        is_done = dfs.sync is not None and not dfs.sync.running and dfs.ssmb_authenticated
        return bool(is_done) and status.flows >= self.flows

    @contextmanager
    def load(self) -> Iterator[None]:
        """New connections, while the block runs; `recording` has them afterwards."""
        plan = Plan(
            addresses=(VIRTUAL_ADDRESS,),
            http_port=HTTP_PORT,
            seconds=HOUR_S,
            failure_s=1.0,
            rate=self._options.rate,
            request_octets=1,
            downloads=0,
            uploads=0,
            idle=0,
            udp_flows=0,
        )
        words = self.lab.namespaces["client1"].command(*command(plan))
        with self._log.open("wb") as out:
            child = subprocess.Popen(words, stdout=out, env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:
            time.sleep(SETTLE_S)
            yield
            time.sleep(SETTLE_S)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait()

    def attempts(self) -> list[Attempt]:
        """The load's new connections."""
        return list(Recording.read(self._log).attempts)


def memory(lab: Lab, segment: str, field: str = "VmRSS") -> int:
    """Of a process, in octets; VmHWM: at most."""
    text = Path(f"/proc/{lab.process(segment).pid}/status").read_text()
    return 1024 * int(text.split(f"{field}:", 1)[1].split()[0])


def first_after(attempts: list[Attempt], moment: float) -> float:
    """How long after *moment* the first connection came about that began behind it."""
    done = [it.connected_s for it in attempts if it.due_s >= moment and it.connected_s]
    return min(done) - moment if done else float("inf")


def failed(attempts: list[Attempt], moment: float) -> int:
    return sum(it.outcome != "ok" for it in attempts if it.due_s >= moment)


def restart(setting: Setting) -> Restart:
    lab = setting.lab
    agent_before = memory(lab, "dfs")
    before = take()
    with setting.load():
        killed = time.monotonic()
        lab.cs().kill9()
        lab.start_cs()
        started = time.monotonic()

        def is_ready() -> bool:
            (dfs,) = lab.admin("cs1", CS_STATUS).data_flow_segments
            return dfs.ready and bool(dfs.ssmb_authenticated)

        while not is_ready():
            time.sleep(POLL_S)
        ready = time.monotonic()
        while not setting.knows_all("cs1"):
            time.sleep(POLL_S)
        complete = time.monotonic()
        (dfs,) = lab.admin("cs1", CS_STATUS).data_flow_segments
    took = spent(before, take(), bench=os.getpid(), parts={}, ticks_per_s=ticks_per_s())
    attempts = setting.attempts()
    return Restart(
        started=started - killed,
        ready=ready - killed,
        complete=complete - killed,
        first=first_after(attempts, killed),
        waits=[
            it.connected_s - it.due_s
            for it in attempts
            if ready <= it.due_s < complete and it.connected_s
        ],
        failed=failed(attempts, killed),
        tries=0 if dfs.sync is None else dfs.sync.tries,
        cs=memory(lab, "cs1"),
        cs_peak=memory(lab, "cs1", "VmHWM"),
        agent_before=agent_before,
        agent_peak=memory(lab, "dfs", "VmHWM"),
        foreign_share=took.foreign_share,
    )


def logged(log: Path, words: str) -> float:
    """When a line with these words was logged last, by the machine's clock."""
    line = [line for line in log.read_text().splitlines() if words in line][-1]
    return time.mktime(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")) + int(line[20:23]) / 1000


def takeover(setting: Setting) -> Takeover:
    """The active CS is killed, whichever it is; it comes back as a standby."""
    lab = setting.lab
    old = setting.active
    new = next(name for name in lab.cs_configs if name != old)
    syncs = lab.cs(new).log.read_text().count("has reported all its flows")
    before = take()
    with setting.load():
        killed, killed_at = time.monotonic(), time.clock_gettime(time.CLOCK_REALTIME)
        lab.cs(old).kill9()
        while setting.active != new:
            time.sleep(POLL_S)
    took = spent(before, take(), bench=os.getpid(), parts={}, ticks_per_s=ticks_per_s())
    attempts = setting.attempts()
    later = lab.cs(new).log.read_text().count("has reported all its flows")
    lab.start_cs(old)
    wait_for(f"{old} to know the table", lambda: setting.knows_all(old), 600)
    done = sorted(it.connected_s for it in attempts if it.connected_s)
    gaps = [after - before for before, after in itertools.pairwise(done) if after > killed]
    return Takeover(
        claims=logged(lab.cs(new).log, "this one claims") - killed_at,
        accepted=logged(lab.cs(new).log, "takes over") - killed_at,
        first=first_after(attempts, killed),
        gap=max(gaps, default=float("inf")),
        slowest=max(it.connected_s - it.due_s for it in attempts if it.connected_s),
        failed=failed(attempts, killed),
        synchronised=later > syncs,
        foreign_share=took.foreign_share,
    )


@contextmanager
def laboratory(flows: int, css: int, options: argparse.Namespace) -> Iterator[Setting]:
    lab = Lab(
        f"resync{os.getpid() % 100_000}", clients=1, servers=3, cs_count=css, ipv6=False,
        flow_capacity=flows + flows // 4 + 20_000,
    )  # fmt: skip
    for config in lab.cs_configs.values():
        config["settings"] = {
            "flow_capacity": 2 * flows + 20_000,
            "grants": options.grants,
            "tcp_idle_timeout_s": full_table.IDLE_S,  # as the flows of the table have it
        }
    with tempfile.TemporaryDirectory() as scratch, lab:
        setting = Setting(lab, flows, options, Path(scratch))
        setting.fill()
        yield setting


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


MB = 1 << 20
RESTART_COLUMNS = (
    "CS answers s", "DFS connected s", "all flows known s", "flows/s of SYNC",
    "first new connection s", "new connections during SYNC: median ms", "99th ms", "worst ms",
    "failed", "tries", "CS MB (most)", "agent MB before (most)",
)  # fmt: skip
TAKEOVER_COLUMNS = (
    "standby claims s: median (worst)", "takes over s: median (worst)", "first new connection s: median (worst)",
    "longest gap s: median (worst)", "slowest connection s", "failed", "asked for SYNC",
)  # fmt: skip


def restart_row(flows: int, rounds: list[Restart]) -> str:
    waits = [1000 * wait for each in rounds for wait in each.waits]
    sync_s = median([each.complete - each.ready for each in rounds])
    cells = [
        f"{median([each.started for each in rounds]):.2f}",
        f"{median([each.ready for each in rounds]):.2f}",
        f"{median([each.complete for each in rounds]):.2f}",
        f"{flows / sync_s:,.0f}",
        f"{median([each.first for each in rounds]):.2f}",
        f"{median(waits):.2f}" if waits else "-",
        f"{percentile(waits, 0.99):.1f}" if waits else "-",
        f"{max(waits):.1f}" if waits else "-",
        f"{sum(each.failed for each in rounds)}",
        f"{max(each.tries for each in rounds)}",
        f"{max(each.cs for each in rounds) / MB:.0f} ({max(each.cs_peak for each in rounds) / MB:.0f})",
        f"{rounds[0].agent_before / MB:.0f} ({max(each.agent_peak for each in rounds) / MB:.0f})",
    ]
    return f"| {flows:,} | {' | '.join(cells)} |"


def takeover_row(flows: int, rounds: list[Takeover]) -> str:
    def of(values: list[float]) -> str:
        return f"{median(values):.3f} ({max(values):.3f})"

    cells = [
        of([each.claims for each in rounds]),
        of([each.accepted for each in rounds]),
        of([each.first for each in rounds]),
        of([each.gap for each in rounds]),
        f"{max(each.slowest for each in rounds):.2f}",
        f"{sum(each.failed for each in rounds)}",
        f"{sum(each.synchronised for each in rounds)} of {len(rounds)}",
    ]
    return f"| {flows:,} | {' | '.join(cells)} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", default="10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100, help="new connections per second")
    parser.add_argument("--only", default="restart,takeover")
    parser.add_argument("--grants", action="store_true", help="decisions ahead")
    return parser.parse_args()


def restarts(setting: Setting, number: int) -> list[Restart]:
    rounds = []
    for _ in range(number):
        rounds.append(restart(setting))
        print(f"{setting.flows}: {replace(rounds[-1], waits=[])}", file=sys.stderr)
    return rounds


def takeovers(setting: Setting, number: int) -> list[Takeover]:
    rounds = []
    for _ in range(number):
        rounds.append(takeover(setting))
        print(f"{setting.flows}: {rounds[-1]}", file=sys.stderr)
    return rounds


def main() -> None:
    options = arguments()
    rows: dict[str, list[str]] = {"restart": [], "takeover": []}
    foreign: list[float] = []
    for flows in map(int, options.flows.split(",")):
        if "restart" in options.only:
            with laboratory(flows, 1, options) as setting:
                alone = restarts(setting, options.rounds)
            rows["restart"].append(restart_row(flows, alone))
            foreign += [each.foreign_share for each in alone]
        if "takeover" in options.only:
            with laboratory(flows, 2, options) as setting:
                pairs = takeovers(setting, options.rounds)
            rows["takeover"].append(takeover_row(flows, pairs))
            foreign += [each.foreign_share for each in pairs]
    print(f"kernel {platform.release()}, {os.cpu_count()} cores, {options.rounds} rounds,"
          f" {options.rate:g} new connections per second,"
          f" {'decisions ahead' if options.grants else 'asked about'}")  # fmt: skip
    for what, columns in (("restart", RESTART_COLUMNS), ("takeover", TAKEOVER_COLUMNS)):
        if rows[what]:
            print(f"\n{what}\n| flows | {' | '.join(columns)} |")
            print(f"| ---: |{' ---: |' * len(columns)}", *rows[what], sep="\n")
    if max(foreign) > FOREIGN_SHARE:
        print(
            f"\nNot quiet: other processes took up to {max(foreign):.0%} of the processors' time."
        )


if __name__ == "__main__":
    main()
