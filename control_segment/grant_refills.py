# SPDX-License-Identifier: Apache-2.0
"""More grants for a generation that is under way, and what a DFS has to know for them (wire
protocol 13.3, 13.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from control_segment.grant_books import GrantBook
from control_segment.grant_choices import Choices
from control_segment.grant_rings import Ring
from control_segment.grant_serials import GrantSerials
from control_segment.nodes import Node
from control_segment.peers import Peer
from ssmb.constants import GrantKind
from ssmb.grants import following
from ssmb.messages import Grant, Message

FULL_ENOUGH: Final = 0.75  # of what is wanted; below this more is granted
CLIENT_S: Final = 60  # after which a DFS asks about a client again
_TABLES: Final = frozenset((GrantKind.HASH, GrantKind.HASH_SOURCE))


class Refills:
    """Fills rings."""

    def __init__(
        self,
        choices: Choices,
        serials: GrantSerials,
        peers: Sequence[Peer],
        send: Callable[[Peer, Message, float], None],
    ) -> None:
        """`peers`: those that take grants, as they come."""
        self._choices = choices
        self._serials = serials
        self._peers = peers
        self._send = send

    def begin(self, peer: Peer, book: GrantBook, ring: Ring, now: float) -> None:
        """Send the first part of a generation, and the table if its decisions need one."""
        self._send_parts(peer, book, ring, ring.begin(now), now)
        tabled = ring.server.pool.tabled
        if not ring.is_ending and ring.kind in _TABLES and tabled is not None:
            rows = self._rows_of(ring, tabled.nodes)
            table = bytes(tabled.table.tolist())
            self._send_parts(peer, book, ring, ring.send_table(rows, table, now), now)

    @staticmethod
    def _rows_of(ring: Ring, nodes: Iterable[Node]) -> list[tuple[int, int, bytes]]:
        rows: list[tuple[int, int, bytes]] = []
        for node in nodes:
            ring.place_of(node, rows)
        return rows

    def refill(self, peer: Peer, book: GrantBook, ring: Ring, now: float) -> None:
        """Grant more if a part is used."""
        choices, server = self._choices, ring.server
        wanted = choices.wanted(book.rates.of(server), book.rates.boost(server))
        if ring.outstanding > wanted * FULL_ENOUGH:
            return
        all_outstanding = sum(len(each.grants.outstanding) for each in self._peers if each.grants)
        count = min(wanted - ring.outstanding, choices.room(server, all_outstanding))
        while count > 0:
            rows: list[tuple[int, int, bytes]] = []
            made = choices.choose(ring, min(count, ring.decisions_in_part(0)), rows, now)
            if not made:
                return
            count -= len(made)
            serial = first = self._serials.take(len(made))
            outstanding = book.outstanding
            for granted in made:
                outstanding[serial] = granted
                serial = following(serial, 1)
            decisions = [
                (each.place, 0 if each.source_port is None else each.source_port.number)
                for each in made
            ]
            part = ring.send_decisions(rows, first, decisions, now)
            self._send_parts(peer, book, ring, [part], now)

    def tell_clients(self, peer: Peer, book: GrantBook, now: float) -> None:
        """Where clients went that were asked about: the DFS need not ask again for a while."""
        clients, book.clients = book.clients, {}
        for server, nodes in clients.items():
            ring, persistence = book.rings.get(server), server.persistence
            if ring is None or ring.kind != GrantKind.CLIENTS or persistence is None:
                continue
            seconds = min(CLIENT_S, persistence.timeout_s - 1)  # never longer than known here
            if ring.is_ending or seconds <= 0:
                continue
            rows: list[tuple[int, int, bytes]] = []
            known = []
            for client, node in nodes.items():
                if node.takes_new_sessions and server.pool.has(node):
                    index = ring.place_of(node, rows)
                    if index >= 0:
                        known.append((client, index, seconds))
            self._send_parts(peer, book, ring, ring.send_clients(rows, known, now), now)

    def _send_parts(
        self, peer: Peer, book: GrantBook, ring: Ring, parts: Iterable[Grant], now: float
    ) -> None:
        book.waiting.add(ring)
        for part in parts:
            self._send(peer, part, now)
