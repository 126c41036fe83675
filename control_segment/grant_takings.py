# SPDX-License-Identifier: Apache-2.0
"""What became of grants: TAKEN, and every other message about a granted serial (wire protocol
13.4).

A serial is outstanding at one DFS at most, and whatever says first what became of it takes it out.
So a grant is counted once, however often and in whatever order messages come.

TAKEN comes for every flow: it is read by position, and the record of a flow is entered without a
look at anything that its grant has decided already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control_segment.decisions import Decisions
from control_segment.flows import Flow
from control_segment.grant_books import EARLY_MAX, Doubt, GrantBook, Granted
from control_segment.grant_choices import Choices
from control_segment.grant_rings import Ring
from control_segment.nodes import Node
from control_segment.peers import Peer
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import (
    PROTOCOL,
    dst_of,
    dst_port_of,
    signature_of,
    src_of,
    taken_flow,
    taken_flows,
    with_snat_port,
)
from ssmb.constants import GRANTED_MAX, REAP_RETRY_MS, REAP_TRIES
from ssmb.grants import SUPERSEDED, following, is_after
from ssmb.messages import Timeout
from ssmb.serials import is_cs_originated

_WORD32: Final = 0xFFFF_FFFF
_ASK_AGAIN_S: Final = REAP_RETRY_MS / 1000


class Takings:
    """Turns outstanding grants into flow records, or counts them back."""

    def __init__(
        self,
        decisions: Decisions,
        choices: Choices,
        statistics: Statistics,
        trace: Trace,
        send_low: Callable[[Peer, Timeout, float], None],
    ) -> None:
        self._decisions = decisions
        self._choices = choices
        self._table = decisions.table
        self._by_key = decisions.table.by_key
        self._statistics = statistics
        self._note = trace.note
        self._send_low = send_low
        self._late: list[Flow] = []  # entered by grants of a generation that is over

    def take_late(self) -> list[Flow]:
        """Return, once, the flows that were entered by grants of a generation that is over."""
        late, self._late = self._late, []
        return late

    def came(
        self,
        peer: Peer,
        book: GrantBook,
        sequence: int,
        timestamp: int,
        flows: bytes,
        now: float,
    ) -> None:
        """Carry out a TAKEN, and those that waited for it."""
        ahead = sequence - book.sequence
        if ahead <= 0 or sequence in book.early:
            return
        if ahead > 1:
            if ahead <= EARLY_MAX:
                book.early[sequence] = timestamp, flows
            return
        self._carry_out(peer, book, timestamp, flows, now)
        book.sequence = sequence
        while book.early:
            waiting = book.early.pop(book.sequence + 1, None)
            if waiting is None:
                break
            book.sequence += 1
            self._carry_out(peer, book, *waiting, now)

    def _carry_out(
        self, peer: Peer, book: GrantBook, timestamp: int, flows: bytes, now: float
    ) -> None:
        outstanding, by_key, note, table = book.outstanding, self._by_key, self._note, self._table
        ring: Ring | None = None  # whose flows come one behind the other, mostly
        late = count = 0
        for error, serial, key, place, number in taken_flows(flows):
            granted = outstanding.get(serial)
            if error or granted is None or key in by_key:
                self._count(book, ring, count)
                ring = None
                if error:
                    self._came_back(book, error, serial, key, number)
                elif granted is not None:
                    age_s = ((timestamp - number) & _WORD32) / 1000
                    self._enter_again(peer, book, serial, key, place, now - age_s, now)
                late += granted is None and not error
                continue
            if granted.ring is not ring:
                self._count(book, ring, count)
                ring, count = granted.ring, 0
                server, answers = ring.server, ring.answers
                idle_s, persistence, name = server.idle_s, server.persistence, server.name
                slot, filed = table.slot_of(idle_s, now)
            del outstanding[serial]
            node = granted.node
            if node is None:
                place = place if place < len(answers) else 0
                node = ring.nodes[place]
                node.session_started(now)
            else:
                place = granted.place
                ring.uses[place] -= 1
                node.granted -= 1
            head, tail = answers[place]
            if granted.source_port is not None:
                tail = with_snat_port(tail, granted.source_port.number)
            flow = Flow(key, serial, peer, server, node, head, tail, idle_s, now)
            flow.source_port = granted.source_port
            table.add(flow, slot, filed)
            count += 1
            if ring.is_over:
                self._late.append(flow)
            if persistence is not None:
                server.remember_node(src_of(key), node, now)
            note((now, key, "virtual server %s: node %s, granted", (name, node.name)))
        self._count(book, ring, count)
        self._statistics.drops["taken_late"] += late
        self._spread(peer, flows)

    def _spread(self, peer: Peer, flows: bytes) -> None:
        """Let the other members of its DFS's team hold what has just been entered."""
        if peer.member is None:
            return
        for error, serial, key, _, _ in taken_flows(flows):
            flow = self._by_key.get(key)
            if not error and flow is not None and flow.serial == serial and not flow.spares:
                self._table.spread(flow)

    @staticmethod
    def _count(book: GrantBook, ring: Ring | None, count: int) -> None:
        """So many flows took grants of this ring, and are counted as sessions already."""
        if ring is None:
            return
        server, took = ring.server, book.rates.took
        server.granted -= count
        server.ahead += count
        server.total += count
        ring.outstanding -= count
        book.touched.add(ring)
        took[server] = took.get(server, 0) + count

    def _came_back(self, book: GrantBook, error: int, serial: int, key: bytes, number: int) -> None:
        if error == SUPERSEDED:
            self._never_came(book, serial, key, number)
        else:
            self.returned(book, serial, min(number, GRANTED_MAX) if number else 1)

    def _enter_again(
        self,
        peer: Peer,
        book: GrantBook,
        serial: int,
        key: bytes,
        index: int,
        began: float,
        now: float,
    ) -> None:
        """The signature stands for a session already, which is over, or else the later of the two:
        if it was asked about after this flow began, the DFS has to say."""
        known = self._by_key[key]
        is_asked = not is_cs_originated(known.serial)
        if is_asked and known.peer is peer and known.opened > began:
            book.doubts.setdefault(serial, Doubt(key, 0, now))
        else:
            self._enter(peer, book, serial, key, known, index, now)

    def _enter(
        self,
        peer: Peer,
        book: GrantBook,
        serial: int,
        key: bytes,
        known: Flow | None,
        index: int,
        now: float,
    ) -> Flow:
        """The flow is there; *known*: what its signature stood for until now."""
        if known is not None:
            self._note((now, key, "%s: the previous session is over", ("it took a grant",)))
            self._table.end(known)
        book.doubts.pop(serial, None)
        self._carry_out(peer, book, 0, taken_flow(serial, key, index), now)
        flow = self._by_key[key]
        flow.previous_serial = 0 if known is None else known.serial
        return flow

    def returned(self, book: GrantBook, serial: int, count: int) -> None:
        """So many grants, from this serial on, were not taken."""
        outstanding, give_back = book.outstanding, self._choices.give_back
        for _ in range(count):
            granted = outstanding.pop(serial, None)
            if granted is not None:
                give_back(granted)
                book.touched.add(granted.ring)
                self._table.release_serial(serial)
            if book.doubts:
                book.doubts.pop(serial, None)
            serial = following(serial, 1)

    def _never_came(self, book: GrantBook, last: int, key: bytes, generation: int) -> None:
        """What was granted after *last* and before that generation got lost on its way."""
        protocol = key[PROTOCOL]
        server = dst_of(key), int.from_bytes(dst_port_of(key), "big"), protocol
        for serial, granted in tuple(book.outstanding.items()):
            ring = granted.ring
            if (
                ring.generation < generation
                and ring.lease_id == book.lease_id
                and ring.key == server
                and is_after(serial, last)
            ):
                self.returned(book, serial, 1)

    def claim(
        self, peer: Peer, key: bytes, serial: int, now: float, *, node: Node | None, is_over: bool
    ) -> Flow | None:
        """Another message is about an outstanding serial: it says as much as TAKEN.

        `node`: if it names one; `is_over`: the flow has ended, and what its signature stands for by
        now may be a later one.  None: it is counted, and there is nothing more to do.
        """
        book = peer.grants
        granted = None if book is None else book.outstanding.get(serial)
        if book is None or granted is None:
            return None
        book.doubts.pop(serial, None)
        known = self._by_key.get(key)
        if known is not None and is_over:
            self._count_only(book, granted, serial)
            return None
        ring = granted.ring
        if granted.node is None and node is None:
            node = _node_of(ring.server, key, now)
        index = ring.nodes.index(node) if node is not None and node in ring.nodes else 0
        return self._enter(peer, book, serial, key, known, index, now)

    def _count_only(self, book: GrantBook, granted: Granted, serial: int) -> None:
        """It was taken, and its flow is over."""
        self.returned(book, serial, 1)
        server, node = granted.ring.server, granted.node
        server.ahead += 1
        server.total += 1
        if node is not None:
            node.total += 1

    def ask_about_doubts(self, peer: Peer, book: GrantBook, now: float) -> None:
        """Is a flow that is said to have taken a grant the one that its signature stands for?"""
        for serial, doubt in tuple(book.doubts.items()):
            if now < doubt.ask_at:
                continue
            if doubt.tries >= REAP_TRIES:
                self.returned(book, serial, 1)
                continue
            book.doubts[serial] = Doubt(doubt.key, doubt.tries + 1, now + _ASK_AGAIN_S)
            self._send_low(peer, Timeout(0, 0, serial, *signature_of(doubt.key)), now)


def _node_of(server: VirtualServer, key: bytes, now: float) -> Node | None:
    """Return the node that a DFS finds for a client by itself."""
    if server.persistence is not None:
        return server.remembered_node(src_of(key), now)
    return server.pool.method.pick(key, now)
