# SPDX-License-Identifier: Apache-2.0
"""The session id that a TLS node gives out, for its CS: APP_NOTIFY (wire protocol 15.6).

Of a connection that could be spliced the agent passes the packets on itself, with the offsets that
its entry has already, until it has seen the beginning of what the node says; then it is spliced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows.handshake import Arrival, Handshake
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peers
from data_flow_segment.targets.contract import FlowEntry, InjectPacket, TransmitPacket
from data_flow_segment.targets.translation import inbound, returning
from data_flow_segment.timers import Wheel
from packets import tls
from packets.parse import FIN, RST, Packet
from packets.rewrite import decrement_ttl, translate
from ssmb.constants import AppType, Flag
from ssmb.messages import AppNotify, Session

LEARNING_S: Final = 3.0
"""For how long a node may be silent before its connection is spliced all the same."""

HELLO_MAX: Final = 4096
"""Octets of the node's that are looked at."""

_SESSION_ID: Final = 38  # in a ClientHello: type 1, length 3, version 2, random 32 (RFC 5246 7.4)
_REPLICA: Final = int(Flag.REPLICA)
_WORD32: Final = 0xFFFFFFFF


class Learner:
    """One connection."""

    __slots__ = ("after", "entry", "hello", "known", "next_seq", "opened_ms")

    def __init__(self, handshake: Handshake, entry: FlowEntry) -> None:
        self.entry = entry  # as it will be spliced
        self.opened_ms = handshake.opened_ms
        self.hello = b""  # what the node said so far
        self.after: tls.Incomplete | None = None
        first = handshake.connection.agreed.own_isn + entry.ack_offset + 1
        self.next_seq = first & _WORD32  # of the node's first octet, in its own numbers
        question = b"" if handshake.app_data is None else handshake.app_data
        length = question[_SESSION_ID] if len(question) > _SESSION_ID else 0
        self.known = question[_SESSION_ID + 1 : _SESSION_ID + 1 + length]  # what the client sent


class Learning:
    """All connections of which the node's first flight is awaited."""

    def __init__(
        self, outbox: Outbox, peers: Peers, splice: Callable[[FlowEntry, float], None]
    ) -> None:
        """`splice`: lets the target carry a flow from now on, if it is still there."""
        self.by_session: dict[Session, Learner] = {}
        self._outbox = outbox
        self._peers = peers
        self._splice = splice
        self._due: Wheel[tuple[Session, int]] = Wheel()

    def begin(self, handshake: Handshake, entry: FlowEntry, now: float) -> None:
        """It could be spliced, and is held for as long as this takes."""
        learner = Learner(handshake, entry)
        self.by_session[handshake.session] = learner
        self._due.schedule(now + LEARNING_S, (handshake.session, entry.serial))

    def came(self, session: Session, arrival: Arrival, now: float) -> None:
        """A packet of either side."""
        learner = self.by_session[session]
        packet, parsed, segment = arrival
        entry = learner.entry
        if segment.flags & (FIN | RST):  # the target is to see it
            self._end(session, learner, now)
            self._outbox.commands.append(InjectPacket(packet))
            return
        if parsed.ttl <= 1:
            self._outbox.counters["drop_held_ttl"] += 1
            return
        is_clients = (parsed.src, parsed.ports[0]) == (session.src_ipaddr, session.src_port)
        self.relay(parsed, entry, is_clients=is_clients)
        if not is_clients and segment.payload:
            if segment.seq == learner.next_seq:
                learner.next_seq = segment.end
                learner.hello += segment.payload
                self._look(session, learner, now)
            elif not learner.hello:
                self._end(session, learner, now)  # out of order: not worth waiting for

    def relay(self, parsed: Packet, entry: FlowEntry, *, is_clients: bool) -> None:
        """Send a packet on as its entry says."""
        translate(parsed, inbound(entry) if is_clients else returning(entry))
        decrement_ttl(parsed)
        octets = bytes(parsed.data[parsed.l3 : parsed.end])
        self._outbox.commands.append(TransmitPacket(octets))

    def get_timer(self) -> float | None:
        return self._due.get_timer()

    def handle_timer(self, now: float) -> None:
        """Wait no longer."""
        for session, serial in self._due.due(now):
            learner = self.by_session.get(session)
            if learner is not None and learner.entry.serial == serial:
                self._end(session, learner, now)

    def _look(self, session: Session, learner: Learner, now: float) -> None:
        hello = tls.read_server_hello(learner.hello, HELLO_MAX, learner.after)
        if isinstance(hello, tls.Incomplete) and not hello.truncated:
            learner.after = hello
            return
        if isinstance(hello, tls.ServerHello):
            names_a_session = hello.version <= tls.TLS1_2 and hello.session_id
            if names_a_session and hello.session_id != learner.known:
                self._notify(learner, hello.session_id)
        self._end(session, learner, now)

    def _notify(self, learner: Learner, session_id: bytes) -> None:
        """The active CS, and its standbys, each of which may be the next one."""
        entry = learner.entry
        group = self._peers.groups.get(entry.group_id)
        if group is None:
            return
        kind = int(AppType.SSL_SESSION_ID)
        fields = (*entry.signature, 0, kind, learner.opened_ms, session_id)
        active = group.active
        if active is not None and active.may_ask:
            active.link.send(AppNotify(0, 0, entry.serial, *fields))
            self._outbox.counters["session_ids_learnt"] += 1
        for standby in group.standbys:
            if standby.ssmb_proved and standby.hello.flags & CsmbFlag.APP_NOTIFY_CAP:
                standby.link.send(AppNotify(0, _REPLICA, entry.serial, *fields))

    def _end(self, session: Session, learner: Learner, now: float) -> None:
        del self.by_session[session]
        self._splice(learner.entry, now)
