# SPDX-License-Identifier: Apache-2.0
"""Two machines with keepalived behind one virtual address, and what can happen to them.

What serves on them is a proxy, or a DFS (team.py).

                              ┌── lb1 ──┐        ┌── server1 10.91.2.21
    client1 10.91.1.2 ── front┤         ├back ───┼── server2 10.91.2.22
                              └── lb2 ──┘        └── server3 10.91.2.23

    10.91.1.100, the virtual address, and for DFSs 10.91.2.100, the servers' default router: on lb1 or lb2

front and back are bridges in a namespace of their own.  Addresses move as keepalived does it by
default: by gratuitous ARP, which the client hears because it is on the same bridge.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pair_configs import (
    ADDRESSES,
    CHECK,
    SERVER_PORT,
    SERVER_STREAM_PORT,
    VIRTUAL_ADDRESS,
    VIRTUAL_PORT,
    Vrrp,
    haproxy,
    keepalived,
    nginx,
)
from processor_time import take, tree
from topology import process, run, wait_for_http

from admin.errors import CommandError
from splitplane.lab.namespaces import Namespace, ip, remove
from splitplane.lab.processes import wait_for

PREFIX = "spb-pair-"
CLIENT, SWITCH = "client1", "switch"
MACHINES = ("lb1", "lb2")
SERVICE = "service"  # of a machine's programs the one that serves
SERVERS = {f"server{n}": f"10.91.2.2{n}" for n in (1, 2, 3)}
FRONT = {CLIENT: "10.91.1.2", "lb1": "10.91.1.11", "lb2": "10.91.1.12"}
CONTROL_SEGMENTS = {"cs1": "10.91.2.31", "cs2": "10.91.2.32"}
BACK = {"lb1": "10.91.2.11", "lb2": "10.91.2.12", **SERVERS, **CONTROL_SEGMENTS}
HOSTS = (SWITCH, CLIENT, *MACHINES, *SERVERS, *CONTROL_SEGMENTS)


@contextmanager
def network() -> Iterator[dict[str, Namespace]]:
    """The namespaces, by host; they are gone afterwards, and so is what an earlier run left."""
    spaces = {host: Namespace(PREFIX + host) for host in HOSTS}
    for space in spaces.values():
        remove(space.name)
    try:
        _bring_up(spaces)
        yield spaces
    finally:
        for space in spaces.values():
            space.delete()


def _bring_up(spaces: dict[str, Namespace]) -> None:
    for space in spaces.values():
        space.create()
    spaces[SWITCH].ip(*(line for bridge in ("front", "back") for line in (
        f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0", f"link set {bridge} up",
    )))  # fmt: skip
    for bridge, device, addresses in (("front", "eth0", FRONT), ("back", "eth1", BACK)):
        for host, address in addresses.items():
            port = f"{host}-{bridge[0]}"
            end = f"name {device} netns {spaces[host].name}"
            ip(batch=[f"link add {port} netns {spaces[SWITCH].name} type veth peer {end}"])
            spaces[host].ip(f"addr add {address}/24 dev {device}", f"link set {device} up")
            spaces[SWITCH].ip(f"link set {port} master {bridge}", f"link set {port} up")
    # a connection a port: load must not run out of them within the minute of TIME-WAIT
    for host in (CLIENT, *MACHINES):
        spaces[host].sysctl(net__ipv4__ip_local_port_range="1024 65535", net__ipv4__tcp_tw_reuse=1)


@contextmanager
def servers(scratch: Path) -> Iterator[None]:
    """The laboratory's web servers, the same as behind splitplane."""
    with ExitStack() as stack:
        for name in SERVERS:
            command = [sys.executable, "-m", "splitplane.lab.web", name]
            command += [f"--http={SERVER_PORT}", f"--stream={SERVER_STREAM_PORT}", "--udp=0"]
            log = scratch / f"{name}.log"
            stack.enter_context(process(*command, namespace=PREFIX + name, log=log))
        for name, address in SERVERS.items():
            log = scratch / f"{name}.log"
            wait_for_http(address, SERVER_PORT, namespace=PREFIX + "lb1", log=log)
        yield


Start = Callable[[], subprocess.Popen[bytes]]


