# SPDX-License-Identifier: Apache-2.0
"""What may be granted, how much of it, and to which nodes (wire protocol 13.6).

An outstanding grant counts as a session of its virtual server, and of its node where that is known,
from when it is made.  So limits hold, and methods that choose by load see it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from control_segment.decisions import Decisions
from control_segment.grant_books import Granted
from control_segment.grant_rings import Ring
from control_segment.nodes import Node
from control_segment.source_ports import SourcePort
from control_segment.virtual_servers import Source, VirtualServer
from control_segment.wire import session_key
from ssmb.constants import GRANT_NODES_MAX, GRANT_TABLE_MAX, GRANTED_MAX, GrantKind

HORIZON_S: Final = 0.04
"""What is used in this time is outstanding at most, but for a few: TAKEN comes within 10 ms."""

LEAST: Final = 4
FIRST_RATE: Final = 20.0
"""New flows a second of a virtual server at a DFS, from which on it is worth a lease."""

LAST_RATE: Final = 5.0
"""Below this what is outstanding is taken back."""

SHARE: Final = 4
"""Of the places that a limit leaves, one in so many is granted at a time: others are for DFSs that
ask."""

AT_LIMIT_S: Final = 1.0
"""Nothing is granted for so long after a QUERY met a limit."""


class NoGrants(NamedTuple):
    """Why a virtual server's flows are asked about, all of them."""

    reason: str


class Choices:
    """Makes decisions ahead."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._table = decisions.table
        self.enabled = True  # by the configuration

    def kind_of(self, server: VirtualServer, now: float) -> GrantKind | NoGrants:
        """How a virtual server's flows can be decided ahead now, or why they cannot."""
        accepting = sum(node.takes_new_sessions for node in server.pool.nodes.values())
        if not self.enabled:
            return NoGrants("grants are switched off in the settings")
        if server.content is not None:
            return NoGrants("what clients say decides")
        if not accepting or server.removed or server.maintenance:
            return NoGrants("it takes no sessions")
        if now - server.limited_at < AT_LIMIT_S:
            return NoGrants("it is at a limit")
        if self._table.waiting.waits_for(server):
            return NoGrants("flows wait for a place")
        if server.source_ports is not None and server.keeps_some_port:
            return NoGrants("the node's port is the client's, and the source port is chosen")
        if server.persistence is None and server.pool.tabled is None:
            return GrantKind.NODES
        return self._kind_by_client(server, accepting)

    @staticmethod
    def _kind_by_client(server: VirtualServer, accepting: int) -> GrantKind | NoGrants:
        """Where the node follows from the client, so that only the DFS can find it."""
        tabled = server.pool.tabled
        if server.source_ports is not None:
            return NoGrants("the client decides the node, and the source port is chosen")
        if any(node.connection_limit for node in server.pool.nodes.values()):
            return NoGrants("the client decides the node, and nodes have limits")
        if accepting > GRANT_NODES_MAX:
            return NoGrants(f"the client decides among more than {GRANT_NODES_MAX} nodes")
        if server.persistence is not None or tabled is None:
            return GrantKind.CLIENTS
        if len(tabled.table) > GRANT_TABLE_MAX:
            return NoGrants("the method's table is too large")
        return GrantKind.HASH_SOURCE if tabled.by_source else GrantKind.HASH

    def is_over(self, ring: Ring, now: float) -> bool:
        """Whether what a ring was made under is not so any more.  Asked often."""
        server = ring.server
        return (
            ring.versions != server.versions
            or now - server.limited_at < AT_LIMIT_S
            or not self.enabled
            or self._table.waiting.waits_for(server)
        )

    def wanted(self, rate: float, boost: float = 1.0) -> int:
        """How many may be outstanding at this rate (new flows a second)."""
        return max(LEAST, min(int(rate * HORIZON_S * boost), GRANTED_MAX))

    def room(self, server: VirtualServer, outstanding: int) -> int:
        """How many more may be granted by the limits; `outstanding` of all DFSs."""
        table = self._table
        left = table.capacity - len(table.by_key) + len(table.sessions) - outstanding
        if server.connection_limit:
            free = server.connection_limit - server.active + server.granted
            left = min(left, free // SHARE - server.granted)
        free = granted = 0
        for node in server.pool.nodes.values():
            if node.takes_new_sessions:
                if not node.connection_limit:
                    return left
                free += max(0, node.connection_limit - node.active) + node.granted
                granted += node.granted
        return min(left, free // SHARE - granted)

    def choose(
        self, ring: Ring, count: int, rows: list[tuple[int, int, bytes]], now: float
    ) -> list[Granted]:
        """Make up to so many grants of a ring, and count them; *rows* gets the nodes that the DFS
        does not know yet."""
        server, made = ring.server, list[Granted]()
        if ring.kind != GrantKind.NODES:
            made = [Granted(ring, 0, None, None)] * count
        else:
            pick, source = server.pool.method.pick, server.fixed_source
            key = _key_of(server)
            while len(made) < count:
                node = pick(key, now)
                if node is None:
                    break
                index = ring.place_of(node, rows)
                if index < 0:
                    break
                port: SourcePort | None = None
                if source is not None:
                    port = self._port(source, server, node, key)
                    if port is None:
                        break
                node.session_granted(now)
                ring.uses[index] += 1
                made.append(Granted(ring, index, node, port))
                if len(made) >= ring.decisions_in_part(len(rows)):
                    break
        server.active += len(made)
        server.granted += len(made)
        ring.outstanding += len(made)
        return made

    def _port(
        self, source: Source, server: VirtualServer, node: Node, key: bytes
    ) -> SourcePort | None:
        return self._decisions.source_ports.take_for(source, server, node, key)

    def give_back(self, granted: Granted) -> None:
        """It was not taken: count it back."""
        ring, node, port = granted.ring, granted.node, granted.source_port
        server = ring.server
        server.active -= 1
        server.granted -= 1
        ring.outstanding -= 1
        if node is not None:
            node.grant_returned()
            ring.uses[granted.place] -= 1
        if port is not None:
            port.release()
        self._table.waiting.freed = True


def _key_of(server: VirtualServer) -> bytes:
    """A session's key, as far as it is known without its client."""
    announced = server.announced
    return session_key(bytes(16), announced.virt_ipaddr, 0, announced.virt_port, announced.protocol)
