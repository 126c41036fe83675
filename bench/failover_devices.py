# SPDX-License-Identifier: Apache-2.0
"""The devices under test of bench/failover.py: each runs with a standby, and can be made to fail."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from failover_table import Case
from pair_configs import STREAM_PORT, VIRTUAL_ADDRESS, VIRTUAL_PORT, VRRP
from pairs import CLIENT, SERVICE, Machine, network, pair, servers
from team import team

from admin.answers import DFS_STATUS
from splitplane.drill.field import TIMINGS, Field
from splitplane.drill.scenarios import SUPERVISOR_S
from splitplane.lab import topology
from splitplane.lab.namespaces import Namespace

STOP, KILL = signal.SIGSTOP, signal.SIGKILL

POWER_OFF, HANG, LINK_DOWN, KILLED = "power off", "hang", "link down", "kill"
RESTARTED = f"kill, restarted after {SUPERVISOR_S:g} s"  # docs/examples/systemd


@dataclass(frozen=True, slots=True)
class Running:
    """A device that is up, and whose standby is ready."""

    client: Namespace
    address: str
    http_port: int
    stream_port: int
    fail: Callable[[], None]
    takeovers: Callable[[], int]  # so far that the failure does not explain


Device = Callable[[Path, Case], AbstractContextManager[Running]]

# --- keepalived and a proxy ----------------------------------------------------------------------


def _off(machine: Machine) -> None:
    """First the links: a machine without power sends no FIN for the connections of its processes."""
    machine.cut("eth0", "eth1")
    machine.signal(KILL)


def _restart_proxy(machine: Machine) -> None:
    machine.signal(KILL, SERVICE)
    time.sleep(HAPROXY_RESTART_S)
    machine.restart()


HAPROXY_RESTART_S = 0.1  # Debian's haproxy.service: Restart=always, and systemd's RestartSec
HAPROXY_RESTARTED = f"kill, restarted after {HAPROXY_RESTART_S:g} s"
MACHINE_FAILURES: dict[str, Callable[[Machine], None]] = {
    POWER_OFF: _off,
    HANG: lambda machine: machine.signal(STOP),
    LINK_DOWN: lambda machine: machine.cut("eth0"),
}
PAIR_FAILURES: dict[tuple[str, str], Callable[[Machine], None]] = {
    **{("active machine", how): fail for how, fail in MACHINE_FAILURES.items()},
    ("its proxy", KILLED): lambda machine: machine.signal(KILL, SERVICE),
    ("its proxy", HAPROXY_RESTARTED): _restart_proxy,
    ("its proxy", HANG): lambda machine: machine.signal(STOP, SERVICE),
}


@contextmanager
def keepalived(proxy: str, settings: str, scratch: Path, case: Case) -> Iterator[Running]:
    """Two machines with keepalived and *proxy*."""
    with (
        network() as spaces,
        servers(scratch),
        pair(proxy, VRRP[settings], spaces, scratch) as machines,
    ):
        fail = PAIR_FAILURES[case.part, case.failure]
        yield _running(machines, fail, spaces, was_restarted=case.failure == HAPROXY_RESTARTED)


def _running(
    machines: tuple[Machine, Machine], fail: Callable[[Machine], None], spaces: dict[str, Namespace],
    *, was_restarted: bool = False,
) -> Running:  # fmt: skip
    first, second = machines
    # the first machine's at the start, the second one's, and the first one's when it serves again
    explained = 3 if was_restarted else 2

    def takeovers() -> int:
        return max(0, first.takeovers + second.takeovers - explained)

    return Running(
        spaces[CLIENT], VIRTUAL_ADDRESS, VIRTUAL_PORT, STREAM_PORT, partial(fail, first), takeovers
    )


# --- splitplane ----------------------------------------------------------------------------------


def _cut(field: Field) -> None:
    """At the machine's own end: the DFS is not told by the kernel that there is no way to it."""
    field.lab.namespaces[field.victim].ip("link set eth0 down")


def _off_cs(field: Field) -> None:
    _cut(field)
    field.kill(field.victim)


def _restart_agent(field: Field) -> None:
    field.kill("dfs")
    time.sleep(SUPERVISOR_S)
    field.start("dfs")


CS_FAILURES: dict[tuple[str, str], Callable[[Field], None]] = {
    ("active CS's machine", POWER_OFF): _off_cs,
    # the CS is all that runs there
    ("active CS's machine", HANG): lambda field: field.stop(field.victim),
    ("active CS's machine", LINK_DOWN): _cut,
    ("active CS", KILLED): lambda field: field.kill(field.victim),
}
AGENT_FAILURES: dict[tuple[str, str], Callable[[Field], None]] = {
    ("DFS agent", RESTARTED): _restart_agent,
    ("DFS agent", KILLED): lambda field: field.kill("dfs"),
    ("DFS agent", HANG): lambda field: field.stop("dfs"),
}
TEAM_FAILURES = {("active DFS's machine", how): fail for how, fail in MACHINE_FAILURES.items()}


@contextmanager
def splitplane(timings: str, scratch: Path, case: Case) -> Iterator[Running]:
    """One DFS, and two CSs of one group."""
    with Field("failover", clients=1, timings=timings) as field:
        epoch = _epoch(field)
        what = case.part, case.failure
        fail = partial((CS_FAILURES | AGENT_FAILURES)[what], field)

        def takeovers() -> int:
            """After a CS's failure all but one; an agent's is no reason for another CS to be active."""
            if what in CS_FAILURES:
                return max(0, _epoch(field) - epoch - 1)
            return int(field.active() not in (field.victim, None))  # None: it does not answer

        yield Running(
            field.lab.namespaces["client1"], topology.VIRTUAL_ADDRESS, topology.HTTP_PORT,
            topology.STREAM_PORT, fail, takeovers,
        )  # fmt: skip


@contextmanager
def splitplane_pair(settings: str, scratch: Path, case: Case) -> Iterator[Running]:
    """Two DFSs with keepalived between them, and two CSs."""
    with (
        network() as spaces,
        servers(scratch),
        team(VRRP[settings], spaces, scratch) as machines,
    ):
        yield _running(machines, TEAM_FAILURES[case.part, case.failure], spaces)


def _epoch(field: Field) -> int:
    """How many take-overs the DFS knows of."""
    groups = field.lab.admin("dfs", DFS_STATUS).groups
    known = [cs for group in groups for cs in (group.active, *group.standbys) if cs is not None]
    return max((cs.role_epoch for cs in known), default=0)


# --- all of them ---------------------------------------------------------------------------------


DEVICES: dict[str, Device] = {
    **{
        f"{proxy}-{settings}": partial(keepalived, proxy, settings)
        for proxy in ("haproxy", "nginx")
        for settings in VRRP
    },
    **{f"splitplane-{timings}": partial(splitplane, timings) for timings in TIMINGS},
    **{f"splitplane-pair-{settings}": partial(splitplane_pair, settings) for settings in VRRP},
}


def cases(device: str) -> list[Case]:
    """What can fail of it."""
    if device.startswith("splitplane-pair"):
        return [Case(device, *what) for what in TEAM_FAILURES]
    if device.startswith("splitplane"):
        return [Case(device, *what) for what in (*CS_FAILURES, *AGENT_FAILURES)]
    # Debian's nginx.service and keepalived.service restart nothing
    unsupervised = {HAPROXY_RESTARTED} if device.startswith("nginx") else set()
    return [Case(device, *what) for what in PAIR_FAILURES if what[1] not in unsupervised]
