# SPDX-License-Identifier: Apache-2.0
"""What a CS has granted to one DFS and does not have back: its lease, its rings, and every
outstanding grant by serial (wire protocol 13.1, 13.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from control_segment.grant_rates import Rates

if TYPE_CHECKING:
    from control_segment.grant_rings import Ring
    from control_segment.nodes import Node
    from control_segment.source_ports import SourcePort
    from control_segment.virtual_servers import VirtualServer

_WORD32: Final = 0xFFFF_FFFF
_NEWER: Final = 1 << 31
CLIENTS_MAX: Final = 4096  # that wait to be told to the DFS
EARLY_MAX: Final = 1024  # TAKENs that came before one that is missing


class Granted:
    """An outstanding grant.  No node: the DFS finds it, by the client."""

    __slots__ = ("node", "place", "ring", "source_port")

    def __init__(
        self, ring: Ring, place: int, node: Node | None, source_port: SourcePort | None
    ) -> None:
        """`place`: the index of the node."""
        self.ring = ring
        self.place = place
        self.node = node
        self.source_port = source_port


class Doubt(NamedTuple):
    """A flow that is said to have taken a grant, and that may be over already: the DFS is asked."""

    key: bytes
    tries: int
    ask_at: float


class GrantBook:
    """Of one DFS that takes grants."""

    __slots__ = (
        "away_since",
        "clients",
        "doubts",
        "early",
        "ended_at_sync",
        "generation",
        "is_new_connection",
        "is_void",
        "lease_id",
        "old",
        "outstanding",
        "rates",
        "rings",
        "sequence",
        "touched",
        "waiting",
    )

    def __init__(self, generation: int) -> None:
        """`generation` should be random: those of an earlier process are not to be mistaken."""
        self.lease_id = 0  # 0: none yet
        self.is_void = False  # the lease is over, and the DFS has not begun another one yet
        self.is_new_connection = True  # whatever lease it names, it may be a new one
        self.sequence = 0  # of TAKENs: none is missing up to this one
        self.early: dict[int, tuple[int, bytes]] = {}  # by sequence: timestamp, flows
        self.generation = generation  # the last one given
        self.rings: dict[VirtualServer, Ring] = {}
        self.waiting: set[Ring] = set()  # of these: what was sent is not confirmed
        self.touched: set[Ring] = set()  # some of their grants were taken just now
        self.outstanding: dict[int, Granted] = {}
        self.old = 0  # of these, of earlier leases
        self.ended_at_sync = 0  # a SYNC after this one tells what became of those
        self.away_since: float | None = None
        self.doubts: dict[int, Doubt] = {}
        # where clients went that were asked about, since the DFS was told last
        self.clients: dict[VirtualServer, dict[bytes, Node]] = {}
        self.rates = Rates()

    def flow_asked(self, server: VirtualServer, client: bytes, node: Node) -> None:
        """A new flow was decided by QUERY.  On the hot path."""
        asked = self.rates.asked
        asked[server] = asked.get(server, 0) + 1
        if server.persistence is not None:
            clients = self.clients.setdefault(server, {})
            if len(clients) < CLIENTS_MAX:
                clients[client] = node

    def is_new_lease(self, lease_id: int) -> bool:
        """Whether a LEASE names another one than the current; old ones may come late."""
        ahead = (lease_id - self.lease_id) & _WORD32
        return ahead != 0 and (self.is_new_connection or not self.lease_id or ahead < _NEWER)

    def begin_lease(self, lease_id: int, sync_number: int) -> None:
        """All grants of the lease before are void at the DFS; which were taken, a SYNC tells."""
        self.end_lease(self.ended_at_sync if self.is_new_connection else sync_number)
        self.lease_id = lease_id
        self.is_void = self.is_new_connection = False
        self.sequence = 0
        self.early.clear()

    def end_lease(self, sync_number: int) -> None:
        """The DFS uses none of its grants any more."""
        self.is_void = True
        for ring in self.rings.values():
            ring.is_over = True
        for gone in (self.rings, self.waiting, self.touched, self.doubts):
            gone.clear()
        self.old = len(self.outstanding)
        self.ended_at_sync = sync_number

    def reconnected(self, sync_number: int) -> None:
        """A connection to the DFS is new: its agent may be."""
        self.is_new_connection = True
        self.ended_at_sync = sync_number

    @property
    def is_void_unconfirmed(self) -> bool:
        """Whether the DFS may still use grants of a generation that is over."""
        return any(not ring.is_begun for ring in self.waiting)
