# SPDX-License-Identifier: Apache-2.0
"""What a topology is made of: numbers, names and addresses, and nothing that runs.

    client n   h<n>       10.1.n.2/24   2001:db8:1:n::2/64   behind the one DFS that has it
    server n   server<n>  10.2.n.2/24   2001:db8:2:n::2/64   behind every DFS
    CS n       cs<n>      10.3.n.2                           management network
    DFS n      s<n>       10.3.0.n                           management network

On a client's or a server's network the DFS s<n> has the address that ends in .1 (or ::1); on a
server's, where every DFS is, the others follow: 10.2.1.101 is s1's, 10.2.1.102 is s2's.
"""

from __future__ import annotations

from dataclasses import dataclass

HTTP_PORT = 80
UDP_PORT = 53
# what the servers listen on: other ports, so that ports are translated too
SERVER_HTTP_PORT = 8080
SERVER_UDP_PORT = 5353
DFS_ID_MIN = 256
HOSTS_MAX = 100  # of a kind


@dataclass(frozen=True)
class Address:
    """An address of each family, with the lengths of their networks' prefixes."""

    ipv4: str
    ipv6: str

    def with_prefix(self) -> tuple[str, str]:
        """As `ip addr add` takes them."""
        return f"{self.ipv4}/24", f"{self.ipv6}/64"


@dataclass(frozen=True)
class Client:
    """A host that sends requests."""

    number: int

    @property
    def name(self) -> str:
        """h1"""
        return f"h{self.number}"

    @property
    def address(self) -> Address:
        """Its own."""
        return Address(f"10.1.{self.number}.2", f"2001:db8:1:{self.number:x}::2")

    @property
    def network(self) -> tuple[str, str]:
        """Where it is."""
        return f"10.1.{self.number}.0/24", f"2001:db8:1:{self.number:x}::/64"

    def gateway(self, dfs: int) -> Address:
        """The DFS's, which is the only one here."""
        del dfs
        return Address(f"10.1.{self.number}.1", f"2001:db8:1:{self.number:x}::1")


@dataclass(frozen=True)
class Server:
    """A node of the pools."""

    number: int

    @property
    def name(self) -> str:
        """server1"""
        return f"server{self.number}"

    @property
    def address(self) -> Address:
        """Its own, towards every DFS."""
        return Address(f"10.2.{self.number}.2", f"2001:db8:2:{self.number:x}::2")

    def gateway(self, dfs: int) -> Address:
        """That DFS's address beside it."""
        return Address(
            f"10.2.{self.number}.{100 + dfs}", f"2001:db8:2:{self.number:x}::{100 + dfs}"
        )


@dataclass(frozen=True)
class ControlSegment:
    """A CS: its group's virtual servers, on one address of each family."""

    number: int
    group: int
    service: str
    virtual: Address
    is_standby: bool = False  # of another one of its group, when both begin

    @property
    def name(self) -> str:
        """cs1"""
        return f"cs{self.number}"

    @property
    def address(self) -> str:
        """On the management network."""
        return f"10.3.{self.number}.2"


@dataclass(frozen=True)
class DataFlowSegment:
    """A switch with its agent."""

    number: int
    clients: tuple[Client, ...]

    @property
    def name(self) -> str:
        """s1"""
        return f"s{self.number}"

    @property
    def segment_id(self) -> int:
        """The first has 256."""
        return DFS_ID_MIN + self.number - 1

    @property
    def address(self) -> str:
        """On the management network."""
        return f"10.3.0.{self.number}"


@dataclass(frozen=True)
class Plan:
    """One topology.  Every CS controls every DFS, and every server is behind each."""

    data_flow_segments: tuple[DataFlowSegment, ...]
    control_segments: tuple[ControlSegment, ...]
    servers: tuple[Server, ...]

    @property
    def clients(self) -> tuple[Client, ...]:
        """Of all DFSs."""
        return tuple(client for dfs in self.data_flow_segments for client in dfs.clients)

    @property
    def groups(self) -> tuple[ControlSegment, ...]:
        """The CS of each group that begins as the active one."""
        return tuple(cs for cs in self.control_segments if not cs.is_standby)

    def others(self, cs: ControlSegment) -> tuple[ControlSegment, ...]:
        """The rest of its group."""
        return tuple(
            other for other in self.control_segments if other.group == cs.group and other != cs
        )

    @property
    def segments(self) -> tuple[ControlSegment | DataFlowSegment, ...]:
        """CSs first."""
        return (*self.control_segments, *self.data_flow_segments)

    def hosts(self, dfs: DataFlowSegment) -> tuple[Client | Server, ...]:
        """What a DFS connects: its clients, and the servers."""
        return (*dfs.clients, *self.servers)


def make_clients(first: int, count: int) -> tuple[Client, ...]:
    """So many, with numbers from *first* on."""
    return tuple(Client(number) for number in range(first, first + count))


def make_servers(count: int) -> tuple[Server, ...]:
    """So many."""
    return tuple(Server(number) for number in range(1, count + 1))


GROUP_1 = ControlSegment(1, 1, "www", Address("203.0.113.10", "2001:db8:113::10"))
GROUP_1_STANDBY = ControlSegment(2, 1, GROUP_1.service, GROUP_1.virtual, is_standby=True)
GROUP_2 = ControlSegment(2, 2, "shop", Address("203.0.113.20", "2001:db8:113::20"))
