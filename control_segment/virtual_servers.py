# SPDX-License-Identifier: Apache-2.0
"""Virtual servers: what a new flow's destination means (wire protocol 8.3, 10.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from control_segment.config import VirtualServerConfig
from control_segment.content.config import headers_wanted
from control_segment.content.content import Content, content_of
from control_segment.nodes import Node
from control_segment.persistence import SourceAddressPersistence
from control_segment.pools import Pool, serving
from control_segment.wire import (
    PROTOCOL,
    Answer,
    dst_of,
    dst_port_and_protocol_of,
    pack_translation,
    reply_head,
    src_of,
)
from csmb.constants import Flag as VsFlag
from csmb.messages import AddVs
from ssmb.addresses import UNSPECIFIED, from_text, is_ipv4
from ssmb.constants import PROTOCOLS, Flag, ForwardMode
from ssmb.messages import Translation

_HAIRPIN_PORTS: Final = (1024, 65535)
_HAIRPIN: Final = ", from the virtual address because the client is a node of the pool"
_PROXIES: Final = {
    "http": VsFlag.HTTP_PROXY, "cookie": VsFlag.COOKIE_PROXY, "ssl": VsFlag.SSL_PROXY,
    "raw": VsFlag.RAW_PROXY, "assisted": VsFlag.CS_ASSIST,
    "hybrid": VsFlag.CS_ASSIST | VsFlag.HYBRID,
}  # fmt: skip
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
        "content",
        "fallback",
        "flags",
        "granted",
        "idle_s",
        "limited_at",
        "limited_since",
        "maintenance",
        "name",
        "own_pool",
        "persistence",
        "refused",
        "removed",
        "rule_pools",
        "serves_its_nodes",
        "source_ports",
        "total",
        "translation",
        "version",
        "without_flow",
    )

    def __init__(
        self,
        config: VirtualServerConfig,
        pool: Pool,
        default_idle_s: int,
        fallback: Pool | None = None,
        rule_pools: Sequence[Pool] = (),
    ) -> None:
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
        self.content: Content | None = None  # of kinds that read what clients say
        self.apply(config, pool, default_idle_s, fallback, rule_pools)

    @property
    def pool(self) -> Pool:
        """The one that new sessions go to: its own, unless only the fallback pool takes any."""
        return serving(self.own_pool, self.fallback)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Those that its sessions may be at."""
        own = (self.own_pool,) if self.fallback is None else (self.own_pool, self.fallback)
        return own if not self.rule_pools else (*own, *self.rule_pools.values())

    @property
    def remembers_clients(self) -> bool:
        """Whether persistence goes by a client's address, at least where nothing better is known:
        what is known of a flow that another CS has decided about."""
        config = self.config.persistence
        return self.persistence is not None and config is not None and config.kind != "ssl_session"

    def has(self, node: Node) -> bool:
        """Whether a node is configured in one of its pools that new sessions may go to."""
        if self.pool.has(node):
            return True
        return any(pool.has(node) for pool in self.rule_pools.values())

    def uses(self, pool_name: str) -> bool:
        """Whether a pool is one of `pools`."""
        if pool_name == self.own_pool.name or pool_name in self.rule_pools:
            return True
        return self.fallback is not None and pool_name == self.fallback.name

    @property
    def has_sessions(self) -> bool:
        """Whether any is left that may send, now or later."""
        return self.active > 0 or self.without_flow > 0

    def is_as(
        self,
        config: VirtualServerConfig,
        pool: Pool,
        default_idle_s: int,
        fallback: Pool | None = None,
        rule_pools: Sequence[Pool] = (),
    ) -> bool:
        """Whether `apply` would change nothing."""
        is_same = self.own_pool is pool and self.fallback is fallback
        is_same = is_same and [*self.rule_pools.values()] == [*rule_pools]
        idle_s = config.idle_timeout_s or default_idle_s
        return is_same and self.idle_s == idle_s and self.config == config

    def apply(
        self,
        config: VirtualServerConfig,
        pool: Pool,
        default_idle_s: int,
        fallback: Pool | None = None,
        rule_pools: Sequence[Pool] = (),
    ) -> None:
        """Become what a (checked) configuration says; *rule_pools*: those that its rules name."""
        self.version += 1
        self.content = content_of(config, self.content)
        self.rule_pools: dict[str, Pool] = {each.name: each for each in rule_pools}
        self.config = config
        self.name = config.name
        self.own_pool, self.fallback = pool, fallback
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
        pool = self.pool
        return self.version, self.removed, pool, pool.version, self.persistence

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

    def find_node(self, address: bytes, port: int) -> Node | None:
        """Return the node of a translation that an earlier CS made."""
        for pool in self.pools:
            node = pool.find(address, port)
            if node is not None:
                return node
        return None

    def find_node_at(self, address: bytes) -> Node | None:
        """Return the first node at an address, for a virtual server that keeps clients' ports: a
        node's own matters only to its monitors."""
        for pool in self.pools:
            node = pool.at_address(address)
            if node is not None:
                return node
        return None

    def remembered_node(self, client: bytes, now: float, pool: Pool | None = None) -> Node | None:
        """Return the node that a client (its address, or another key of 16 octets) had, if
        persistence says so and the pool has it, it accepts new sessions and has room."""
        persistence = self.persistence
        pool = self.pool if pool is None else pool
        place = None if persistence is None else persistence.find(client, now)
        if persistence is None or place is None:
            return None
        node = pool.at(place)
        if node is None and persistence.is_shared:
            node = pool.at_address(place[0])
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
        """A session of a client (its address, or another key) begins at a node."""
        if self.persistence is not None:
            self.persistence.remember(client, node.place, now)

    def learn_node(self, client: bytes, node: Node, now: float) -> None:
        """Another CS has sent a client (its address) to a node."""
        if self.remembers_clients:
            self.remember_node(client, node, now)

    def recall_node(self, client: bytes, node: Node, now: float) -> None:
        """A flow from before shows where a client is at home, if nothing newer does."""
        if not self.remembers_clients or self.persistence is None:
            return
        if self.persistence.find(client, now) is None:
            self.persistence.remember(client, node.place, now)

    def answer(self, node: Node) -> Answer:
        """Return what a REPLY says for a node; made once for all its flows."""
        answer = self.answers.get(node)
        if answer is None:
            self.answers[node] = answer = self.answer_from(node, None, 0)
        return answer

    def source_of(self, key: bytes, pool: Pool) -> Source | None:
        """Where a new session's packets to its node come from, if that is chosen here.

        A node that is a client of its own pool would be answered past the DFS by another node of
        its link, and by itself not at all.  Its packets come from the virtual address: nodes send
        what is for that address to the DFS, as what is for other clients.
        """
        if self.source_ports is not None:
            return Source(self.translation.snat_ipaddr, *self.source_ports)
        if not (self.serves_its_nodes and pool.at_address(src_of(key))):
            return None
        return Source(dst_of(key), *_HAIRPIN_PORTS, _HAIRPIN)

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
        flags |= _PROXIES.get(config.kind, VsFlag(0))
        return AddVs(
            flags=int(flags),
            virt_ipaddr=UNSPECIFIED if config.address == "*" else from_text(config.address),
            virt_port=0 if config.port == "*" else config.port,
            protocol=PROTOCOLS[config.protocol],
            next_hop_ipaddr=self.translation.next_hop_ipaddr,
            idle_timeout=config.idle_timeout_s,
            app_limit=config.app_limit,
            vs_mode=self.translation.forward_mode,
            app_data=_app_data(config),
        )


