# SPDX-License-Identifier: Apache-2.0
"""The configuration of a laboratory's segments: plain values, which a test may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from splitplane.lab import switch
from splitplane.lab.topology import (
    DFS_ADDRESS,
    HTTP_PORT,
    SERVER_HTTP_PORT,
    SERVER_STREAM_PORT,
    SERVER_UDP_PORT,
    SITE_PORT,
    STREAM_PORT,
    UDP_PORT,
    VIRTUAL_ADDRESS,
    VIRTUAL_ADDRESS_6,
    Host,
    Topology,
)

DFS_ID: Final = 256
GROUP_ID: Final = 1


def dfs_config(
    topology: Topology,
    folder: Path,
    pin_path: Path,
    *,
    target: str,
    attach: str,
    flow_capacity: int,
) -> dict[str, Any]:
    """What `splitplane dfs` is started with."""
    data_path: dict[str, Any] = (
        {"p4runtime": switch.section(topology, folder)}
        if target == "p4runtime"
        else {
            "attach": attach,
            "external": [host.name for host in topology.of("client")],
            "internal": [host.name for host in topology.of("server")],
            "pin_path": str(pin_path),
        }
    )
    return {
        "segment_id": DFS_ID,
        "target": target,
        **data_path,
        "csmb": {"address": DFS_ADDRESS},
        "ssmb": {"address": DFS_ADDRESS},
        "key_file": "cluster.key",
        "admin_socket": str(folder / f"dfs-{DFS_ID}.sock"),
        "flow_capacity": flow_capacity,
    }


_SERVICES: Final = (
    ("web", "www", "tcp", HTTP_PORT, SERVER_HTTP_PORT),
    ("echo", "echo", "udp", UDP_PORT, SERVER_UDP_PORT),
)
_STREAMS: Final = ("streams", "stream", "tcp", STREAM_PORT, SERVER_STREAM_PORT)
"""Pool, virtual server, protocol, its port, the nodes' port."""


BETA_HEADER: Final = "x-beta"
"""A request with it goes to the last server, at the virtual server `site`."""


def cs_config(
    topology: Topology,
    folder: Path,
    cs: Host,
    *,
    method: str,
    streams: bool = False,
    content: bool = False,
) -> dict[str, Any]:
    """What `splitplane cs` is started with: www and echo, over IPv4 and IPv6; with *streams* also
    `stream`, whose nodes speak first, and with *content* `site`, which reads requests."""
    families = [("", VIRTUAL_ADDRESS)]
    if topology.ipv6:
        families.append(("6", VIRTUAL_ADDRESS_6))
    pools = []
    virtual_servers = []
    for suffix, virtual_address in families:
        services = (*_SERVICES, _STREAMS) if streams else _SERVICES
        for pool, service, protocol, port, node_port in services:
            pools.append(
                {
                    "name": pool + suffix,
                    "method": method,
                    "nodes": [_node(host, node_port, suffix) for host in topology.of("server")],
                }
            )
            virtual_servers.append(
                {
                    "name": service + suffix,
                    "address": virtual_address,
                    "port": port,
                    "protocol": protocol,
                    "pool": pool + suffix,
                }
            )
    if content:
        pools.append(_beta(topology, method))
        virtual_servers.append(_site())
    return {
        "segment_id": cs.number,
        "group_id": GROUP_ID,
        "active": cs.number == 1,  # one active CS per group
        "ssmb": {"address": cs.address},
        "key_file": "cluster.key",
        "admin_socket": str(folder / f"cs-{cs.number}.sock"),
        "data_flow_segments": [{"address": DFS_ADDRESS}],
        "control_segments": [
            {"segment_id": other.number, "address": other.address}
            for other in topology.of("cs")
            if other != cs
        ],
        "pools": pools,
        "virtual_servers": virtual_servers,
    }


def _beta(topology: Topology, method: str) -> dict[str, Any]:
    nodes = [_node(host, SERVER_HTTP_PORT, "") for host in topology.of("server")[-1:]]
    return {"name": "beta", "method": method, "nodes": nodes}


def _site() -> dict[str, Any]:
    """A content-aware virtual server with two rules."""
    return {
        "name": "site",
        "address": VIRTUAL_ADDRESS,
        "port": SITE_PORT,
        "protocol": "tcp",
        "kind": "http",
        "pool": "web",
        "rules": [
            {"name": "beta", "match": {"header": {BETA_HEADER: "*"}}, "pool": "beta"},
            {"name": "no admin", "match": {"path_prefix": ["/admin/"]}, "refuse": True},
        ],
    }


def _node(host: Host, port: int, suffix: str) -> dict[str, Any]:
    address = host.address_6 if suffix else host.address
    return {"name": host.name, "address": address, "port": port}
