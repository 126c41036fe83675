# SPDX-License-Identifier: Apache-2.0
"""A laboratory whose DFS is a P4 switch: BMv2 in the namespace of the DFS.

    client1 ══ port 1   ┐                     ┌ port 251 ══ server1
    client2 ══ port 2   ┤  simple_switch_grpc ┤ port 252 ══ server2
                        └────── gRPC ─────────┘
                        agent (10.3.0.1 on lo) ── cs1

The switch takes each frame off a link by a packet socket and puts it on another.  The kernel of the
namespace has no part in it: no addresses, no ARP, no routes there; it only carries what agent and
CS say.  A packet socket gets what a network card would finish unfinished: no checksums yet, many
segments in one.  So links to the switch have nothing to offload to.
"""

from __future__ import annotations

import shutil
import socket
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from admin.errors import MachineError
from splitplane.lab.namespaces import Namespace
from splitplane.lab.topology import Host, Topology

SWITCH: Final = "simple_switch_grpc"
_FIRST_PORT: Final = {"client": 1, "server": 251}  # up to 250 of each
_OFF: Final = ("rx", "off", "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off")


def require_switch() -> None:
    """End with a clear line where BMv2 is not installed."""
    if shutil.which(SWITCH) is None:
        raise MachineError(
            f"not installed: {SWITCH} (BMv2); install p4lang's package p4lang-bmv2:"
            " https://github.com/p4lang/behavioral-model#installing-bmv2"
        )


def ports(topology: Topology) -> list[tuple[int, Host]]:
    """The hosts on the switch, by port."""
    return [
        (first + host.number - 1, host)
        for kind, first in _FIRST_PORT.items()
        for host in topology.of(kind)
    ]


def socket_path(folder: Path) -> Path:
    """Where the switch is spoken to; namespaces do not divide it."""
    return folder / "switch.grpc"


def section(topology: Topology, folder: Path) -> dict[str, Any]:
    """The DFS's section `p4runtime`: what the kernel would have had on these links."""
    return {
        "address": f"unix:{socket_path(folder)}",
        "device_id": _device_id(topology),
        "replace_program": True,  # the laboratory starts its own switch, without one
        "interfaces": [_interface(topology, port, host) for port, host in ports(topology)],
    }


def _interface(topology: Topology, port: int, host: Host) -> dict[str, Any]:
    addresses = [f"{host.gateway}/24"]
    if topology.ipv6:
        addresses.append(f"{host.gateway_6}/64")
    return {
        "port": port,
        "name": host.name,
        "mac": f"02:5b:00:00:{port >> 8:02x}:{port & 0xFF:02x}",
        "addresses": addresses,
        "external" if host.kind == "client" else "internal": True,
    }


def _device_id(topology: Topology) -> int:
    """Its own for each laboratory: some builds of BMv2 name files below /tmp by it."""
    return zlib.crc32(topology.lab.encode()) or 1


def prepare_links(topology: Topology, namespaces: dict[str, Namespace]) -> None:
    """Keep the kernel out of the links that are the switch's ports."""
    dfs = namespaces["dfs"]
    names = [host.name for _, host in ports(topology)]
    dfs.sysctl(**{f"net__ipv6__conf__{name}__disable_ipv6": 1 for name in names})
    dfs.ip(*(f"link set {name} arp off promisc on up" for name in names))
    for name in names:
        dfs.run("ethtool", "-K", name, *_OFF)
        namespaces[name].run("ethtool", "-K", "eth0", *_OFF)


def command(topology: Topology, folder: Path) -> list[str]:
    """What runs the laboratory's switch."""
    links = {port: host.name for port, host in ports(topology)}
    return switch_command(links, _device_id(topology), socket_path(folder))


def switch_command(
    links: Mapping[int, str],
    device_id: int,
    grpc: Path,
    *,
    agent_port: int | None = None,
    program: Path | None = None,
) -> list[str]:
    """What runs a switch between these links, without a program: the agent brings it.

    `agent_port`: another one than splitplane's program has.  `program`: one that it has already.
    """
    # the laboratory's commands answer without loading a segment
    from data_flow_segment.targets.p4runtime.constants import PORT_AGENT

    named = [f"-i{port}@{link}" for port, link in links.items()]
    identity = ["--device-id", str(device_id), "--log-level", "off"]
    agent = ["--grpc-server-addr", f"unix:{grpc}", "--cpu-port", str(agent_port or PORT_AGENT)]
    begins_with = "--no-p4" if program is None else str(program)
    return [SWITCH, begins_with, *named, *identity, "--", *agent]


def answers(folder: Path) -> bool:
    """Whether a process listens at the socket of the laboratory's switch."""
    return listens(socket_path(folder))


def listens(grpc: Path) -> bool:
    """Whether a process listens at this one."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(grpc))
        return True
    return False