def _app_data(config: VirtualServerConfig) -> bytes:
    """What a DFS is to look for (15.1)."""
    if config.kind == "cookie" and config.persistence is not None:
        return (config.persistence.cookie or "").encode()
    if config.kind == "http":
        return ",".join(headers_wanted(config.rules, config.persistence)).encode()
    return b""


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

    def add(self, server: VirtualServer) -> None:
        """Let it be found, by its destination."""
        found, key = self._place(server)
        found[key] = server
        self.has_wildcards |= found is not self._exact

    def remove(self, server: VirtualServer) -> None:
        """Let it be found no longer."""
        found, key = self._place(server)
        if found.get(key) is server:
            del found[key]
            self.has_wildcards = bool(self._any_port or self._any_address or self._any)

    def _place(self, server: VirtualServer) -> tuple[dict[bytes, VirtualServer], bytes]:
        """Where it is found, and by what."""
        added = server.announced
        address, protocol = added.virt_ipaddr, bytes([added.protocol])
        port = added.virt_port.to_bytes(2, "big")
        any_address = bool(added.flags & VsFlag.WILDCARD_ADDR)
        any_port = bool(added.flags & VsFlag.WILDCARD_PORT)
        if any_address and any_port:
            return self._any, protocol
        if any_address:
            return self._any_address, port + protocol
        if any_port:
            return self._any_port, address + protocol
        return self._exact, address + port + protocol

    def match(self, key: bytes) -> VirtualServer | None:
        """Return the virtual server that a session's first packet was sent to."""
        server = self._exact.get(dst_of(key) + dst_port_and_protocol_of(key))
        if server is not None or not self.has_wildcards:
            return server
        protocol = bytes([key[PROTOCOL]])
        return (
            self._any_port.get(dst_of(key) + protocol)
            or self._any_address.get(dst_port_and_protocol_of(key))
            or self._any.get(protocol)
        )
