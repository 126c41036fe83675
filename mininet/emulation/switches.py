# SPDX-License-Identifier: Apache-2.0
"""The nodes for Mininet: hosts with both families, and two kinds of switches."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emulation.configs import GRPC_ADDRESS
from emulation.prerequisites import SWITCH
from emulation.running import Daemon, EmulationError, Folder
from mininet.node import Host, Switch

AGENT_PORT = 510  # PORT_AGENT of p4/include/constants.p4; nothing of splitplane is imported here
_TCP_LISTENING = "0A"


def run(node: Any, *commands: str) -> None:
    """Run commands that say nothing when they succeed."""
    for command in commands:
        said = node.cmd(command).strip()
        if said:
            raise EmulationError(f"{node.name}: {command}: {said}")


def sysctl(node: Any, **values: int | str) -> None:
    """Set sysctls of the node's namespace, written with __ for dots."""
    settings = " ".join(f"{name.replace('__', '.')}={value}" for name, value in values.items())
    run(node, f"sysctl -qw {settings}")


def without_offloads(node: Any) -> None:
    """A switch in user space sees frames as they leave the kernel: whole, and with checksums."""
    for name in node.intfNames():
        if name != "lo":
            node.cmd(f"ethtool -K {name} tx off rx off gro off")  # it says what else it turned off


class TwoFamilyHost(Host):  # type: ignore[misc]
    """A host whose IPv6 addresses work at once, and whose links need not be alone on a network."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **params)
        # without accept_dad=0 a new link's own address is doubted for a second; no rp_filter,
        # because a server's one address is behind each of its links
        sysctl(
            self,
            net__ipv6__conf__all__accept_dad=0,
            net__ipv6__conf__default__accept_dad=0,
            net__ipv4__conf__all__rp_filter=0,
            net__ipv4__conf__default__rp_filter=0,
        )


class DfsSwitch(Switch):  # type: ignore[misc]
    """A switch in a namespace of its own, with its agent beside it and its links as ports."""

    controlIntf = None  # Mininet's name; it sets it outside of namespaces only

    settings: Mapping[str, int] = MappingProxyType({})

    def __init__(self, name: str, **params: Any) -> None:
        params["inNamespace"] = True
        super().__init__(name, **params)
        self.folder: Folder = params["folder"]
        self.bmv2: Daemon | None = None
        run(self, "ip link set lo up")
        sysctl(self, **self.settings)

    def start(self, controllers: list[Any]) -> None:
        """Mininet's: there are no controllers, the agent is one."""
        del controllers
        without_offloads(self)
        self.start_switch()

    def start_switch(self) -> None:
        """Bring the data path up, after its links."""


class KernelSwitch(DfsSwitch):
    """Linux routes, and the agent puts its program into the kernel."""

    settings = MappingProxyType(
        {
            "net__ipv4__ip_forward": 1,
            "net__ipv6__conf__all__forwarding": 1,
            "net__ipv4__conf__all__rp_filter": 0,
            "net__ipv4__conf__default__rp_filter": 0,
            "net__ipv6__conf__all__accept_dad": 0,
            "net__ipv6__conf__default__accept_dad": 0,
        }
    )

    def start_switch(self) -> None:
        """The kernel's ports have the addresses that a P4 switch is given."""
        for port, address in self.params["addresses"].items():
            for each in address.with_prefix():
                run(self, f"ip addr add {each} dev {self.intfs[port].name}")


class Bmv2Switch(DfsSwitch):
    """BMv2's simple_switch_grpc; its gRPC server is for the agent in the same namespace only."""

    settings = MappingProxyType(
        {
            "net__ipv6__conf__default__disable_ipv6": 1,
            "net__ipv4__conf__all__rp_filter": 0,
            "net__ipv4__conf__default__rp_filter": 0,
        }
    )

    def start_switch(self) -> None:
        """The ports are BMv2's alone: the kernel has no address there and says nothing.

        Nor is any frame for it: the interfaces' own MAC addresses are not the switch's.
        """
        command = [str(shutil.which(SWITCH)), "--no-p4", "--device-id", str(self.params["number"])]
        for port in self.params["addresses"]:
            name = self.intfs[port].name
            run(self, f"ip link set {name} arp off")
            command += ["-i", f"{port}@{name}"]
        command += ["--log-console", "-L", "warn", "--"]
        command += ["--grpc-server-addr", GRPC_ADDRESS, "--cpu-port", str(AGENT_PORT)]
        self.bmv2 = Daemon(f"{self.name}-bmv2", self, command, self.folder)
        self.restart()

    def restart(self) -> None:
        """Start the process (again); its tables are empty, and the agent fills them."""
        assert self.bmv2 is not None
        self.bmv2.start(self._listens)

    def _listens(self) -> bool:
        port = f":{int(GRPC_ADDRESS.rpartition(':')[2]):04X}"
        tables = (Path(f"/proc/{self.pid}/net/{name}") for name in ("tcp", "tcp6"))
        rows = [line.split() for table in tables for line in table.read_text().splitlines()]
        return any(row[1].endswith(port) and row[3] == _TCP_LISTENING for row in rows)
