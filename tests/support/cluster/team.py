# SPDX-License-Identifier: Apache-2.0
"""Two DFSs on one link with a client, nodes and a CS, each in a network namespace: what the
laboratory, which has one DFS, cannot show.

    client   10.50.0.2 ─┐
    node n   10.9.0.1n ─┤ sw: one Ethernet; DFSs are one-armed
    dfs n    10.9.0.n ──┘ the virtual address is 10.9.0.100, the nodes' gateway
    dfs n    10.7.0.n ──── management ──── cs 10.7.0.10
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import yaml

from admin.client import call
from admin.errors import CommandError
from splitplane.lab.namespaces import Namespace, ip
from splitplane.lab.processes import wait_for
from splitplane.lab.web import pattern

VIP: Final = "10.9.0.100"
PORT: Final = 80
CLIENT: Final = "10.50.0.2"
NODES: Final = ("10.9.0.11", "10.9.0.12")
_READ: Final = 65536

_serials = itertools.count(1)


class Team:
    """Everything; use as a context."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        tag = f"t{os.getpid() % 100_000}-{next(_serials)}"
        names = ("sw", "client", "node1", "node2", "dfs1", "dfs2", "cs")
        self.namespaces = {name: Namespace(f"{tag}-{name}") for name in names}
        self.pins = {
            name: Path(f"/sys/fs/bpf/splitplane/{tag}-{name}") for name in ("dfs1", "dfs2")
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Team:
        try:
            self._wire()
            self._configure()
            for name in ("node1", "node2"):
                web = [sys.executable, "-m", "splitplane.lab.web", name, "--http", "8080"]
                self._start(name, [*web, "--udp", "0", "--stream", "0"])
            for name in ("dfs1", "dfs2", "cs"):
                self.start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for namespace in self.namespaces.values():
            namespace.delete()
        for pins in self.pins.values():
            shutil.rmtree(pins, ignore_errors=True)

    # --- set up ----------------------------------------------------------------------------------

    def _wire(self) -> None:
        for namespace in self.namespaces.values():
            namespace.create()
        switch = self.namespaces["sw"]
        switch.ip("link add br0 type bridge", "link set br0 up")
        switch.ip("link add br1 type bridge", "link set br1 up")
        addresses = {
            "client": CLIENT,
            "node1": NODES[0],
            "node2": NODES[1],
            "dfs1": "10.9.0.1",
            "dfs2": "10.9.0.2",
        }
        for name, address in addresses.items():
            self._link(name, "eth0", "br0", address)
        for number, name in enumerate(("dfs1", "dfs2"), 1):
            self._link(name, "mgmt", "br1", f"10.7.0.{number}")
            self.namespaces[name].sysctl(
                net__ipv4__ip_forward=1,
                net__ipv4__conf__all__rp_filter=0,
                net__ipv4__conf__eth0__rp_filter=0,
                net__ipv4__conf__all__send_redirects=0,
                net__ipv4__conf__eth0__send_redirects=0,
            )
            self.namespaces[name].ip("route add 10.50.0.0/24 dev eth0")
        self._link("cs", "mgmt", "br1", "10.7.0.10")
        if self.kind == "pair":
            self.namespaces["client"].ip(f"route add {VIP} dev eth0")
            for name in ("node1", "node2"):
                self.namespaces[name].ip(f"route add 10.50.0.0/24 via {VIP} dev eth0 onlink")
        else:
            self.client_way(1)
            self.node_way(1)

    def _link(self, name: str, device: str, bridge: str, address: str) -> None:
        there, switch = self.namespaces[name], self.namespaces["sw"]
        end = f"{name}{bridge}"
        ip(
            "link", "add", device, "netns", there.name, "type", "veth",
            "peer", "name", end, "netns", switch.name,
        )  # fmt: skip
        switch.ip(f"link set {end} master {bridge}", f"link set {end} up")
        there.ip(f"addr add {address}/24 dev {device}", f"link set {device} up")

    def _configure(self) -> None:
        (self.folder / "cluster.key").write_text(secrets.token_hex(32))
        (self.folder / "cluster.key").chmod(0o600)
        for number, name in enumerate(("dfs1", "dfs2"), 1):
            address = f"10.7.0.{number}"
            self._write(
                name,
                segment_id=255 + number,
                external=["eth0"],
                internal=["eth0"],
                csmb={"address": address},
                ssmb={"address": address},
                pin_path=str(self.pins[name]),
            )
        self._write(
            "cs",
            segment_id=1,
            ssmb={"address": "10.7.0.10"},
            data_flow_segments=[
                {"address": f"10.7.0.{number}", self.kind: "edge"} for number in (1, 2)
            ],
            pools=[
                {
                    "name": "web",
                    "nodes": [
                        {"name": f"node{number}", "address": address, "port": 8080}
                        for number, address in enumerate(NODES, 1)
                    ],
                }
            ],
            virtual_servers=[
                {
                    "name": "www",
                    "address": VIP,
                    "port": PORT,
                    "protocol": "tcp",
                    "pool": "web",
                    "answer_arp": self.kind == "pair",
                }
            ],
        )

    def _write(self, name: str, **fields: Any) -> None:
        fields |= {"key_file": "cluster.key", "admin_socket": str(self.folder / f"{name}.sock")}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(fields))

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.namespaces[name].command("setpriv", "--pdeathsig", "KILL", "--", *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, name: str) -> None:
        """An agent or the CS; returns once it answers."""
        kind = "cs" if name == "cs" else "dfs"
        configuration = str(self.folder / f"{name}.yaml")
        self._start(name, [sys.executable, "-m", "splitplane", kind, configuration])
        wait_for(f"{name} to answer", lambda: self._answers(name))

    def _answers(self, name: str) -> bool:
        try:
            self.status(name)
        except CommandError:
            return False
        return True

    # --- what goes on ----------------------------------------------------------------------------

    def status(self, name: str) -> Any:
        return call(self.folder / f"{name}.sock", "status")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_until_complete(self, count: int = 2) -> None:
        """So many members have every flow."""

        def complete() -> bool:
            dfss = self.status("cs")["data_flow_segments"]
            return bool(sum(each["team_state"] == "complete" for each in dfss) == count)

        wait_for(f"{count} members to be complete", complete)

    def wait_until_served(self) -> None:
        def served() -> bool:
            with self.socket(1) as sock:
                return sock.connect_ex((VIP, PORT)) == 0

        wait_for("the virtual server to be there", served)

    def socket(self, timeout_s: float = 60) -> socket.socket:
        """The client's."""
        made = self.namespaces["client"].socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(timeout_s)
        return made

    def client_way(self, number: int) -> None:
        """Its packets to the virtual address pass this DFS."""
        client = self.namespaces["client"]
        client.ip(f"route replace {VIP} via 10.9.0.{number} dev eth0 onlink")

    def node_way(self, number: int) -> None:
        """The nodes' answers pass this DFS."""
        for name in ("node1", "node2"):
            node = self.namespaces[name]
            node.ip(f"route replace 10.50.0.0/24 via 10.9.0.{number} dev eth0 onlink")

    def machine_dies(self, name: str) -> None:
        """Its links first, so that nobody hears of it."""
        self.namespaces[name].ip("link set eth0 down", "link set mgmt down")
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def agent_dies(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def mac_of_vip(self) -> str:
        """Where the client sends packets to the virtual address."""
        shown = self.namespaces["client"].run("ip", "neigh", "show", VIP).stdout.split()
        return shown[shown.index("lladdr") + 1] if "lladdr" in shown else ""

    def mac_of(self, name: str) -> str:
        shown = self.namespaces[name].run("ip", "-json", "link", "show", "eth0").stdout
        return str(json.loads(shown)[0]["address"])


class Download(threading.Thread):
    """One connection that fetches so many octets, slowly; every one is compared."""

    def __init__(self, team: Team, octets: int, rate: int) -> None:
        super().__init__()
        self.octets = octets
        self.rate = rate
        self.came = 0
        self.failure = ""
        self.connected_s = 0.0
        self._sock = team.socket()

    def run(self) -> None:
        try:
            with self._sock:
                self._fetch()
        except (OSError, ValueError) as error:
            self.failure = f"after {self.came} octets: {error or type(error).__name__}"

    def _fetch(self) -> None:
        sock, began = self._sock, time.monotonic()
        sock.connect((VIP, PORT))
        self.connected_s = time.monotonic() - began
        request = f"GET /bytes/{self.octets}?rate={self.rate} HTTP/1.1\r\nHost: www\r\n\r\n"
        sock.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            some = sock.recv(1)
            if not some:
                raise ValueError("the connection ended in the head of the answer")
            head += some
        while self.came < self.octets:
            some = sock.recv(_READ)
            if not some:
                raise ValueError("the connection ended")
            if some != pattern(self.came, len(some)):
                raise ValueError("an octet is wrong")
            self.came += len(some)
