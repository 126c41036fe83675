# SPDX-License-Identifier: Apache-2.0
"""Grants: decisions ahead for flows that are not there yet (wire protocol 13).

A DFS keeps asking how long it may use them (LEASE).  Before each answer every ring is compared with
what its virtual server is now, so a change can be missed by nobody who makes one: the next lease is
extended only when the DFS has confirmed what made the old grants void.  `look` does the same at
once, where a change is known.

`control_segment.grant_choices` chooses, `grant_takings` takes note of what became of grants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control_segment.flows import Flow
from control_segment.grant_books import GrantBook
from control_segment.grant_choices import FIRST_RATE, LAST_RATE, Choices, NoGrants
from control_segment.grant_rates import TICK_S
from control_segment.grant_refills import Refills
from control_segment.grant_rings import Ring
from control_segment.grant_serials import GrantSerials
from control_segment.grant_takings import Takings
from control_segment.peers import Peer
from control_segment.reaper import AWAY_S
from control_segment.statistics import Statistics
from control_segment.virtual_servers import VirtualServer
from ssmb.constants import GRANT_VALID_MS, Flag, GrantKind
from ssmb.messages import Grant, Lease, Message

_IDLE_TICK_S: Final = 1.0


class Grants:
    """Of one CS, for all its DFSs."""

    def __init__(
        self,
        choices: Choices,
        takings: Takings,
        serials: GrantSerials,
        statistics: Statistics,
        send: Callable[[Peer, Message, float], None],
        synchronise: Callable[[Peer, float], None],
        now: float,
    ) -> None:
        self.choices = choices
        self._takings = takings
        self._statistics = statistics
        self._send = send
        self._synchronise = synchronise
        self.reconsider: Callable[[Flow, float], None] = lambda flow, now: None  # the reaper's
        self.peers: list[Peer] = []  # those that take grants
        self._refills = Refills(choices, serials, self.peers, send)
        self._rated_at = now

    # --- a DFS ---------------------------------------------------------------------------------

    def peer_ready(self, peer: Peer, first: int, *, takes_grants: bool) -> None:
        """A connection to a DFS is new; `first` is random, for its generations."""
        if peer.grants is None and takes_grants:
            peer.grants = GrantBook(first)
            self.peers.append(peer)
        if peer.grants is not None:
            peer.grants.reconnected(peer.sync_number)

    def lease_came(self, peer: Peer, lease: Lease, now: float) -> None:
        """LEASE: for how long may grants be used (13.2)?"""
        book = peer.grants
        if book is None or not lease.lease_id or not peer.is_active:
            self._statistics.drops["no_grants"] += 1
            return
        if book.is_new_lease(lease.lease_id):
            book.begin_lease(lease.lease_id, peer.sync_number)
        elif lease.lease_id != book.lease_id or book.is_void:
            self._statistics.drops["stale_lease"] += 1
            return
        book.is_new_connection = False
        self._look_at(peer, book, now)
        valid_ms = 0 if book.is_void_unconfirmed else GRANT_VALID_MS
        answer = Lease(0, 0, 0, lease.lease_id, lease.timestamp, book.sequence, valid_ms)
        self._send(peer, answer, now)

    def grant_came(self, peer: Peer, grant: Grant, now: float) -> None:
        """GRANT with ACK: the DFS has carried it out (13.3)."""
        book = peer.grants
        if book is None or not grant.flags & Flag.ACK or grant.lease_id != book.lease_id:
            self._statistics.drops["stale_lease"] += 1
            return
        for server, ring in book.rings.items():
            if ring.generation == grant.generation:
                ring.confirmed(grant.part)
                if not ring.unconfirmed:
                    book.waiting.discard(ring)
                    if ring.is_ending:
                        del book.rings[server]
                return

    def taken_came(
        self, peer: Peer, lease_id: int, sequence: int, timestamp: int, flows: bytes, now: float
    ) -> None:
        """TAKEN: what became of grants (13.4); each once, and in order."""
        book = peer.grants
        if book is None or lease_id != book.lease_id:
            self._statistics.drops["stale_lease"] += 1
            return
        self._takings.came(peer, book, sequence, timestamp, flows, now)
        self._reconsider_late(now)
        touched, book.touched = book.touched, set()
        for ring in touched:
            if book.rings.get(ring.server) is ring and not ring.is_ending:
                self._refills.refill(peer, book, ring, now)

    def _reconsider_late(self, now: float) -> None:
        """Flows took grants from before a change: their node may be down or gone by now."""
        for flow in self._takings.take_late():
            self.reconsider(flow, now)

    @property
    def is_void_unconfirmed(self) -> bool:
        """Whether a DFS may still use grants of a generation that is over."""
        books = [peer.grants for peer in self.peers if peer.grants is not None]
        return any(book.is_void_unconfirmed for book in books)

    # --- changes ---------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Something may have changed: what was granted under the old state is void."""
        for peer in self.peers:
            if peer.grants is not None and peer.grants.rings:
                self._look_at(peer, peer.grants, now)

    def renew(self, now: float) -> None:
        """Grant anew what is granted: a standby does not know what there is (13.7)."""
        for peer in self.peers:
            book = peer.grants
            if book is None or not peer.is_active:
                continue
            for server, ring in tuple(book.rings.items()):
                if not ring.is_ending:
                    self._begin(peer, book, server, now)

    def _look_at(self, peer: Peer, book: GrantBook, now: float) -> None:
        if not peer.is_active and not book.is_void:  # nor at the DFS: another CS is active there
            book.end_lease(peer.sync_number)
        if book.old:
            self._settle_old(peer, book, now)
        is_over = self.choices.is_over
        for server, ring in tuple(book.rings.items()):
            if not ring.is_ending and is_over(ring, now):
                self._begin(peer, book, server, now)

    def _settle_old(self, peer: Peer, book: GrantBook, now: float) -> None:
        """Grants of earlier leases: taken, if a SYNC has found their flow; otherwise not."""
        is_away = book.away_since is not None and now - book.away_since >= AWAY_S
        known = peer.sync_number > book.ended_at_sync and peer.answers
        if not peer.is_connected and book.away_since is None:
            book.away_since = now
        elif peer.is_connected:
            book.away_since = None
        if peer.answers and not known:
            self._synchronise(peer, now)
        if not peer.is_active:
            known = True  # whoever is active counts them
        book.old = 0
        for serial, granted in tuple(book.outstanding.items()):
            ring = granted.ring
            if ring.lease_id == book.lease_id and not book.is_void:
                continue
            if known or is_away or ring.epoch != peer.epoch:
                self._takings.returned(book, serial, 1)
            else:
                book.old += 1

    def _begin(self, peer: Peer, book: GrantBook, server: VirtualServer, now: float) -> None:
        """A new generation, with grants if the virtual server may have some."""
        kind = self.choices.kind_of(server, now)
        rate = book.rates.of(server)
        before = book.rings.get(server)
        book.generation += 1
        is_wanted = isinstance(kind, GrantKind) and rate >= LAST_RATE
        ring = Ring(
            server,
            book.generation,
            int(kind) if isinstance(kind, GrantKind) else 0,
            book.lease_id,
            peer.epoch,
        )
        ring.is_begun = before is None  # then there is nothing that could be used meanwhile
        ring.is_ending = not is_wanted
        if before is not None:
            book.waiting.discard(before)
            before.is_over = True
        book.rings[server] = ring
        self._refills.begin(peer, book, ring, now)
        if is_wanted:
            self._refills.refill(peer, book, ring, now)

    def _refill_all(self, peer: Peer, book: GrantBook, now: float) -> None:
        for ring in tuple(book.rings.values()):
            if not ring.is_ending:
                self._refills.refill(peer, book, ring, now)

    # --- people ----------------------------------------------------------------------------------

    def why_asked(self, server: VirtualServer, now: float) -> str:
        """Why new flows of a virtual server are asked about; empty while they are granted."""
        kind = self.choices.kind_of(server, now)
        if isinstance(kind, NoGrants):
            return kind.reason
        books = [peer.grants for peer in self.peers if peer.grants is not None]
        if not any(book.lease_id and not book.is_void for book in books):
            return "no DFS takes grants"
        return "" if any(server in book.rings for book in books) else "few flows"

    # --- time ------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        due: float | None = None
        for peer in self.peers:
            book = peer.grants
            if book is None:
                continue
            timers: list[float | None] = []
            if peer.is_connected:
                timers += [ring.retry_at() for ring in book.waiting]
            if book.rates.is_new or not all(ring.is_ending for ring in book.rings.values()):
                timers.append(self._rated_at + TICK_S)
            if book.old or len(book.rates) or book.doubts:
                timers.append(self._rated_at + _IDLE_TICK_S)
            for timer in timers:
                if timer is not None and (due is None or timer < due):
                    due = timer
        return due

    def handle_timer(self, now: float) -> None:
        """Repeat what is not confirmed; follow the rates."""
        elapsed_s = now - self._rated_at
        self._reconsider_late(now)
        for peer in self.peers:
            book = peer.grants
            if book is None:
                continue
            self._look_at(peer, book, now)
            if peer.is_connected:
                for ring in book.waiting:
                    for part in ring.repeats(now):
                        self._send(peer, part, now)
            self._takings.ask_about_doubts(peer, book, now)
        if elapsed_s >= TICK_S * 0.9:
            self._rated_at = now
            for peer in self.peers:
                if peer.grants is not None:
                    self._follow(peer, peer.grants, elapsed_s, now)

    def _follow(self, peer: Peer, book: GrantBook, elapsed_s: float, now: float) -> None:
        """Begin where flows come fast, end where they do not any more."""
        rings = book.rings
        granted = {
            server
            for server, ring in rings.items()
            if ring.is_begun and ring.kind != GrantKind.CLIENTS
        }
        for server, rate in book.rates.follow(granted, elapsed_s):
            ring = rings.get(server)
            if ring is None:
                if rate >= FIRST_RATE and self._may_begin(peer, book, server, now):
                    self._begin(peer, book, server, now)
            elif rate < LAST_RATE and not ring.is_ending:
                self._begin(peer, book, server, now)
        self._refills.tell_clients(peer, book, now)
        self._refill_all(peer, book, now)

    def _may_begin(self, peer: Peer, book: GrantBook, server: VirtualServer, now: float) -> bool:
        return (
            book.lease_id != 0
            and not book.is_void
            and peer.is_fast
            and peer.is_connected
            and isinstance(self.choices.kind_of(server, now), GrantKind)
        )
