# SPDX-License-Identifier: Apache-2.0
"""A flow's beginning: packet, QUERY, its repeats, REPLY or NEWFLOW, both directions installed.

The hot path of the agent: `packet_came_up` and `reply_came`, once a connection each.  Nothing in
them but tuples, dictionaries and the codec (docs/design/0001).
"""

from __future__ import annotations

from typing import Final

from csmb.constants import Flag as CsmbFlag
from data_flow_segment import bridge, refusal, reports
from data_flow_segment.closing import EndedFlows
from data_flow_segment.endings import Endings
from data_flow_segment.negative import NegativeEntries
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers import Group, Peer, Peers, default_retry_s
from data_flow_segment.pending import TRIES, PendingFlow, PendingFlows, Session
from data_flow_segment.targets.contract import (
    FlowEntry,
    InjectPacket,
    InstallFlow,
    PacketIn,
    PacketReason,
    TransmitPacket,
)
from data_flow_segment.virtual_servers import VirtualServer, VirtualServers
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import FLOW_BUFFER_MAX, CloseReason, ErrorCode, Flag
from ssmb.messages import NewFlow, Query, Reply
from ssmb.serials import SerialAllocator

_TCP: Final = 6
_SYN_ACK: Final = 0x12
_SYN: Final = 0x02
_NO_ECN: Final = 0xFC
_WORD32: Final = 0xFFFFFFFF
_OUTBOUND: Final = int(Flag.OUTBOUND)
_RETRY: Final = int(Flag.RETRY)
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_ROUTE_BY_DST_IP: Final = int(Flag.ROUTE_BY_DST_IP)
_INSTALLED: Final = int(
    Flag.OUTBOUND
    | Flag.ADD_TCP_OFFSETS
    | Flag.TRANSLATE_ADDR
    | Flag.TRANSLATE_PORT
    | Flag.TRANSLATE_SRC
    | Flag.ROUTE_BY_DST_IP
)
_NEW_FLOW: Final = int(PacketReason.NEW_FLOW)
_BRIDGED: Final = int(PacketReason.BRIDGED)
_REFUSALS: Final = {
    int(ErrorCode.UNKNOWN): "refused_unknown",
    int(ErrorCode.NOTAVAIL): "refused_notavail",
    int(ErrorCode.CONNLIMIT): "refused_connlimit",
}