class Machine:
    """One of the pair: its two programs run."""

    def __init__(
        self, name: str, space: Namespace, service: Start, serves: Callable[[], object], log: Path
    ) -> None:
        """*service* starts what serves, and *serves* says when it does; *log*: of keepalived."""
        self.name = name
        self.log = log
        self._space = space
        self._service = service
        self._parts = {SERVICE: service()}
        wait_for(f"what serves on {name}", lambda: bool(serves()))

    def start_keepalived(self, start: Start) -> None:
        """Once it serves: a keepalived whose check fails begins in the state FAULT."""
        self._parts["keepalived"] = start()

    def signal(self, number: signal.Signals, *names: str) -> None:
        """Send it to these programs with all that descend from them; without names, to everything."""
        processes = take().processes
        for name in names or self._parts:
            for pid in tree(processes, self._parts[name].pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def restart(self) -> None:
        """Start what serves after it has ended, as a supervisor does."""
        self._parts[SERVICE] = self._service()

    def cut(self, *devices: str) -> None:
        """Take its links down: the clients' (eth0), the servers' (eth1)."""
        self._space.ip(*(f"link set {device} down" for device in devices))

    @property
    def is_running(self) -> bool:
        """Whether all its programs live."""
        return all(part.poll() is None for part in self._parts.values())

    def last_words(self) -> str:
        """The end of keepalived's log."""
        return self.log.read_text(errors="replace")[-2000:].strip()

    @property
    def has_address(self) -> bool:
        """Whether the virtual address is on it."""
        return f" {VIRTUAL_ADDRESS}/" in run(
            "ip", "-br", "addr", "show", "eth0", namespace=self._space.name
        )

    @property
    def takeovers(self) -> int:
        """How often it has taken the virtual address."""
        return self.log.read_text(errors="replace").count("(web) Entering MASTER STATE")


@contextmanager
def pair(
    proxy: str, vrrp: Vrrp, spaces: dict[str, Namespace], scratch: Path
) -> Iterator[tuple[Machine, Machine]]:
    """Both machines with a proxy, the first of which is active; *proxy*: "haproxy" or "nginx"."""
    # a fresh folder: keepalived does not start beside its predecessor's process number
    with tempfile.TemporaryDirectory(dir=scratch) as name, ExitStack() as stack:
        folder, nodes, machines = Path(name), list(SERVERS.values()), []
        for host in MACHINES:
            home = folder / host
            home.mkdir()
            config = home / f"{proxy}.conf"
            config.write_text(haproxy(nodes) if proxy == "haproxy" else nginx(nodes, home))
            flags = ["-db", "-f"] if proxy == "haproxy" else ["-c"]
            service = starter(stack, spaces[host], home / "proxy.log", proxy, *flags, str(config))
            serves = partial(_answers, spaces[host])
            machines.append(Machine(host, spaces[host], service, serves, home / "keepalived.log"))
        yield with_keepalived(machines, vrrp, spaces, stack, ADDRESSES, check=CHECK)


def starter(stack: ExitStack, space: Namespace, log: Path, *command: str) -> Start:
    """What starts a program inside, which ends with the stack."""
    return lambda: stack.enter_context(process(*command, namespace=space.name, log=log))


def _answers(space: Namespace) -> bool:
    return space.run(*CHECK.split(), check=False).returncode == 0


def with_keepalived(
    machines: list[Machine], vrrp: Vrrp, spaces: dict[str, Namespace], stack: ExitStack,
    addresses: Mapping[str, str], *, check: str | None,
) -> tuple[Machine, Machine]:  # fmt: skip
    """Run it beside what serves on both; return once the first one is active and serves."""
    for number, machine in enumerate(machines):
        home = machine.log.parent
        config = home / "keepalived.conf"
        config.write_text(keepalived(vrrp, number, addresses, check=check))
        flags = ["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--no-syslog",
                 "--use-file", str(config), "--pid", str(home / "keepalived.pid"),
                 "--vrrp_pid", str(home / "vrrp.pid")]  # fmt: skip
        machine.start_keepalived(
            starter(stack, spaces[machine.name], machine.log, "keepalived", *flags)
        )
        # what is stopped does not end by a kind word
        stack.callback(machine.signal, signal.SIGKILL)
    first, second = machines
    wait_for("keepalived to settle", lambda: _settled(first, second))
    if not first.has_address:
        raise CommandError(f"lb1 is not active: {first.last_words()}")
    wait_for_http(VIRTUAL_ADDRESS, VIRTUAL_PORT, namespace=PREFIX + CLIENT, log=first.log)
    return first, second


def _settled(first: Machine, second: Machine) -> bool:
    return not first.is_running or (first.has_address and not second.has_address)
