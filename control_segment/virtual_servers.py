# SPDX-License-Identifier: Apache-2.0
"""Virtual servers: what a new flow's destination means (wire protocol 8.3, 10.3)."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from control_segment.config import VirtualServerConfig
from control_segment.nodes import Node
from control_segment.persistence import SourceAddressPersistence
from control_segment.pools import Pool
from control_segment.wire import (
    DST_IPADDR,
    DST_PORT_AND_PROTOCOL,
    PROTOCOL,
    SRC_IPADDR,
    Answer,
    pack_translation,
    reply_head,
)
from csmb.constants import Flag as VsFlag
from csmb.messages import AddVs
from ssmb.addresses import UNSPECIFIED, from_text, is_ipv4
from ssmb.constants import PROTOCOLS, Flag, ForwardMode
from ssmb.messages import Translation

_HAIRPIN_PORTS: Final = (1024, 65535)
_HAIRPIN: Final = ", from the virtual address because the client is a node of the pool"
_MODES: Final = {"nat": ForwardMode.NAT, "l2": ForwardMode.L2, "tunnel": ForwardMode.TUNNEL}


class Source(NamedTuple):
    """The source that packets to a node get: an address, and the range that its port is from."""

    address: bytes
    first_port: int
    last_port: int
    reason: str = ""  # for the trace, behind the node's


class VirtualServer:
    """One virtual server; its flows copy from it, and keep the copy when it changes."""

    __slots__ = (
        "active",
        "ahead",
        "announced",
        "answers",
        "config",
        "connection_limit",
        "flags",
        "granted",
        "idle_s",
        "limited_at",
        "limited_since",
        "maintenance",
        "name",
        "persistence",
        "pool",
        "refused",
        "removed",
        "serves_its_nodes",
        "source_ports",
        "total",
        "translation",
        "version",
        "without_flow",
    )

    def __init__(self, config: VirtualServerConfig, pool: Pool, default_idle_s: int) -> None:
        self.active = 0  # sessions that a DFS carries, and outstanding grants
        self.granted = 0  # of these, the grants
        self.ahead = 0  # sessions of `total` that took one
        self.limited_at = -math.inf  # when a new session met a limit last
        self.limited_since = -math.inf  # when a limit was met first, of those
        self.version = 0  # rises with every change
        self.without_flow = 0  # sessions that none carries now, and that may come back
        self.total = 0
        self.refused = 0
        self.removed = False  # gone from the configuration
        # What it remembers of clients, perhaps with others (`control_segment.persistence_tables`)
        self.persistence: SourceAddressPersistence | None = None
        self.apply(config, pool, default_idle_s)

    @property
    def has_sessions(self) -> bool:
        """Whether any is left that may send, now or later."""
        return self.active > 0 or self.without_flow > 0

    def is_as(self, config: VirtualServerConfig, pool: Pool, default_idle_s: int) -> bool:
        """Whether `apply` would change nothing."""
        idle_s = config.idle_timeout_s or default_idle_s
        return self.pool is pool and self.idle_s == idle_s and self.config == config

    def apply(self, config: VirtualServerConfig, pool: Pool, default_idle_s: int) -> None:
        """Become what a (checked) configuration says."""
        self.version += 1
        self.config = config
        self.name = config.name
        self.pool = pool
        self.connection_limit = config.connection_limit
        self.maintenance = config.maintenance
        self.idle_s = config.idle_timeout_s or default_idle_s
        self.flags = _reply_flags(config)
        source = config.source
        # Whether a client that is a node of its own pool gets another source (`source_of`)
        self.serves_its_nodes = source is None and config.translates_address
        self.source_ports: tuple[int, int] | None = None  # None: the client's port is kept
        if source is not None and source.ports != "keep":
            first, _, last = source.ports.partition("-")
            self.source_ports = int(first), int(last)
        self.translation = Translation(
            snat_ipaddr=UNSPECIFIED if source is None else from_text(source.address),
            next_hop_ipaddr=UNSPECIFIED if config.next_hop is None else from_text(config.next_hop),
            idle_timeout=self.idle_s,  # never 0: a data path takes a REPLY as it is
            forward_mode=_MODES[config.forward_mode],
        )
        self.announced = self._announcement()  # what DFSs are sent
        self.answers: dict[Node, Answer] = {}

    @property
    def versions(self) -> tuple[object, ...]:
        """What is equal only while nothing that new sessions get has changed."""
        return self.version, self.removed, self.pool, self.pool.version, self.persistence

    @property
    def fixed_source(self) -> Source | None:
        """Where every session's packets come from, whoever its client is."""
        if self.source_ports is None:
            return None
        return Source(self.translation.snat_ipaddr, *self.source_ports)

    @property
    def keeps_some_port(self) -> bool:
        """Whether the port at a node may be whatever its client sends to."""
        if self.config.port != "*":
            return False
        nodes = self.pool.nodes.values()
        return not self.config.translates_port or any(not node.port for node in nodes)

    def remembered_node(self, client: bytes, now: float) -> Node | None:
        """Return the node that a client (its address) had, if persistence says so and the pool has
        it, it accepts new sessions and has room."""
        persistence = self.persistence
        place = None if persistence is None else persistence.find(client, now)
        if persistence is None or place is None:
            return None
        node = self.pool.at(place)
        if node is None and persistence.is_shared:
            node = self.pool.at_address(place[0])
        if node is None or not (node.has_room and node.takes_new_sessions):
            return None
        return node

    def why_closed_to(self, client: bytes) -> str:
        """Why it is not there for a client (its address); empty if it is.  A wildcard takes clients
        of both address families, and translation does not change the family."""
        if self.maintenance:
            return "maintenance"
        if self.config.address != "*" or not self.config.translates_address:
            return ""
        node = next(iter(self.pool.nodes.values()), None)  # all are of one family
        if node is None or is_ipv4(node.address) == is_ipv4(client):
            return ""
        return f"the nodes of pool {self.pool.name} are of the other address family"

    def remember_node(self, client: bytes, node: Node, now: float) -> None:
        """A session of a client (its address) begins at a node."""
        if self.persistence is not None:
            self.persistence.remember(client, node.place, now)

    def recall_node(self, client: bytes, node: Node, now: float) -> None:
        """A flow from before shows where a client is at home, if nothing newer does."""
        if self.persistence is not None and self.persistence.find(client, now) is None:
            self.persistence.remember(client, node.place, now)

    def answer(self, node: Node) -> Answer:
        """Return what a REPLY says for a node; made once for all its flows."""
        answer = self.answers.get(node)
        if answer is None:
            self.answers[node] = answer = self.answer_from(node, None, 0)
        return answer

    def source_of(self, key: bytes) -> Source | None:
        """Where a new session's packets to its node come from, if that is chosen here.

        A node that is a client of its own pool would be answered past the DFS by another node of
        its link, and by itself not at all.  Its packets come from the virtual address: nodes send
        what is for that address to the DFS, as what is for other clients.
        """
        if self.source_ports is not None:
            return Source(self.translation.snat_ipaddr, *self.source_ports)
        if not (self.serves_its_nodes and self.pool.at_address(key[SRC_IPADDR])):
            return None
        return Source(key[DST_IPADDR], *_HAIRPIN_PORTS, _HAIRPIN)

    def answer_from(self, node: Node, source: Source | None, snat_port: int) -> Answer:
        """Return what a REPLY says for a node, with one flow's own source address and port."""
        # A node without a port keeps the client's
        flags = self.flags if node.port else self.flags & ~Flag.TRANSLATE_PORT
        translation = self.translation._replace(
            node_ipaddr=node.address,
            node_port=node.port if flags & Flag.TRANSLATE_PORT else 0,
            snat_port=snat_port,
        )
        if source is not None:
            flags |= Flag.TRANSLATE_SRC
            translation = translation._replace(snat_ipaddr=source.address)
        return reply_head(0, flags), pack_translation(translation)

    def _announcement(self) -> AddVs:
        config = self.config
        flags = VsFlag(0)
        for flag, wanted in (
            (VsFlag.TRANSLATE_ADDR, config.translates_address),
            (VsFlag.TRANSLATE_PORT, config.translates_port),
            (VsFlag.ROUTE_BY_DST_IP, config.next_hop is None),
            (VsFlag.WILDCARD_ADDR, config.address == "*"),
            (VsFlag.WILDCARD_PORT, config.port == "*"),
            (VsFlag.NOARP_MODE, not config.answer_arp),
        ):
            if wanted:
                flags |= flag
        return AddVs(
            flags=int(flags),
            virt_ipaddr=UNSPECIFIED if config.address == "*" else from_text(config.address),
            virt_port=0 if config.port == "*" else config.port,
            protocol=PROTOCOLS[config.protocol],
            next_hop_ipaddr=self.translation.next_hop_ipaddr,
            idle_timeout=config.idle_timeout_s,
            vs_mode=self.translation.forward_mode,
        )