class NewFlows:
    """Everything between a packet that matches no flow and the flow in the target."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        servers: VirtualServers,
        endings: Endings,
        serials: SerialAllocator,
    ) -> None:
        self.pending = PendingFlows()
        self.negative = NegativeEntries()
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._servers = servers
        self._table = endings.table
        self._endings = endings
        self._ended: EndedFlows = endings.ended
        self._serials = serials
        self._packet_id = 0

    # --- a packet that the target cannot place ---------------------------------------------

    def packet_came_up(self, packet: PacketIn, now: float) -> None:
        """Hold it and ask, or hold it with the others of its flow."""
        reason, signature, tcp_flags, _, frame, key = packet
        session = signature[:5]
        pending = self.pending
        flow = pending.by_session.get(session)
        if flow is not None:
            self._counters[pending.hold(flow, packet)] += 1
            return
        if session in self.negative.by_session and self._is_refused(session, packet, now):
            return
        if reason == _NEW_FLOW:
            server = self._servers.by_key.get(key) if key is not None else None
            if server is None:
                self._counters["drop_no_virtual_server"] += 1
                return
            group_id = server.group_id
        elif reason == _BRIDGED:
            self._bridge(packet)
            return
        else:
            asked = self._outbound_group()
            if asked is None:
                self._counters["drop_no_outbound_group"] += 1
                return
            self._counters["outbound_flows"] += 1
            group_id = asked.group_id
        octets = len(frame)
        if pending.full or not pending.has_room_for(octets):
            self._counters["drop_pending_full" if pending.full else "drop_buffers_full"] += 1
            return
        peer = self._peers.active_of(group_id)
        buffer_max = FLOW_BUFFER_MAX if peer is None else peer.config.flow_buffer_max
        flow = PendingFlow(
            self._serials.next(self._ended.is_over),
            packet,
            group_id,
            int(now * 1000) & _WORD32,
            outbound=reason != _NEW_FLOW,
            is_syn=signature[4] != _TCP or tcp_flags & _SYN_ACK == _SYN,
            room=buffer_max - octets,
        )
        pending.add(session, flow, octets)
        self._counters["new_flows"] += 1
        self._ask(session, flow, peer, now)
        wait = default_retry_s(0) if peer is None else peer.retry_s(0)
        pending.schedule(session, flow, now + wait)

    def _is_refused(self, session: Session, packet: PacketIn, now: float) -> bool:
        """Whether the flow was refused a moment ago; TCP is told so again where 9.9 tells it."""
        error_code = self.negative.error_of(session, now)
        if error_code is None:
            return False
        self._counters["drop_negative"] += 1
        if error_code == ErrorCode.NOTAVAIL and packet.signature.protocol == _TCP:
            self._tell_client(packet)
        return True

    def _outbound_group(self) -> Group | None:
        """The group whose CS wants to be asked about the internal side's flows."""
        for group in self._peers.groups.values():
            if group.active is not None and group.active.config.flags & CsmbFlag.OUTBOUND_QUERY:
                return group
        return None

    def _bridge(self, packet: PacketIn) -> None:
        server = self._servers.by_key.get(packet.virtual_server) if packet.virtual_server else None
        peer = None if server is None else self._peers.active_of(server.group_id)
        if peer is None or not peer.ssmb_proved:
            self._counters["drop_no_cs_to_bridge"] += 1
            return
        octets = bridge.ip_packet(packet.frame)
        if octets is None or len(octets) > bridge.PACKET_MAX:
            self._counters["drop_not_bridged"] += 1
            return
        self._packet_id = self._packet_id + 1 & _WORD32
        for piece in bridge.split(octets, self._packet_id, 0):
            peer.link.send(piece)
        self._counters["bridged_packets"] += 1

    # --- asking ----------------------------------------------------------------------------

    def _ask(self, session: Session, flow: PendingFlow, peer: Peer | None, now: float) -> bool:
        """Send QUERY if there is a CS that may be asked; a mid-session one waits for its SYNC,
        because a CS that does not know the session yet would give it another node."""
        if peer is None or not peer.may_ask or not (flow.is_syn or peer.synced):
            return False
        signature = flow.signature
        flags = _RETRY if flow.sent else 0
        if flow.outbound:
            flags |= _OUTBOUND
        flow.sent = True
        peer.link.send(
            Query(
                0,
                flags,
                flow.serial,
                *session,
                signature[5] & _NO_ECN,
                flow.tcp_flags,
                0,
                flow.opened_ms,
            )
        )
        self._outbox.trace.append((now, "query", session, flow.serial, flow.tries))
        return True

    def ask_again(self, group: Group, now: float) -> None:
        """The group has another active CS, or it became able to answer: everything that waits
        goes to it at once (11.5)."""
        peer = group.active
        if peer is None or not peer.may_ask:
            return
        for session, flow in self.pending.of_group(group.group_id):
            if self._ask(session, flow, peer, now):
                flow.tries = 0
                self.pending.schedule(session, flow, now + peer.retry_s(0))

    def get_timer(self) -> float | None:
        return self.pending.get_timer()

    def handle_timer(self, now: float) -> None:
        """Repeat what was not answered; give up what was repeated often enough."""
        for session, flow in self.pending.due(now):
            peer = self._peers.active_of(flow.group_id)
            if flow.tries >= TRIES:
                self._give_up(session, flow, now)
                continue
            was_asked = flow.sent
            is_asked = self._ask(session, flow, peer, now)
            if is_asked and was_asked:
                self._counters["query_retries"] += 1
            waits_for_sync = not is_asked and peer is not None and peer.may_ask
            if not waits_for_sync:
                flow.tries += 1
            wait = default_retry_s(flow.tries) if peer is None else peer.retry_s(flow.tries)
            self.pending.schedule(session, flow, now + wait)

    def _give_up(self, session: Session, flow: PendingFlow, now: float) -> None:
        self.pending.remove(session)
        self._counters["query_timeouts"] += 1
        self._counters["held_packets_given_up"] += len(flow.packets)
        self._outbox.trace.append((now, "given up", session, flow.serial, flow.tries))

    # --- being answered --------------------------------------------------------------------

    def reply_came(self, peer: Peer, reply: Reply, now: float) -> None:
        """Install what was asked, or refuse it."""
        session = reply[3:8]
        flow = self.pending.by_session.get(session)
        if flow is None or flow.serial != reply.serial:
            self._reply_unasked(peer, reply, flow, now)
            return
        if flow.group_id != peer.hello.group_id or not flow.sent:
            self._counters["replies_invalid"] += 1
            return
        if reply.error_code:
            self._refuse(session, reply.error_code, now)
            return
        if reply.flags & _PROXY_SERVER:
            self._refuse_to_proxy(peer, reply, session, now)
            return
        server = self._servers.by_key.get(flow.packets[0].virtual_server)  # type: ignore[arg-type]
        entry = self._entry_of(peer, reply, server, flow.opened_ms)
        self._install(session, entry, self.pending.remove(session).packets, now)

    def _reply_unasked(
        self, peer: Peer, reply: Reply, flow: PendingFlow | None, now: float
    ) -> None:
        """The incarnation rule of 6.7: repeat, stale, or a flow that we no longer waited for."""
        if reply.error_code or reply.flags & _PROXY_SERVER:
            self._counters["replies_stale"] += 1
            return
        known = self._table.lookup(reply.signature)
        stale = flow is not None or self._ended.is_over(reply.serial)
        if stale or (known is not None and known.entry.serial != reply.serial):
            self._counters["replies_stale"] += 1
            return
        if known is not None and known.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return
        server = self._servers.match(reply.signature)
        opened_ms = int(now * 1000) & _WORD32 if known is None else known.entry.opened_ms
        entry = self._entry_of(peer, reply, server, opened_ms)
        if known is None:
            self._install(reply.session, entry, [], now)
        else:
            self._update(known.entry, entry)

    def newflow_came(self, peer: Peer, message: NewFlow, now: float) -> None:
        """Install unasked; an existing entry is updated and takes the new serial (6.7)."""
        session = message.session
        if message.flags & _PROXY_SERVER:
            self._refuse_to_proxy(peer, message, session, now)
            return
        if self._ended.is_over(message.serial):
            self._counters["replies_stale"] += 1
            return
        known = self._table.lookup(message.signature)
        if known is not None and known.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return
        self.negative.forget(session)
        packets = []
        if session in self.pending.by_session:
            packets = self.pending.remove(session).packets
        server = self._servers.match(message.signature)
        opened_ms = int(now * 1000) & _WORD32
        same = known is not None and known.entry.serial == message.serial
        if known is not None and same:
            self._update(known.entry, self._entry_of(peer, message, server, known.entry.opened_ms))
        else:
            entry = self._entry_of(peer, message, server, opened_ms)
            self._install(session, entry, packets, now, replaces=known is not None)

    def _entry_of(
        self, peer: Peer, message: Reply | NewFlow, server: VirtualServer | None, opened_ms: int
    ) -> FlowEntry:
        """What the CS said, completed by the virtual server's defaults and the CONFIG's (9.4)."""
        signature = message.signature
        next_hop = message.next_hop_ipaddr
        if next_hop == UNSPECIFIED and not message.flags & _ROUTE_BY_DST_IP:
            if server is not None:
                next_hop = server.next_hop_ipaddr
            if next_hop == UNSPECIFIED:
                next_hop = peer.config.default_gw_ipaddr
        idle_timeout_s = message.idle_timeout
        if not idle_timeout_s and server is not None:
            idle_timeout_s = server.idle_timeout_s
        return FlowEntry(
            signature,
            message.serial,
            peer.hello.group_id,
            message.flags & _INSTALLED,
            message.node_ipaddr,
            message.node_port,
            message.snat_ipaddr,
            message.snat_port,
            next_hop,
            message.seq_offset,
            message.ack_offset,
            message.ts_offset,
            message.wscale_shift,
            message.forward_mode,
            idle_timeout_s or peer.idle_timeout_s(signature.protocol),
            opened_ms,
        )

    def _install(
        self,
        session: Session,
        entry: FlowEntry,
        packets: list[PacketIn],
        now: float,
        *,
        replaces: bool = False,
    ) -> None:
        """Both directions from one decision, then the packets that waited for it (9.5)."""
        if session in self._ended.lingering:
            self._ended.begin(session)
        elif not replaces:
            self._table.take_room(now)
        commands = self._outbox.commands
        commands.append(InstallFlow(entry))
        for packet in packets:
            commands.append(InjectPacket(packet))
        self._counters["flows_installed"] += 1
        self._outbox.trace.append((now, "installed", session, entry.serial, len(packets)))

    def _update(self, known: FlowEntry, entry: FlowEntry) -> None:
        """A repeated or changed decision about an installed flow; it keeps its time of opening."""
        if entry != known:
            self._outbox.commands.append(InstallFlow(entry))
        self._counters["flows_updated"] += 1

    # --- being refused ---------------------------------------------------------------------

    def _refuse(self, session: Session, error_code: int, now: float) -> None:
        """9.9: silence, RST or ICMP; and the flow is not asked about again for NEG_HOLD."""
        flow = self.pending.remove(session)
        self.negative.add(session, error_code, now)
        self._counters[_REFUSALS.get(error_code, "refused_unknown")] += 1
        self._counters["held_packets_refused"] += len(flow.packets)
        self._outbox.trace.append((now, "refused", session, flow.serial, error_code))
        if error_code == ErrorCode.NOTAVAIL:
            self._tell_client(flow.packets[0])

    def _refuse_to_proxy(
        self, peer: Peer, message: Reply | NewFlow, session: Session, now: float
    ) -> None:
        """A handshake with the node was asked of us; our HELLO does not offer it."""
        if session in self.pending.by_session:
            self._refuse(session, int(ErrorCode.UNKNOWN), now)
        self._counters["newflows_refused"] += 1
        entry = self._entry_of(peer, message, None, int(now * 1000) & _WORD32)
        self._endings.report(
            reports.delete_uninstalled(entry, CloseReason.NODE_FAIL, ErrorCode.NODEFAIL),
            entry.group_id,
            now,
        )

    def _tell_client(self, packet: PacketIn) -> None:
        octets = refusal.answer(packet.frame)
        if octets is not None:
            self._outbox.commands.append(TransmitPacket(octets))
            is_tcp = packet.signature.protocol == _TCP
            self._counters["reset_sent" if is_tcp else "unreachable_sent"] += 1
