# SPDX-License-Identifier: Apache-2.0
"""Packets of content-aware virtual servers and of held flows: which connection they belong to, and
what becomes of those that belong to none (docs/design/0012)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows import refusal
from data_flow_segment.flows.assisted import Assisted, is_assisted
from data_flow_segment.flows.budgets import Budgets
from data_flow_segment.flows.cookies import Cookies
from data_flow_segment.flows.early_segments import EarlySegments
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.handshake import Arrival, Handshake
from data_flow_segment.flows.handshakes import Handshakes
from data_flow_segment.flows.icmp_errors import tell
from data_flow_segment.flows.negative import NegativeEntries
from data_flow_segment.flows.put_back import put_back
from data_flow_segment.flows.splices import mss_of
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group
from data_flow_segment.peers.virtual_servers import VirtualServer, VirtualServers
from data_flow_segment.targets.contract import FlowState, PacketIn, PacketReason
from packets.parse import RST, Kind, MalformedPacket, Packet, parse
from packets.tcp import read
from splicing import cookies
from splicing.instructions import Agreed
from splicing.table import State
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import CloseReason, ErrorCode, Flag

ORPHAN_MS: Final = 4000
"""A held entry this old, of which nobody knows the connection, is nobody's: a handshake with a node
takes 3 s at most."""

_PROXIED: Final = int(PacketReason.PROXIED)
_KEPT: Final = int(PacketReason.KEPT)
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_WORD32: Final = 0xFFFFFFFF


class Proxied:
    """Where packets of reason PROXIED, HELD and KEPT come in."""

    def __init__(
        self,
        outbox: Outbox,
        servers: VirtualServers,
        endings: Endings,
        handshakes: Handshakes,
        negative: NegativeEntries,
        secrets: Cookies,
        assisted: Assisted,
    ) -> None:
        self._outbox = outbox
        self._counters = outbox.counters
        self._servers = servers
        self._endings = endings
        self._handshakes = handshakes
        self.by_session = handshakes.by_session
        self._negative = negative
        self._secrets = secrets
        self._assisted = assisted
        self._budgets = Budgets()
        self._early = EarlySegments()

    def came(self, packet: PacketIn, now: float) -> None:
        """A packet of reason PROXIED or HELD, or one of a connection that is known here."""
        handshake = self.by_session.get(packet.signature.session)
        if not self._may_be_read(packet, handshake, now):
            self._counters["drop_held_flood"] += 1
            return
        try:
            parsed = parse(packet.frame)
        except MalformedPacket:
            self._counters["drop_held"] += 1
            return
        if parsed.kind == Kind.ICMP or packet.reason == _KEPT:
            self._told(handshake, packet, parsed, now)
            return
        is_learnt = packet.signature.session in self._handshakes.splices.learning.by_session
        if handshake is None and packet.reason != _PROXIED and not is_learnt:
            self._held_of_nobody(packet, parsed, now)
            return
        try:
            arrival = Arrival(packet, parsed, read(parsed))
        except MalformedPacket:  # a fragment
            self._counters["drop_held"] += 1
            return
        if is_learnt:
            self._handshakes.splices.learning.came(packet.signature.session, arrival, now)
            return
        if handshake is not None and not self._is_another(handshake, arrival):
            self._handshakes.segment_came(handshake, arrival, now)
            return
        if handshake is not None:
            self._handshakes.drop(handshake, CloseReason.CLIENT_ABORT, now)
        self._begin(arrival, now)

    def _told(
        self, handshake: Handshake | None, packet: PacketIn, parsed: Packet, now: float
    ) -> None:
        """What no end of a connection has sent just now."""
        if packet.reason == _KEPT:
            self._handed_over(packet, parsed, now)
        elif handshake is not None:
            tell(self._handshakes, handshake, parsed, now)

    def _may_be_read(self, packet: PacketIn, handshake: Handshake | None, now: float) -> bool:
        """Whether its connection has not had its share.  Of those whose packets all pass here, and
        of those that a CS carries, each packet is a packet of the connection."""
        if handshake is None and packet.reason != _PROXIED:
            return True
        if handshake is not None and handshake.connection.state is State.RELAY:
            return True
        return self._budgets.spend(packet.signature.session, now)

    @staticmethod
    def _is_another(handshake: Handshake, arrival: Arrival) -> bool:
        """Whether the client has begun another connection from the same port."""
        cookie = arrival.segment.ack - 1 & _WORD32
        is_first = arrival.packet.reason == _PROXIED
        return is_first and cookie != handshake.connection.agreed.own_isn

    def ask_again(self, group: Group, now: float) -> None:
        """Another CS of the group is active, or it became able to answer (11.5)."""
        self._handshakes.ask_again(group, now)

    # --- a client's first data ---------------------------------------------------------------

    def answered_before(self, packet: PacketIn, serial: int, now: float) -> Handshake | None:
        """A connection about whose first data the target has asked, with this serial, and which
        goes on here; None: it does not."""
        try:
            parsed = parse(packet.frame)
            arrival = Arrival(packet, parsed, read(parsed))
        except MalformedPacket:
            self._counters["drop_held"] += 1
            return None
        handshake = self.by_session.get(packet.signature.session)
        if handshake is not None:
            return handshake if handshake.serial == serial else None
        if self._handshakes.is_targets(packet.signature, serial):
            self._counters["short_ahead"] += 1  # by the answer about a repeat that said more
            return None
        return self._begin(arrival, now, serial)

    def _begin(self, arrival: Arrival, now: float, answered: int | None = None) -> Handshake | None:
        packet = arrival.packet
        session, key = packet.signature.session, packet.virtual_server
        server = self._servers.by_key.get(key) if key is not None else None
        agreed = self._agreed(arrival, server)
        if server is None or agreed is None:
            return None
        handshakes = self._handshakes
        serial = handshakes.serial_of(session, agreed) if answered is None else answered
        if self._is_refused(packet, now):
            return None
        if self._endings.ended.has_ended(session, serial):
            self._counters["drop_held"] += 1  # a late copy of what began a connection that is over
            return None
        self._early.forget(session, arrival.segment.ack)
        handshake = handshakes.begin(arrival, server, agreed, serial, now)
        handshake.is_answered = handshake.is_known = answered is not None
        handshakes.segment_came(handshake, arrival, now)
        handshake.is_answered = False
        return handshake if self.by_session.get(session) is handshake else None

    def _agreed(self, arrival: Arrival, server: VirtualServer | None) -> Agreed | None:
        """What the client's handshake agreed on, if it is one that can go on."""
        if server is None or not server.proxied:
            self._counters["drop_no_virtual_server"] += 1
            return None
        if server.app_type is None and not server.is_raw:
            self._counters["drop_kind_unknown"] += 1
            return None
        secrets = self._secrets.of(server.group_id)
        session = arrival.packet.signature.session
        agreed = None if secrets is None else cookies.read(secrets, session, arrival.segment)
        self._counters["drop_held"] += agreed is None  # its secret is gone meanwhile
        return agreed

    def _is_refused(self, packet: PacketIn, now: float) -> bool:
        """Whether there is no place for it, or the CS refused it a moment ago; the client hears."""
        session = packet.signature.session
        if self._negative.error_of(session, now) is not None:
            self._counters["drop_negative"] += 1
        elif not self._makes_room(len(packet.frame), now):
            self._counters["collecting_full"] += 1
        else:
            return False
        refusal.notify_client(self._outbox, packet)
        return True

    def _makes_room(self, octets: int, now: float) -> bool:
        """Whether there is a place: a client that says nothing more does not keep one from another
        that may."""
        table = self._handshakes.table
        while not table.has_room_for(octets):
            oldest = table.oldest_collecting()
            if oldest is None:
                return False
            self._counters["collecting_evicted"] += 1
            self._handshakes.drop(oldest, CloseReason.OVERFLOW, now)
        return True

    def is_early(self, packet: PacketIn, server: VirtualServer, now: float) -> bool:
        """Whether a segment of no flow is one of a client's first flight, whose first segment is
        lost or late: its client repeats both.  If it repeats this one alone, it is not."""
        if not server.proxied:
            return False
        secrets = self._secrets.of(server.group_id)
        try:
            segment = read(parse(packet.frame))
        except MalformedPacket:
            return False
        session = packet.signature.session
        is_early = secrets is not None and cookies.is_of_first_flight(
            secrets, session, segment, mss_of(session)
        )
        is_early = is_early and not self._early.is_overdue(session, segment.ack, now)
        self._counters["drop_early_segment"] += is_early
        return is_early

    # --- held, and of no connection here -----------------------------------------------------

    def _held_of_nobody(self, packet: PacketIn, parsed: Packet, now: float) -> None:
        state = self._endings.table.lookup(packet.signature)
        if state is not None and not state.entry.held:
            put_back(self._outbox, packet)
            self._counters["put_back_late"] += 1
        elif state is None:
            self._counters["drop_held"] += 1
        elif is_assisted(state.entry):
            self._assisted.came(state, parsed)
        elif state.entry.flags & _ADD_TCP_OFFSETS:  # the agent before was about to splice it
            flags = state.entry.flags & ~_PROXY_SERVER
            self._handshakes.splices.splice_learnt(
                state.entry._replace(flags=flags, held=False), now
            )
            put_back(self._outbox, packet)
        elif not self._goes_on(state, packet, parsed, now):
            self._end_if_orphan(state, packet, parsed, now)

    def _handed_over(self, packet: PacketIn, parsed: Packet, now: float) -> None:
        """What a client has said first, whose node the target had sent a SYN; what came of it since
        is behind this."""
        state = self._endings.table.lookup(packet.signature)
        if state is None or not state.entry.held:
            self._counters["drop_held"] += 1  # it gave way to another one meanwhile
            return
        handshake = self.by_session.get(packet.signature.session)
        if handshake is not None:  # of a connection before this one
            handshake.installed = False
            self._handshakes.drop(handshake, CloseReason.CLIENT_ABORT, now)
        self._counters["short_taken_over"] += 1
        if not self._goes_on(state, packet, parsed, now, is_asked=True):
            self._counters["drop_held"] += 1
            refusal.answer_refused(self._outbox, packet, ErrorCode.UNKNOWN)
            self.end_orphan(state, now)

    def _goes_on(
        self,
        state: FlowState,
        packet: PacketIn,
        parsed: Packet,
        now: float,
        *,
        is_asked: bool = False,
    ) -> bool:
        """Whether it is a client's first segment, or its repeat: the agent before, or the data
        path, had chosen a node for it and had not finished.  `is_asked`: the node was, just now."""
        server = self._servers.match(packet.signature)
        entry = state.entry
        is_whole = parsed.kind == Kind.TRANSPORT and not parsed.first_fragment
        if server is None or entry.node_ipaddr == UNSPECIFIED or not is_whole:
            return False
        secrets = self._secrets.of(server.group_id)
        session = packet.signature.session
        if secrets is None or (server.app_type is None and not server.is_raw):
            return False
        arrival = Arrival(packet, parsed, read(parsed))
        agreed = cookies.read(secrets, session, arrival.segment)
        if agreed is None or (parsed.src, parsed.ports[0]) != (session[0], session[2]):
            return False
        handshake = self._handshakes.begin(arrival, server, agreed, entry.serial, now)
        handshake.installed = handshake.is_answered = handshake.is_known = True
        self._handshakes.segment_came(handshake, arrival, now)
        handshake.is_answered = False
        if self.by_session.get(session) is handshake:
            self._handshakes.decide(handshake, entry, now, is_asked=is_asked)
        return True

    def _end_if_orphan(
        self, state: FlowState, packet: PacketIn, parsed: Packet, now: float
    ) -> None:
        """What an agent left that is gone: the client is to hear that it cannot go on.  It repeats
        what was not spliced; a node's packet has not the numbers that a client would believe."""
        entry = state.entry
        self._counters["drop_held"] += 1
        client = packet.signature.src_ipaddr, packet.signature.src_port
        if (parsed.src, parsed.ports[0]) != client:
            return
        age_ms = (int(now * 1000) - entry.opened_ms) & _WORD32
        if entry.node_ipaddr != UNSPECIFIED and age_ms < ORPHAN_MS:
            return  # the data path is at it
        if not packet.tcp_flags & RST:
            refusal.answer_refused(self._outbox, packet, ErrorCode.UNKNOWN)
        self.end_orphan(state, now)

    def end_orphan(self, state: FlowState, now: float) -> None:
        """Take out a held entry that nobody's connection belongs to."""
        self._counters["held_orphans"] += 1
        self._endings.remove(state, CloseReason.UNSPECIFIED, now)