def _reply_flags(config: VirtualServerConfig) -> Flag:
    flags = Flag(0)
    for flag, wanted in (
        (Flag.TRANSLATE_ADDR, config.translates_address),
        (Flag.TRANSLATE_PORT, config.translates_port),
        (Flag.ROUTE_BY_DST_IP, config.next_hop is None),
        (Flag.TRANSLATE_SRC, config.source is not None),
    ):
        if wanted:
            flags |= flag
    return flags


class VirtualServers:
    """Finds the virtual server of a destination: exact, then wildcard port, address, both (8.3)."""

    def __init__(self, servers: list[VirtualServer]) -> None:
        # Keys are slices of a session key: address (16), port (2), protocol (1), as far as they
        # count
        self._exact: dict[bytes, VirtualServer] = {}
        self._any_port: dict[bytes, VirtualServer] = {}
        self._any_address: dict[bytes, VirtualServer] = {}
        self._any: dict[bytes, VirtualServer] = {}
        self.has_wildcards = False
        for server in servers:
            self.add(server)

    def become(self, other: VirtualServers) -> None:
        """Find what another one finds, from now on."""
        self._exact, self._any_port = other._exact, other._any_port
        self._any_address, self._any = other._any_address, other._any
        self.has_wildcards = other.has_wildcards

    def add(self, server: VirtualServer) -> None:
        """Let it be found, by its destination."""
        added = server.announced
        address, protocol = added.virt_ipaddr, bytes([added.protocol])
        port = added.virt_port.to_bytes(2, "big")
        any_address = bool(added.flags & VsFlag.WILDCARD_ADDR)
        any_port = bool(added.flags & VsFlag.WILDCARD_PORT)
        self.has_wildcards |= any_address or any_port
        if any_address and any_port:
            self._any[protocol] = server
        elif any_address:
            self._any_address[port + protocol] = server
        elif any_port:
            self._any_port[address + protocol] = server
        else:
            self._exact[address + port + protocol] = server

    def match(self, key: bytes) -> VirtualServer | None:
        """Return the virtual server that a session's first packet was sent to."""
        server = self._exact.get(key[DST_IPADDR] + key[DST_PORT_AND_PROTOCOL])
        if server is not None or not self.has_wildcards:
            return server
        protocol = bytes([key[PROTOCOL]])
        return (
            self._any_port.get(key[DST_IPADDR] + protocol)
            or self._any_address.get(key[DST_PORT_AND_PROTOCOL])
            or self._any.get(protocol)
        )
