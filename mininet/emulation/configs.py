# SPDX-License-Identifier: Apache-2.0
"""The segments' configurations: plain values, from the plan alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulation.plan import (
    HTTP_PORT,
    SERVER_HTTP_PORT,
    SERVER_UDP_PORT,
    UDP_PORT,
    Address,
    Client,
    ControlSegment,
    DataFlowSegment,
    Plan,
    Server,
)

GRPC_ADDRESS = "127.0.0.1:9559"  # the loopback of the switch's own namespace


def ports(plan: Plan, dfs: DataFlowSegment) -> list[tuple[int, Client | Server]]:
    """The switch's ports, from 1 on, and the host at each: first the clients, then the servers."""
    return list(enumerate(plan.hosts(dfs), start=1))


def interface(dfs: DataFlowSegment, port: int) -> str:
    """As Mininet names it: s1-eth1."""
    return f"{dfs.name}-eth{port}"


def mac(dfs: DataFlowSegment, port: int) -> str:
    """Of the switch's end of a link."""
    return f"02:5b:00:{dfs.number:02x}:{port >> 8:02x}:{port & 0xFF:02x}"


def admin_socket(folder: Path, segment: DataFlowSegment | ControlSegment) -> Path:
    """Where `splitplane show` finds it."""
    return folder / f"{segment.name}.sock"


def dfs_config(
    plan: Plan, dfs: DataFlowSegment, target: str, folder: Path, pins: Path
) -> dict[str, Any]:
    """What the agent is started with."""
    common: dict[str, Any] = {
        "segment_id": dfs.segment_id,
        "target": target,
        "csmb": {"address": dfs.address},
        "ssmb": {"address": dfs.address},
        "key_file": "cluster.key",
        "admin_socket": str(admin_socket(folder, dfs)),
    }
    if target == "bpf":
        kernel: dict[str, Any] = {"external": [], "internal": []}
        for port, host in ports(plan, dfs):
            kernel[_side(host)].append(interface(dfs, port))
        return {**common, **kernel, "pin_path": str(pins / dfs.name)}
    interfaces = [
        {
            "port": port,
            "name": interface(dfs, port),
            "mac": mac(dfs, port),
            "addresses": list(host.gateway(dfs.number).with_prefix()),
            _side(host): True,
        }
        for port, host in ports(plan, dfs)
    ]
    switch = {
        "address": GRPC_ADDRESS,
        "device_id": dfs.number,
        "replace_program": True,  # the emulation starts its own switches, without one
        "interfaces": interfaces,
    }
    return {**common, "p4runtime": switch}


def _side(host: Client | Server) -> str:
    return "external" if isinstance(host, Client) else "internal"


def cs_config(plan: Plan, cs: ControlSegment, folder: Path) -> dict[str, Any]:
    """What the CS is started with: HTTP and an echo over UDP, in both families."""
    pools = []
    virtual_servers = []
    for suffix, virtual_address in (("", cs.virtual.ipv4), ("6", cs.virtual.ipv6)):
        for service, protocol, port, node_port in (
            (cs.service, "tcp", HTTP_PORT, SERVER_HTTP_PORT),
            ("echo", "udp", UDP_PORT, SERVER_UDP_PORT),
        ):
            name = service + suffix
            pools.append(
                {
                    "name": name,
                    "method": "round_robin",
                    "nodes": [_node(server, node_port, suffix) for server in plan.servers],
                }
            )
            virtual_servers.append(
                {
                    "name": name,
                    "address": virtual_address,
                    "port": port,
                    "protocol": protocol,
                    "pool": name,
                }
            )
    return {
        "segment_id": cs.number,
        "group_id": cs.group,
        "active": not cs.is_standby,
        "control_segments": [
            {"segment_id": other.number, "address": other.address} for other in plan.others(cs)
        ],
        "ssmb": {"address": cs.address},
        "key_file": "cluster.key",
        "admin_socket": str(admin_socket(folder, cs)),
        "data_flow_segments": [{"address": dfs.address} for dfs in plan.data_flow_segments],
        "pools": pools,
        "virtual_servers": virtual_servers,
    }


def _node(server: Server, port: int, suffix: str) -> dict[str, Any]:
    address: Address = server.address
    return {
        "name": server.name,
        "address": address.ipv6 if suffix else address.ipv4,
        "port": port,
    }
