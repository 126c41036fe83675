# SPDX-License-Identifier: Apache-2.0
"""What a CS decides about a flow: REPLY and NEWFLOW, installed in both directions or refused.

`reply_came` is half of the agent's hot path, once per connection.  A serial distinguishes a flow's
incarnations (6.7); a message about another serial or from another group never changes a flow.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows import messages, refusal
from data_flow_segment.flows.assisted import Assisted
from data_flow_segment.flows.content import Content
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.negative import hold_ms
from data_flow_segment.flows.new_flows import ASK_WAITING_S, NewFlows
from data_flow_segment.flows.pending import PendingFlow
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer
from data_flow_segment.peers.virtual_servers import VirtualServers
from data_flow_segment.targets.contract import (
    FlowEntry,
    InjectPacket,
    InstallFlow,
    LeaveToAgent,
    PacketIn,
    PacketReason,
    RemoveFlow,
)
from data_flow_segment.targets.translation import inbound, reverse_key
from packets.parse import RST, SYN, MalformedPacket, parse
from ssmb.constants import TCP, Carrier, CloseReason, ErrorCode, Flag
from ssmb.messages import NewFlow, Reply, Session
from ssmb.serials import NO_FLOW, is_cs_originated

_WORD32: Final = 0xFFFFFFFF
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_NEW_FLOW: Final = int(PacketReason.NEW_FLOW)
_WAIT: Final = int(ErrorCode.WAIT)
_UNKNOWN: Final = int(ErrorCode.UNKNOWN)
FIRST_S: Final = 3.0
"""By then a client has repeated its first segment twice at least, as RFC 6298 has it."""
WAIT_MAX_S: Final = 60
"""However long a CS says: clients have given up by then."""


class Answers:
    """Carries out what CSs say about flows that begin."""

    def __init__(
        self,
        outbox: Outbox,
        servers: VirtualServers,
        new_flows: NewFlows,
        endings: Endings,
        content: Content,
        assisted: Assisted,
    ) -> None:
        self.pending = new_flows.pending
        self.negative = new_flows.negative
        self._outbox = outbox
        self._counters = outbox.counters
        self._servers = servers
        self._endings = endings
        self._new_flows = new_flows
        self._content = content
        self._handshakes = content.by_session
        self._assisted = assisted
        self._ended = endings.ended
        self._recent = endings.table.recent
        self._table = endings.table

    def reply_came(self, peer: Peer, reply: Reply, now: float) -> bool:
        """Install what was asked, or refuse it.  False: it means nothing (any more), so it is no
        standby's business either."""
        session = reply.session
        flow = self.pending.by_session.get(session)
        if flow is None and session in self._handshakes:
            handshake = self._handshakes[session]
            if handshake.serial == reply.serial:
                return self._content.reply_came(handshake, peer, reply, now)
        if flow is None or flow.serial != reply.serial:
            return self._reply_unasked(peer, reply, flow, now)
        if flow.group_id != peer.hello.group_id or not flow.sent:
            self._counters["replies_invalid"] += 1
            return False
        if reply.error_code == _WAIT and not flow.asking:
            self._wait(session, flow, reply.idle_timeout, now)
        elif flow.asking:
            return self._answered_again(peer, reply, flow, now)
        elif reply.error_code == _UNKNOWN and self._may_be_early(flow):
            self._wait_for_first(session, flow, now)
        elif reply.error_code:
            self._refuse(session, reply.error_code, now)
        elif reply.flags & _PROXY_SERVER:
            self._refuse_to_proxy(peer, reply, session, now)
            return False
        else:
            self._answered(peer, reply, flow, now)
        return True

    def _answered(self, peer: Peer, reply: Reply, flow: PendingFlow, now: float) -> None:
        """The node of a flow that waits."""
        session = reply.session
        if flow.waits_until:  # such a REPLY is made without the QUERY
            reply = reply._replace(tos=flow.signature.tos)
        server = self._servers.by_key.get(flow.virtual_server)  # type: ignore[arg-type]
        entry = peer.entry(reply, server, flow.opened_ms)
        packets = self.pending.remove(session).packets
        if reply.frame:
            packets.append(self._parked(reply))
        if server is not None and server.proxied and self._is_carried(flow, packets, now):
            return
        self._install(session, entry, packets, now, half_open=flow.opens)

    def _is_carried(self, flow: PendingFlow, packets: list[PacketIn], now: float) -> bool:
        """Whether the target has spliced the connection while the CS was asked about a later
        segment of it: the packets go its way, and the CS hears under which serial it goes on."""
        state = self._table.lookup(flow.signature)
        if state is None or state.closed or state.entry.held:
            return False
        self._counters["short_ahead"] += 1
        self._outbox.commands += map(InjectPacket, packets)
        self._endings.report(messages.flow_state(state), state.entry.group_id, now)
        return True

    def _wait(self, session: Session, flow: PendingFlow, seconds: int, now: float) -> None:
        """There may be a place soon: hold what is there, and ask again every second (9.9)."""
        if not flow.waits_until:
            flow.waits_until = now + min(seconds, WAIT_MAX_S)
            self._counters["flows_waited"] += 1
        flow.tries = 0
        again = min(now + ASK_WAITING_S, flow.waits_until)
        self.pending.schedule(session, flow, again)

    def _may_be_early(self, flow: PendingFlow) -> bool:
        """Whether it may be a connection that no CS can know yet: its client's first segment was
        lost, or was overtaken.  How long that one was nobody knows, and without that its cookie
        says nothing."""
        server = self._servers.by_key.get(flow.virtual_server)  # type: ignore[arg-type]
        if server is None or not server.proxied or flow.is_syn or not flow.packets:
            return False
        try:
            first = parse(flow.packets[0].frame)
        except MalformedPacket:
            return False
        client = flow.signature.src_ipaddr, flow.signature.src_port
        return (first.src, first.ports[0]) == client and not first.tcp_flags & RST

    def _wait_for_first(self, session: Session, flow: PendingFlow, now: float) -> None:
        """Its client repeats the first segment, which begins the connection; an RST ends it."""
        if not flow.waits_until:
            flow.waits_until, flow.refusal = now + FIRST_S, _UNKNOWN
            self._counters["early_segments"] += 1
        self.pending.schedule(session, flow, flow.waits_until)

    def _answered_again(self, peer: Peer, reply: Reply, flow: PendingFlow, now: float) -> bool:
        """About an installed flow whose node does not answer: it stays, moves or ends."""
        session, signature = reply.session, flow.signature
        state = self._table.lookup(signature)
        is_over = self._ended.has_ended(session, flow.serial)
        if state is None or state.entry.serial != flow.serial or is_over:
            self._counters["replies_stale"] += 1  # it ended meanwhile; the client asks again
            self._drop_held(self.pending.remove(session))
            return False
        if reply.error_code or reply.flags & _PROXY_SERVER:
            self._endings.refused(state, now)
            self._refuse(session, reply.error_code or int(ErrorCode.UNKNOWN), now)
            return True
        packets = self.pending.remove(session).packets
        server = self._servers.by_key.get(flow.virtual_server)  # type: ignore[arg-type]
        entry = peer.entry(reply, server, flow.opened_ms)
        if entry._replace(signature=state.entry.signature) == state.entry:
            self._outbox.commands += map(InjectPacket, packets)
            self._counters["flows_updated"] += 1
            return True
        self._counters["flows_moved"] += 1
        self._endings.tell_standbys(state, CloseReason.NODE_FAIL)  # or the REPLY were a repeat
        self._outbox.commands.append(RemoveFlow(signature))  # nothing of it counts for the new node
        self._install(session, entry, packets, now, half_open=flow.opens)
        return True

    def _drop_held(self, flow: PendingFlow) -> None:
        self._counters["held_packets_given_up"] += len(flow.packets)

    def _reply_unasked(
        self, peer: Peer, reply: Reply, flow: PendingFlow | None, now: float
    ) -> bool:
        """The incarnation rule of 6.7: repeat, stale, or a flow that was no longer waited for."""
        if reply.serial == NO_FLOW or is_cs_originated(reply.serial):
            self._counters["replies_invalid"] += 1  # no QUERY of this DFS ever had it
            return False
        if reply.frame and self._is_of_proxied(reply):
            has_meaning = self._content.parked_reply_came(peer, reply, self._parked(reply), now)
            if flow is not None:  # its second segment came before
                self._new_flows.join_early(reply.session, now)
            return has_meaning
        if reply.frame and flow is None and reply.error_code:
            self._refuse_parked(peer, reply, now)
            return True
        if reply.error_code or reply.flags & _PROXY_SERVER:
            self._counters["replies_stale"] += 1
            return False
        known = self._table.lookup(reply.signature)
        stale = flow is not None or self._ended.has_ended(reply.session, reply.serial)
        if known is not None and known.closed and known.entry.serial != reply.serial:
            known = None  # it only lingers, and gives way
        stale |= known is not None and known.closed
        if stale or (known is not None and known.entry.serial != reply.serial):
            self._counters["replies_stale"] += 1
            return False
        if known is not None and known.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return False
        server = self._servers.match(reply.signature)
        opened_ms = int(now * 1000) & _WORD32 if known is None else known.entry.opened_ms
        entry = peer.entry(reply, server, opened_ms)
        packets = [self._parked(reply)] if reply.frame else []
        if known is None:
            opens = bool(packets) and reply.protocol == TCP  # what is parked is a SYN
            self._install(reply.session, entry, packets, now, half_open=opens)
        else:
            self._update(known.entry, entry)
            self._outbox.commands += map(InjectPacket, packets)
        return True

    def _is_of_proxied(self, reply: Reply) -> bool:
        server = self._servers.match(reply.signature)
        return server is not None and server.proxied

    def _parked(self, reply: Reply) -> PacketIn:
        """The packet that the target asked about: a SYN, or a datagram."""
        interface, frame = self._table.target.parked(reply.frame)
        server = self._servers.match(reply.signature)
        tcp_flags = SYN if reply.protocol == TCP else 0
        key = None if server is None else server.key
        return PacketIn(_NEW_FLOW, reply.signature, tcp_flags, interface, frame, key)

    def _refuse_parked(self, peer: Peer, reply: Reply, now: float) -> None:
        """The CS refused what the target asked about, or has it wait."""
        packet, session = self._parked(reply), reply.session
        flow = self._new_flows.hold(packet, reply.serial, peer.group_id, now)
        if flow is None:
            return
        if reply.error_code == _WAIT:
            self._wait(session, flow, reply.idle_timeout, now)
            return
        self._outbox.commands.append(
            LeaveToAgent(packet.signature, hold_ms(flow, reply.error_code))
        )
        self._refuse(session, reply.error_code, now)

    def newflow_came(self, peer: Peer, message: NewFlow, now: float) -> bool:
        """Install unasked; an existing entry is updated and takes the new serial (6.7).  False: it
        is not carried out."""
        session = message.session
        if message.serial == NO_FLOW:
            self._counters["replies_invalid"] += 1
            return False
        handshake = self._handshakes.get(session)
        if handshake is not None:
            return self._content.newflow_came(handshake, peer, message, now)
        if message.error_code or message.flags & _PROXY_SERVER:
            self._refuse_newflow(peer, message, now)
            return False
        if self._ended.has_ended(session, message.serial):
            self._counters["replies_stale"] += 1
            return False
        known = self._table.lookup(message.signature)
        if known is not None and known.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return False
        self.negative.forget(session)
        packets = []
        if session in self.pending.by_session:
            packets = self.pending.remove(session).packets
        server = self._servers.match(message.signature)
        opened_ms = int(now * 1000) & _WORD32
        is_assisted = message.detail == Carrier.CS
        same = known is not None and known.entry.serial == message.serial
        if known is not None and same:
            entry = peer.entry(message, server, known.entry.opened_ms)
            entry = entry._replace(held=is_assisted)
            if known.entry.held and not entry.held:
                self._assisted.handed_over(entry, now)
            self._update(known.entry, entry)
            self._outbox.commands += map(InjectPacket, packets + self._of_node(entry))
        else:
            entry = peer.entry(message, server, opened_ms)._replace(held=is_assisted)
            packets += self._of_node(entry)
            self._install(session, entry, packets, now, replaces=known is not None)
        return True

    def _of_node(self, entry: FlowEntry) -> list[PacketIn]:
        """The packets of the flow's node that the CS was asked about: this is the answer (14.4)."""
        back = Session._make(reverse_key(entry.signature, inbound(entry)))
        waiting = self.pending.by_session.get(back)
        if waiting is None or not waiting.outbound:
            return []
        return self.pending.remove(back).packets

    def _install(
        self,
        session: Session,
        entry: FlowEntry,
        packets: list[PacketIn],
        now: float,
        *,
        replaces: bool = False,
        half_open: bool = False,
    ) -> None:
        """Both directions from one decision, then the packets that waited for it (9.5)."""
        commands = self._outbox.commands
        self._table.make_way(self._ended, entry, now, replaces=replaces)
        commands.append(InstallFlow(entry, half_open))
        for packet in packets:
            commands.append(InjectPacket(packet))
        self._recent.add(session, entry.serial, now)
        self._counters["flows_installed"] += 1
        self._outbox.trace.append((now, "installed", session, entry.serial, len(packets)))

    def _update(self, known: FlowEntry, entry: FlowEntry) -> None:
        """A repeated or changed decision about an installed flow; it keeps its time of opening."""
        if entry != known:
            self._outbox.commands.append(InstallFlow(entry))
        self._counters["flows_updated"] += 1

    # --- being refused ---------------------------------------------------------------------

    def _refuse(self, session: Session, error_code: int, now: float) -> None:
        """9.9: silence, RST or ICMP; and no QUERY is sent for the flow for NEG_HOLD."""
        flow = self.pending.remove(session)
        self.negative.add(session, error_code, now, hold_ms(flow, error_code))
        self._counters[refusal.COUNTERS.get(error_code, "refused_unknown")] += 1
        self._counters["held_packets_refused"] += len(flow.packets)
        self._outbox.trace.append((now, "refused", session, flow.serial, error_code))
        if flow.packets:
            refusal.answer_refused(self._outbox, flow.packets[0], error_code)
        if flow.is_half:
            self._outbox.commands.append(RemoveFlow(flow.signature))

    def _refuse_newflow(self, peer: Peer, message: NewFlow, now: float) -> None:
        """For a handshake that is over, or that nobody began."""
        known = self._table.lookup(message.signature)
        is_there = known is not None and known.entry.serial == message.serial
        if message.error_code or is_there or self._ended.has_ended(message.session, message.serial):
            self._counters["replies_stale"] += 1
        else:
            self._refuse_to_proxy(peer, message, message.session, now)

    def _refuse_to_proxy(
        self, peer: Peer, message: Reply | NewFlow, session: Session, now: float
    ) -> None:
        """The CS asked for a handshake with the node, and there is no client that waits for it."""
        if session in self.pending.by_session:
            self._refuse(session, int(ErrorCode.UNKNOWN), now)
        self._counters["newflows_refused"] += 1
        entry = peer.entry(message, None, int(now * 1000) & _WORD32)
        server = self._servers.match(message.signature)
        reason, error_code = CloseReason.NODE_FAIL, int(ErrorCode.NODEFAIL)
        if server is not None and server.proxied:  # no node was tried
            reason, error_code = CloseReason.CLIENT_ABORT, 0
        message_of_end = messages.delete_uninstalled(entry, reason, error_code)
        self._endings.report(message_of_end, entry.group_id, now)
