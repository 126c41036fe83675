# SPDX-License-Identifier: Apache-2.0
"""Packets of nodes that no flow of a DFS knows: whose session they are (wire protocol 14.4).

A session is found by what its client must have sent: the node's place leads to the virtual servers
that translate to it.  A wildcard address leads nowhere, and so does a translated source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from control_segment.decisions import Decisions
from control_segment.flows import SESSION, Flow
from control_segment.model import Model
from control_segment.pairs.spares import SPARE_IDLE_S, newflow
from control_segment.pairs.teams import are_together
from control_segment.peers import Peer
from control_segment.pools import Pool
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import session_key
from csmb.constants import Flag
from csmb.messages import NodePlace
from ssmb.constants import ErrorCode
from ssmb.errors import LocalProtocolError
from ssmb.messages import NewFlow, Query

_AT_ONCE: Final = 1000  # places, between QUERYs: some 4 ms
_SORTED_MAX: Final = 2000  # places; of more it takes too long, and nobody reads them

Sender: TypeAlias = Callable[[Peer, NewFlow, float], None]


def _places_of(server: VirtualServer) -> set[NodePlace]:
    """Where a virtual server's nodes answer from."""
    places: set[NodePlace] = set()
    if not server.config.translates_address:
        return places
    announced, own = server.announced, server.config.translates_port
    for pool in server.pools:
        if pool.reached_directly:
            continue
        for node in pool.every_node():
            port = node.port
            if not (port and own):
                port = announced.virt_port  # 0: any
            places.add(NodePlace(node.address, port, announced.protocol))
    return places


class Outbound:
    """Finds the sessions of nodes' packets, and says which packets DFSs are to ask about."""

    def __init__(
        self,
        model: Model,
        decisions: Decisions,
        statistics: Statistics,
        trace: Trace,
        send: Sender,
    ) -> None:
        self._model = model
        self._decisions = decisions
        self._statistics = statistics
        self._note = trace.note
        self._send = send
        self._of: dict[VirtualServer, set[NodePlace]] = {}
        self._pools_of: dict[VirtualServer, tuple[Pool, ...]] = {}
        self._users: dict[Pool, dict[VirtualServer, None]] = {}
        self._waiting: dict[VirtualServer, None] = {}  # to be looked at
        self._by_place: dict[NodePlace, list[VirtualServer]] = {}
        self._places: list[NodePlace] = []  # never changed: who has it compares it with the next
        self.changed(model.every_server(), ())

    def places(self) -> list[NodePlace]:
        """Return where nodes' answers come from, to be translated by a DFS."""
        self._look()
        return self._places

    def _look(self) -> None:
        for _ in self.looking():
            pass

    def changed(self, servers: Iterable[VirtualServer], pools: Iterable[Pool]) -> None:
        """Virtual servers are new, other or gone; nodes of pools are at other places."""
        self._waiting.update(dict.fromkeys(servers))
        for pool in pools:
            self._waiting.update(self._users.get(pool, {}))

    def looking(self) -> Iterator[None]:
        """Look, in steps, at what has changed.  Between steps some are found as they were
        before."""
        waiting, self._waiting = self._waiting, {}
        if waiting:
            yield from self._replace(waiting)

    def _replace(self, servers: Iterable[VirtualServer]) -> Iterator[None]:
        """Each virtual server at once."""
        emptied: dict[NodePlace, None] = {}
        has_appeared, size = False, 0
        for server in servers:
            is_there = self._model.has(server)
            self._enter(server, server.pools if is_there else ())
            before = self._of.pop(server, set())
            after = _places_of(server) if is_there else set()
            if is_there:
                self._of[server] = after
            for place in before - after:
                self._by_place[place].remove(server)
                emptied[place] = None
            for place in after - before:
                has_appeared |= place not in self._by_place
                self._by_place.setdefault(place, []).append(server)
            size += 1 + len(before) + len(after)
            if size >= _AT_ONCE:
                size = 0
                yield
        vanished = [place for place in emptied if not self._by_place[place]]
        for place in vanished:
            del self._by_place[place]
        if vanished or has_appeared:
            self._places = list(self._by_place)
            if len(self._places) <= _SORTED_MAX:
                self._places.sort()

    def _enter(self, server: VirtualServer, pools: tuple[Pool, ...]) -> None:
        """It has these pools now."""
        before = self._pools_of.pop(server, ())
        if pools:
            self._pools_of[server] = pools
        for pool in before:
            users = self._users.get(pool, {})
            users.pop(server, None)
            if not users:
                self._users.pop(pool, None)
        for pool in pools:
            self._users.setdefault(pool, {})[server] = None

    def find(self, query: Query) -> Flow | None:
        """Return the session that a node's packet belongs to."""
        self._look()
        table = self._decisions.table
        for port in (query.src_port, 0):
            place = NodePlace(query.src_ipaddr, port, query.protocol)
            for server in self._by_place.get(place, ()):
                announced = server.announced
                if announced.flags & Flag.WILDCARD_ADDR:
                    continue
                key = session_key(
                    query.dst_ipaddr,
                    announced.virt_ipaddr,
                    query.dst_port,
                    announced.virt_port or query.src_port,
                    query.protocol,
                )
                flow = table.by_key.get(key)
                node = None if flow is None else flow.node.place
                if node in ((query.src_ipaddr, query.src_port), (query.src_ipaddr, 0)):
                    return flow
        return None

    def asked(self, peer: Peer, query: Query, now: float) -> ErrorCode | None:
        """A DFS asks about a node's packet; None: it was sent the flow, or is to ask again."""
        flow = self.find(query)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self._decisions.lapse(flow, now)
        if flow is None:
            if _may_know_soon(peer) or not self._would_find(query):
                self._statistics.drops["outbound_unanswered"] += 1
                return None
            return ErrorCode.UNKNOWN
        if flow.node.refuses_its_sessions and flow.state == SESSION:
            return ErrorCode.NOTAVAIL
        if are_together(flow, peer) and flow.state != SESSION:
            assert peer.member is not None, "it is of the flow's team"
            flow.spares |= peer.member.bit
            self._send(peer, newflow(flow, SPARE_IDLE_S), now)
        elif self._carried_by(flow, peer, now):
            self._send(peer, newflow(flow), now)
        self._note((now, flow.key, "asked about a packet of its node %s", (flow.node.name,)))
        return None

    def _carried_by(self, flow: Flow, peer: Peer, now: float) -> bool:
        """Let a DFS carry a session; False: there is no serial for it."""
        table = self._decisions.table
        if flow.state != SESSION and flow.peer is peer:
            return True  # its entry is not there, or not yet
        try:
            serial = 0 if table.serials is None else table.serials.take(1)
        except LocalProtocolError:
            serial = 0
        if not serial:
            return False
        table.attach(flow, peer, serial, now)
        table.spread(flow)
        return True

    def _would_find(self, query: Query) -> bool:
        """Whether a session of this node would be found: then there is none."""
        places = [NodePlace(query.src_ipaddr, port, query.protocol) for port in (query.src_port, 0)]
        servers = [server for place in places for server in self._by_place.get(place, ())]
        return all(
            not server.announced.flags & Flag.WILDCARD_ADDR and server.source_ports is None
            for server in servers
        )


def _may_know_soon(peer: Peer) -> bool:
    """Whether this DFS, or one of its team, has flows that the CS has not heard of: it reports all,
    or takes grants."""
    if peer.sync.is_running:
        return True
    if peer.member is None:
        return False
    return any(
        each.peer.sync.is_running or (each.peer.grants is not None and each.peer.grants.outstanding)
        for each in peer.member.team.members
    )
