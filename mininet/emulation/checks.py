# SPDX-License-Identifier: Apache-2.0
"""What --test and the console's `pingall`, `requests` and `drill` do; each returns whether all is
well."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from emulation.network import Network
from emulation.plan import SERVER_HTTP_PORT, Address, Client, ControlSegment, Server
from emulation.running import EmulationError, wait_for

PARTS = ("cs", "agent", "switch")
_OUTAGE_S = 3.0
_DOWNLOAD_RATE = 100_000
_DOWNLOAD_S = 12
_DOWNLOAD_OCTETS = _DOWNLOAD_RATE * _DOWNLOAD_S
_TIMEOUT_S = 90
_FAMILIES = ("IPv4", "IPv6")


def _families(address: Address) -> tuple[tuple[str, str], ...]:
    return tuple(zip(_FAMILIES, (address.ipv4, address.ipv6), strict=True))


def _url(address: str, path: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}{path}"


# --- pingall -------------------------------------------------------------------------------------


def ping_all(network: Network) -> bool:
    """Ping between all clients and servers that a DFS connects.

    Not among them: CSs, which are on a separate management network, and virtual addresses,
    which answer only for their services.  Clients behind two DFSs have no common router.
    """
    lost = 0
    for dfs in network.plan.data_flow_segments:
        hosts = network.plan.hosts(dfs)
        for index, family in enumerate(_FAMILIES):
            print(f"*** Ping through {dfs.name}, {family}")
            for host in hosts:
                others = [other for other in hosts if other is not host]
                answers = [_ping(network, host, other, index) for other in others]
                shown = [
                    other.name if answered else "X"
                    for other, answered in zip(others, answers, strict=True)
                ]
                print(f"{host.name} -> {' '.join(shown)}")
                lost += answers.count(False)
    print(f"*** {lost} pings were not answered" if lost else "*** Every connected pair answers")
    return lost == 0


def _ping(network: Network, host: Client | Server, other: Client | Server, index: int) -> bool:
    address = (other.address.ipv4, other.address.ipv6)[index]
    return ", 0% packet loss" in str(network.net[host.name].cmd(f"ping -n -c1 -W5 {address}"))


# --- requests ------------------------------------------------------------------------------------


def request_all(network: Network, each: int = 0) -> bool:
    """HTTP requests of every client to every virtual address, one connection each: who answers?"""
    each = each or 2 * len(network.plan.servers)
    print(f"*** {each} requests from each client to each virtual address")
    print(f"{'client':8}{'virtual address':22}answered")
    well = True
    for cs in network.plan.groups:
        of_all: Counter[str] = Counter()
        for client in network.plan.clients:
            for _, address in _families(cs.virtual):
                answers = request(network, client, address, each)
                said = ", ".join(f"{name} {answers[name]}" for name in sorted(answers))
                print(f"{client.name:8}{address:22}{said or 'no server'}")
                of_all += answers
                well = well and answers.total() == each
        # round robin leaves out no server
        well = well and all(of_all[server.name] for server in network.plan.servers)
    print(
        "*** Every request was answered; every server was used"
        if well
        else "*** Not every request was answered, or not every server used"
    )
    return well


def request(network: Network, client: Client, address: str, count: int) -> Counter[str]:
    """So many requests; how often each server answered."""
    ask = f"curl -sg --max-time 10 '{_url(address, '/name')}'; echo"
    said = network.net[client.name].cmd(f"for i in $(seq {count}); do {ask}; done")
    known = {server.name for server in network.plan.servers}
    return Counter(line.strip() for line in str(said).splitlines() if line.strip() in known)


def _is_answered(network: Network, client: Client, address: str) -> bool:
    return request(network, client, address, 1).total() == 1


# --- drills --------------------------------------------------------------------------------------


class _Download:
    """A slow one, from a client."""

    def __init__(self, network: Network, client: Client, address: str) -> None:
        self.what = f"{client.name} from {address}"
        self._file = network.folder.path / f"download-{client.name}-{address}"
        url = _url(address, f"/bytes/{_DOWNLOAD_OCTETS}?rate={_DOWNLOAD_RATE}")
        node = network.net[client.name]
        command = ["nsenter", f"--net=/proc/{node.pid}/ns/net", "--", "setpriv", "--pdeathsig"]
        command += ["KILL", "--", "curl", "-sSgN", "--max-time", str(_TIMEOUT_S), url]
        command += ["-o", str(self._file)]
        self._child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    @property
    def octets(self) -> int:
        """Received so far."""
        return self._file.stat().st_size if self._file.exists() else 0

    def verdict(self, expected: bytes) -> str:
        """Wait for its end: "" if every octet came, else what went wrong."""
        try:
            said = self._child.communicate(timeout=_TIMEOUT_S)[1].strip()
            if self._child.returncode != 0:
                return said or f"curl ended with {self._child.returncode}"
            return "" if self._file.read_bytes() == expected else "wrong octets"
        finally:
            self._file.unlink(missing_ok=True)

    def end(self) -> None:
        """Whatever it was doing."""
        self._child.kill()
        self._child.communicate()
        self._file.unlink(missing_ok=True)


class Drill:
    """Kill a part while downloads run; they must not notice, and new connections must come back."""

    def __init__(self, network: Network, part: str) -> None:
        if part not in PARTS:
            raise EmulationError(f"there is no {part!r} to kill; there are: {', '.join(PARTS)}")
        if part == "switch" and network.target == "bpf":
            raise EmulationError("with --target bpf the kernel is the switch; kill cs or agent")
        self._network = network
        self._part = part
        self._started = time.monotonic()
        # the first of its kind; the others continue
        self._cs = network.plan.control_segments[0]
        self._dfs = network.plan.data_flow_segments[0]
        self._switch = network.net[self._dfs.name]

    def run(self) -> bool:
        """The whole of it."""
        network = self._network
        self._say(f"*** Drill: kill -9 of {self._name()} during downloads")
        downloads = [
            _Download(network, client, address)
            for cs in network.plan.groups
            for client in network.plan.clients
            for _, address in _families(cs.virtual)
        ]
        try:
            wait_for("every download to begin", lambda: all(each.octets for each in downloads))
            before = [each.octets for each in downloads]
            self._say(f"{len(downloads)} downloads are running")
            self._kill()
            self._say(f"{self._name()} was killed")
            time.sleep(_OUTAGE_S)
            moved = [each.octets - was for each, was in zip(downloads, before, strict=True)]
            self._say(
                f"every download received at least {min(moved)} octets in the {_OUTAGE_S:.0f} s"
                " since then"
            )
            well = self._others_serve() and (min(moved) > 0 or self._part == "switch")
            self._restart()
            self._await_service()
            self._say(f"{self._name()} is back, and a new connection is answered")
            well = self._verdicts(downloads) and well
        finally:
            for each in downloads:
                each.end()
        print("*** No download failed" if well else "*** The drill failed")
        return well

    def _say(self, sentence: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {sentence}", flush=True)

    def _name(self) -> str:
        return {
            "cs": self._cs.name,
            "agent": f"{self._dfs.name}'s agent",
            "switch": f"{self._dfs.name} (BMv2)",
        }[self._part]

    def _kill(self) -> None:
        if self._part == "cs":
            self._network.control_segments[self._cs.name].kill9()
        elif self._part == "agent":
            self._network.agents[self._dfs.name].kill9()
        else:
            self._switch.bmv2.kill9()

    def _restart(self) -> None:
        if self._part == "cs":
            self._network.start_cs(self._cs)
        elif self._part == "agent":
            self._network.start_agent(self._dfs)
        else:
            self._switch.restart()

    def _unharmed(self) -> Iterator[tuple[Client, ControlSegment]]:
        """Pairs that have nothing to do with what is dead."""
        for cs in self._network.plan.control_segments:
            for dfs in self._network.plan.data_flow_segments:
                if (cs if self._part == "cs" else dfs) not in (self._cs, self._dfs):
                    yield from ((client, cs) for client in dfs.clients)

    def _others_serve(self) -> bool:
        pairs = list(self._unharmed())
        for client, cs in pairs:
            if not _is_answered(self._network, client, cs.virtual.ipv4):
                self._say(f"{client.name} gets no answer from {cs.service}, which was not killed")
                return False
        if pairs:
            self._say("meanwhile new connections that do not depend on it are answered")
        return True

    def _await_service(self) -> None:
        self._network.wait_until_serving()
        for client in self._dfs.clients:
            for _, address in _families(self._cs.virtual):
                wait_for(
                    f"{client.name} to be answered by {address}",
                    partial(_is_answered, self._network, client, address),
                )

    def _verdicts(self, downloads: list[_Download]) -> bool:
        expected = self._expected()
        wrong = {each.what: each.verdict(expected) for each in downloads}
        for what in wrong:
            if wrong[what]:
                self._say(f"{what}: {wrong[what]}")
        right = sum(not wrong[what] for what in wrong)
        self._say(
            f"{right} of {len(wrong)} downloads are complete and correct"
            f" ({_DOWNLOAD_OCTETS} octets each)"
        )
        return right == len(wrong)

    def _expected(self) -> bytes:
        """What a server sends to itself: no DFS has touched it."""
        node: Any = self._network.net[self._network.plan.servers[0].name]
        url = f"http://127.0.0.1:{SERVER_HTTP_PORT}/bytes/{_DOWNLOAD_OCTETS}"
        command = ["nsenter", f"--net=/proc/{node.pid}/ns/net", "--", "curl", "-sS", url]
        return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
