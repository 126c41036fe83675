# SPDX-License-Identifier: Apache-2.0
"""In which circumstances new connections are made; each middle says how it serves a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from topology import IPV4, IPV6, Family


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of them."""

    meaning: str
    family: Family = IPV4
    servers: int = 1  # addresses of the one server
    method: str = "round_robin"
    source_translation: bool = False
    persistence: bool = False  # by the client's address; half of the clients are new
    other_flows: int = 0  # in the table before the first connection
    left_out: dict[str, str] = field(default_factory=dict)  # middle -> why it has no figures

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the servers."""
        return self.family.servers[: self.servers]


_NO_TABLE = {
    "haproxy": "an idle connection is two sockets and two buffers to it, no entry of a table",
    "nginx": "an idle connection is two sockets and two buffers to it, no entry of a table",
}
SCENARIOS = {
    "plain": Scenario("one node, round robin, an empty table"),
    "table-10k": Scenario("10,000 other idle flows", other_flows=10_000, left_out=_NO_TABLE),
    "table-1m": Scenario("1,000,000 other idle flows", other_flows=1_000_000, left_out=_NO_TABLE),
    "ipv6": Scenario("clients and server by IPv6", family=IPV6),
    # three nodes, because each is known by 64,512 ports of the one address, and a closed connection
    # keeps its port for a while
    "snat": Scenario(
        "source translation with ports, three nodes, round robin (proxies always do this)",
        servers=3, source_translation=True,
    ),
    "three-nodes": Scenario(
        "three nodes, least connections", servers=3, method="least_connections",
        left_out={"nftables": "it does not count connections"},
    ),
    "persistence": Scenario(
        "three nodes, round robin, persistence by source address, every second client is new",
        servers=3, persistence=True,
        left_out={
            "nftables": "it remembers no clients",
            "nginx": "the stream module remembers no clients",
        },
    ),
}  # fmt: skip
