# SPDX-License-Identifier: Apache-2.0
"""The hosts and addresses of a laboratory.

    client1 10.1.1.2 ──┐                        ┌── server1 10.2.1.2
    client2 10.1.2.2 ──┤ dfs (10.3.0.1 on lo) ──┤── server2 10.2.2.2
                       │                        └── server3 10.2.3.2
                       └── cs1 10.3.1.2

Every host has one veth to the dfs namespace and its default route over it; IPv6 likewise below
2001:db8::/32.  The virtual addresses are on no host: only the DFS makes them answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from splitplane.lab.namespaces import Namespace, ip

VIRTUAL_ADDRESS: Final = "203.0.113.10"
VIRTUAL_ADDRESS_6: Final = "2001:db8:113::10"
HTTP_PORT: Final = 80
UDP_PORT: Final = 53
STREAM_PORT: Final = 7  # where the nodes speak first
SITE_PORT: Final = 8000  # where requests are read
# what the servers listen on: other ports, so that ports are translated too
SERVER_HTTP_PORT: Final = 8080
SERVER_UDP_PORT: Final = 5353
SERVER_STREAM_PORT: Final = 7007
DFS_ADDRESS: Final = "10.3.0.1"
HOSTS_MAX: Final = 250  # of a kind: one octet of the address

_KINDS: Final = {"client": 1, "server": 2, "cs": 3}


@dataclass(frozen=True, slots=True)
class Host:
    """One host beside the DFS."""

    kind: str
    number: int

    @property
    def name(self) -> str:
        """client1"""
        return f"{self.kind}{self.number}"

    @property
    def address(self) -> str:
        """IPv4."""
        return f"10.{_KINDS[self.kind]}.{self.number}.2"

    @property
    def address_6(self) -> str:
        """IPv6."""
        return f"2001:db8:{_KINDS[self.kind]}:{self.number:x}::2"

    @property
    def gateway(self) -> str:
        """The DFS's address on the link."""
        return f"10.{_KINDS[self.kind]}.{self.number}.1"

    @property
    def gateway_6(self) -> str:
        """IPv6."""
        return f"2001:db8:{_KINDS[self.kind]}:{self.number:x}::1"


@dataclass(frozen=True, slots=True)
class Topology:
    """How many of each, and where."""

    lab: str
    clients: int
    servers: int
    control_segments: int
    ipv6: bool

    def hosts(self) -> Iterator[Host]:
        """All but the DFS."""
        for kind, count in (
            ("client", self.clients),
            ("server", self.servers),
            ("cs", self.control_segments),
        ):
            yield from (Host(kind, number) for number in range(1, count + 1))

    def of(self, kind: str) -> list[Host]:
        """The hosts of one kind."""
        return [host for host in self.hosts() if host.kind == kind]

    def namespace(self, host: str) -> str:
        """The namespace of a host, by its name, or of "dfs"."""
        return f"{prefix(self.lab)}{host}"


def prefix(lab: str) -> str:
    """What the names of a laboratory's namespaces start with."""
    return f"sp-{lab}-"


def build(
    topology: Topology, namespaces: dict[str, Namespace], *, routed: Collection[str] = tuple(_KINDS)
) -> None:
    """Make the namespaces of "dfs" and of every host, and what is between them.

    The kernel of "dfs" has addresses on the links to hosts of the kinds *routed*; the others are
    left as they are made, for a switch.
    """
    dfs = namespaces["dfs"]
    _create(dfs)
    dfs.sysctl(
        net__ipv4__ip_forward=1,
        net__ipv4__conf__all__rp_filter=0,
        net__ipv4__conf__default__rp_filter=0,
        net__ipv6__conf__all__forwarding=1,
    )
    dfs.ip(f"addr add {DFS_ADDRESS}/32 dev lo")
    for host in topology.hosts():
        namespace = namespaces[host.name]
        _create(namespace)
        # both ends at once inside: the names never appear in the machine's own namespace
        here = f"link add {host.name} netns {dfs.name} type veth"
        ip(batch=[f"{here} peer eth0 netns {namespace.name}"])
        inside, outside = link_lines(host, ipv6=topology.ipv6)
        namespace.ip(*inside)
        if host.kind in routed:
            dfs.ip(*outside)
    for client in topology.of("client"):
        namespaces[client.name].sysctl(
            # a connection a port: load must not run out of them within the minute of TIME-WAIT
            net__ipv4__ip_local_port_range="1024 65535",
            net__ipv4__tcp_tw_reuse=1,
        )


def _create(namespace: Namespace) -> None:
    namespace.create()
    # without this a new link's own address is doubted for a second, and no neighbour is asked from
    # it meanwhile: the first connections would wait as long
    namespace.sysctl(net__ipv6__conf__all__accept_dad=0, net__ipv6__conf__default__accept_dad=0)


def link_lines(host: Host, *, ipv6: bool) -> tuple[list[str], list[str]]:
    """Lines of `ip` for the host's end of its link, and for the DFS's."""
    inside = [f"addr add {host.address}/24 dev eth0"]
    outside = [f"addr add {host.gateway}/24 dev {host.name}"]
    if ipv6:  # nodad: the addresses work at once
        inside.append(f"addr add {host.address_6}/64 dev eth0 nodad")
        outside.append(f"addr add {host.gateway_6}/64 dev {host.name} nodad")
    inside += ["link set eth0 up", f"route add default via {host.gateway}"]
    outside.append(f"link set {host.name} up")
    if ipv6:
        inside.append(f"route add default via {host.gateway_6}")
    return inside, outside
