# SPDX-License-Identifier: Apache-2.0
"""A flow's beginning: a packet comes up, QUERY is sent and repeated (`answers` does the rest).

`packet_came_up` is half of the agent's hot path, once per connection.  It uses only tuples,
dictionaries and the codec (docs/design/0001).
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from admin.log_lines import line
from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows import bridge, refusal
from data_flow_segment.flows.behind_first import BehindFirst
from data_flow_segment.flows.ended import EndedFlows
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.negative import NegativeEntries, hold_ms
from data_flow_segment.flows.pending import PendingFlow, PendingFlows
from data_flow_segment.flows.proxied import Proxied
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group, Peer, Peers, default_retry_s
from data_flow_segment.peers.nodes import NodePlaces
from data_flow_segment.peers.virtual_servers import VirtualServer, VirtualServers
from data_flow_segment.targets.contract import (
    FlowHalf,
    FlowState,
    InjectPacket,
    PacketIn,
    PacketReason,
    RemoveFlow,
    TransmitPacket,
    VirtualServerKey,
)
from data_flow_segment.timers import SLOT_S
from ssmb.addresses import endpoint_text, to_text
from ssmb.bridging import PACKET_MAX
from ssmb.constants import (
    FLOW_BUFFER_MAX,
    NO_CS_HOLD_MS,
    QUERY_REPEATS,
    TCP,
    Asking,
    ErrorCode,
    Flag,
    ForwardMode,
)
from ssmb.grants import flows_of
from ssmb.messages import FlowSignature, Query, Session
from ssmb.serials import UDP_SLOT_SHIFT, SerialAllocator, derived

_SYN_ACK: Final = 0x12
_SYN: Final = 0x02
_ACK: Final = 0x10
_NO_ECN: Final = 0xFC
_WORD32: Final = 0xFFFFFFFF
_OUTBOUND: Final = int(Flag.OUTBOUND)
_RETRY: Final = int(Flag.RETRY)
_NEW_FLOW: Final = int(PacketReason.NEW_FLOW)
_BRIDGED: Final = int(PacketReason.BRIDGED)
_UNANSWERED: Final = int(PacketReason.UNANSWERED)
_ANSWERED_AT_ONCE: Final = frozenset((_BRIDGED, int(PacketReason.UNSERVED)))
_OF_NODE: Final = int(PacketReason.OF_NODE)
_ASLEEP: Final = int(PacketReason.ASLEEP)
_OF_KNOWN: Final = (_UNANSWERED, _ASLEEP, int(PacketReason.COLLISION))
_PROXIED: Final = int(PacketReason.PROXIED)  # and HELD above it
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_UNKNOWN: Final = int(ErrorCode.UNKNOWN)
_BUSY: Final = int(ErrorCode.BUSY)
_NEW_OR_UNANSWERED: Final = (_NEW_FLOW, _UNANSWERED)


HALVES_MAX: Final = 1024
"""An agent that dies leaves one; more are not kept."""

ASK_WAITING_S: Final = 1.0
"""Between the questions of a flow that waits for a place; the CS does not wait for them."""


ASKED_AT_ONCE: Final = 512
"""Of the flows that wait for a CS that comes: what its socket holds.  The others follow, as many
every SLOT_S, which makes 100,000 a second."""


class NewFlows:
    """What waits for a CS, and what a CS refused."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        servers: VirtualServers,
        nodes: NodePlaces,
        endings: Endings,
        serials: SerialAllocator,
        bridger: bridge.Bridger,
    ) -> None:
        self.pending = PendingFlows()
        self.negative = NegativeEntries()
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._servers = servers
        self._nodes = nodes
        self._endings = endings
        self._ended: EndedFlows = endings.ended
        self._recent = endings.table.recent
        self._serials = serials
        self._serial_key = endings.table.target.serial_key()
        self._renewed = endings.table.target.renewed
        self._bridger = bridger
        self._proxied: Proxied
        self._handshakes: Container[Session]
        self.behind_first: BehindFirst
        self.granted: Container[object] = ()  # whose flows the target may enter itself
        self._halves: list[FlowSignature] = []  # for a CS that knows all flows again

    def watch(self, proxied: Proxied) -> None:
        """Leave the packets of content-aware virtual servers and of held flows to these."""
        self._proxied = proxied
        self._handshakes = proxied.by_session
        self.behind_first = BehindFirst(
            self._outbox, self._endings.table, proxied.by_session, self.packet_came_up
        )

    # --- a packet that the target cannot place ---------------------------------------------

    def packet_came_up(self, packet: PacketIn, now: float) -> None:
        """Hold it and send QUERY, or hold it with the others of its flow."""
        reason, signature, tcp_flags, _, frame = packet[:5]
        session = signature.session
        if reason >= _PROXIED or session in self._handshakes:
            self._proxied.came(packet, now)
            if session in self.pending.by_session:
                self.join_early(session, now)
            return
        pending = self.pending
        flow = pending.by_session.get(session)
        if flow is not None:
            self._counters[pending.hold(flow, packet)] += 1
            return
        if self._is_dealt_with(session, packet, now):
            return
        if reason in _NEW_OR_UNANSWERED:
            server = self._server_of(packet, now)
            if server is None:
                return
            group_id = server.group_id
        elif reason in _ANSWERED_AT_ONCE:
            self._answer_at_once(packet)
            return
        else:
            asked = self._group_asked(packet)
            if asked is None:
                return
            group_id = asked
        octets = len(frame)
        if pending.full or not pending.has_room_for(octets):
            self._counters["drop_pending_full" if pending.full else "drop_buffers_full"] += 1
            return
        peer = self._peers.active_of(group_id)
        buffer_max = FLOW_BUFFER_MAX if peer is None else peer.config.flow_buffer_max
        flow = PendingFlow(
            self._serial_of(packet, now),
            packet,
            group_id,
            int(now * 1000) & _WORD32,
            outbound=reason not in _NEW_OR_UNANSWERED,
            is_syn=signature.protocol != TCP or tcp_flags & _SYN_ACK == _SYN,
            room=buffer_max - octets,
        )
        pending.add(session, flow, octets)
        self._counters["new_flows"] += 1
        self._ask(session, flow, peer, now)
        wait = default_retry_s(0) if peer is None else peer.retry_s(0)
        pending.schedule(session, flow, now + wait)

    def join_early(self, session: Session, now: float) -> None:
        """What came before a connection's first segment, and was taken for an older one's, is the
        connection's: a CS that knows no session would have it reset."""
        if session in self._handshakes:
            for packet in self.pending.remove(session).packets:
                self._proxied.came(packet, now)

    def _is_dealt_with(self, session: Session, packet: PacketIn, now: float) -> bool:
        """Whether its flow was refused a moment ago, was decided before, or is there meanwhile."""
        if session in self.negative.by_session and self._is_refused(session, packet, now):
            return True
        if packet.reason in _OF_KNOWN and self._ask_about_known(packet, now):
            return True
        return session in self._recent.by_session and self._is_late(session, packet, now)

    def _server_of(self, packet: PacketIn, now: float) -> VirtualServer | None:
        """The virtual server that a CS is to be asked about; None: the packet is dealt with."""
        key = packet.virtual_server
        server = self._servers.by_key.get(key) if key is not None else None
        if server is None:
            self._counters["drop_no_virtual_server"] += 1
        elif self._has_taken(key, packet) or (
            server.proxied
            and (
                self.behind_first.holds(packet, server, now)
                or self._proxied.is_early(packet, server, now)
            )
        ):
            return None
        return server

    def _serial_of(self, packet: PacketIn, now: float) -> int:
        """A new one; or the one that the target gives the flow, if it asks about such packets."""
        key = self._serial_key
        signature = packet.signature
        if key and packet.reason == _NEW_FLOW:
            if signature.protocol != TCP:
                slot = int(now * 1e9) >> UDP_SLOT_SHIFT & _WORD32
                return derived(key, signature.session, slot ^ self._renewed(signature.session))
            sequence = _tcp_sequence(packet.frame)
            if sequence is not None and packet.tcp_flags & _SYN_ACK == _SYN:
                return derived(key, signature.session, sequence)
        return self._serials.next(self._ended.serials.__contains__)

    def hold(self, packet: PacketIn, serial: int, group_id: int, now: float) -> PendingFlow | None:
        """A packet that the target asked about, whose flow is to wait; None: there is no room."""
        octets = len(packet.frame)
        if self.pending.full or not self.pending.has_room_for(octets):
            full = self.pending.full
            self._counters["drop_pending_full" if full else "drop_buffers_full"] += 1
            return None
        opened_ms, room = int(now * 1000) & _WORD32, FLOW_BUFFER_MAX - octets
        flow = PendingFlow(
            serial, packet, group_id, opened_ms, outbound=False, is_syn=True, room=room
        )
        flow.sent = True
        self.pending.add(packet.signature.session, flow, octets)
        return flow

    def _ask_about_known(self, packet: PacketIn, now: float) -> bool:
        """Whether the packet is one of a flow that was decided before, and is dealt with."""
        if packet.reason == _UNANSWERED:
            return self._ask_about_installed(packet, now)
        if packet.reason == _ASLEEP:
            self._woken(packet, now)
        else:
            self._collided(packet)
        return True

    def _collided(self, packet: PacketIn) -> None:
        """A client opens a connection to a node itself from the port that one through a virtual
        server has.  To the node they are the same; a flow that only lingers gives way."""
        signature = packet.signature
        octets = bridge.ip_packet(packet.frame)
        if signature.session in self._ended.lingering and octets is not None:
            self._ended.begin(signature.session)
            self._outbox.commands += (RemoveFlow(signature), TransmitPacket(octets))
            self._counters["lingering_replaced"] += 1
            return
        if not self._counters["direct_collisions"]:
            client = f"{to_text(signature.src_ipaddr)} port {signature.src_port}"
            self._outbox.log.append(
                line(
                    f"{client} opened a connection to a node itself from the port that it uses for"
                    f" {to_text(signature.dst_ipaddr)} port {signature.dst_port} on that node: it"
                    " was reset. Only the first one is logged; direct_collisions counts them",
                    client=endpoint_text(signature.src_ipaddr, signature.src_port),
                    node=endpoint_text(signature.dst_ipaddr, signature.dst_port),
                )
            )
        self._counters["direct_collisions"] += 1
        refusal.notify_client(self._outbox, packet)

    def _woken(self, packet: PacketIn, now: float) -> None:
        """A node goes on with a connection that was idle for long: as if its client did, so that
        the CS gives the session its node again; then the packet goes its way."""
        server = self._servers.match(packet.signature)
        if server is None:
            self._counters["drop_no_virtual_server"] += 1
            refusal.answer_refused(self._outbox, packet, ErrorCode.UNKNOWN)
            return
        self._counters["flows_woken"] += 1
        self.packet_came_up(
            packet._replace(reason=_NEW_FLOW, tcp_flags=_ACK, virtual_server=server.key), now
        )

    def _ask_about_installed(self, packet: PacketIn, now: float) -> bool:
        """The node of an installed flow does not answer a SYN: ask whether it is to go on there.
        False if there is no such flow any more.  The flow stays as it is until a REPLY says other;
        if there is nobody to ask, so does the SYN."""
        signature, frame = packet.signature, packet.frame
        state = self._endings.table.lookup(signature)
        if state is None:
            return False
        entry = state.entry
        peer = self._peers.active_of(entry.group_id)
        octets = len(frame)
        has_room = not self.pending.full and self.pending.has_room_for(octets)
        is_spliced = entry.flags & _ADD_TCP_OFFSETS  # its node has the client's data
        if peer is None or not peer.may_ask or not has_room or is_spliced:
            self._outbox.commands.append(InjectPacket(packet))
            return True
        flow = PendingFlow(
            entry.serial,
            packet,
            entry.group_id,
            entry.opened_ms,
            outbound=False,
            is_syn=True,
            room=peer.config.flow_buffer_max - octets,
        )
        flow.asking = int(_asking(state))
        session = signature.session
        self.pending.add(session, flow, octets)
        self._counters["flows_asked_again"] += 1
        self._ask(session, flow, peer, now)
        self.pending.schedule(session, flow, now + peer.retry_s(0))
        return True

    # --- what an agent left that died --------------------------------------------------------

    def half_found(self, event: FlowHalf, now: float) -> None:
        """Only the node's direction of a flow is there.  UDP is decided anew with the next
        datagram; for TCP the CS has the rest of the decision, once it knows its flows again."""
        self._counters["halves_found"] += 1
        signature = event.signature
        server = self._servers.match(signature)
        if signature.protocol != TCP or server is None or len(self._halves) >= HALVES_MAX:
            self._outbox.commands.append(RemoveFlow(signature))
            return
        self._halves.append(signature)
        group = self._peers.groups.get(server.group_id)
        if group is not None:
            self.ask_about_halves(group, now)

    def ask_about_halves(self, group: Group, now: float) -> None:
        """The group's CS knows every flow: let it complete those that were left as halves."""
        peer = group.active
        if peer is None or not peer.may_ask or not peer.synced:
            return
        halves, self._halves = self._halves, []
        for signature in halves:
            server = self._servers.match(signature)
            if server is None or server.group_id != group.group_id:
                self._halves.append(signature)
            elif signature.session not in self.pending.by_session:
                self._ask_about_half(signature, server, peer, now)

    def _ask_about_half(
        self, signature: FlowSignature, server: VirtualServer, peer: Peer, now: float
    ) -> None:
        if self._endings.table.lookup(signature) is not None:
            return  # a packet of the client's came first
        packet = PacketIn(_NEW_FLOW, signature, _ACK, 0, b"", server.key)
        flow = PendingFlow(
            self._serials.next(self._ended.serials.__contains__),
            packet,
            server.group_id,
            int(now * 1000) & _WORD32,
            outbound=False,
            is_syn=False,
            room=peer.config.flow_buffer_max,
        )
        flow.packets.clear()
        flow.is_half = True
        session = signature.session
        self.pending.add(session, flow, 0)
        self._ask(session, flow, peer, now)
        self.pending.schedule(session, flow, now + peer.retry_s(0))

    def _is_refused(self, session: Session, packet: PacketIn, now: float) -> bool:
        """Whether the flow was refused a moment ago; TCP gets another RST where 9.9 sends one."""
        error_code = self.negative.error_of(session, now)
        if error_code is None:
            return False
        self._counters["drop_negative"] += 1
        if packet.signature.protocol == TCP:
            refusal.answer_refused(self._outbox, packet, error_code)
        return True

    def _is_late(self, session: Session, packet: PacketIn, now: float) -> bool:
        """Whether it came up before its flow was there, which it is now: then it is put back.  What
        is bridged is the CS's, which may have taken part in the connection until then."""
        if packet.reason == _BRIDGED or not self._recent.has(session, now):
            return False
        self._outbox.commands.append(InjectPacket(packet))
        self._counters["put_back_late"] += 1
        return True

    def _has_taken(self, key: VirtualServerKey | None, packet: PacketIn) -> bool:
        """Whether the flow has taken a grant since its packet came up: a repeated one has."""
        if key not in self.granted:
            return False
        state = self._endings.table.lookup(packet.signature)
        if state is None or state.closed or packet.reason != _NEW_FLOW:
            return False
        self._outbox.commands.append(InjectPacket(packet))
        self._counters["put_back_late"] += 1
        return True

    def entered(self, flows: bytes) -> None:
        """Flows took grants (as TAKEN has them) although they may have been asked about: then the
        question is given up, and what was held goes by the entry (13.5)."""
        for flow in flows_of(flows):
            session = flow.signature.session
            waiting = self.pending.by_session.get(session)
            if waiting is not None and not flow.error_code and not waiting.asking:
                self._outbox.commands += map(InjectPacket, self.pending.remove(session).packets)
                self._counters["queries_overtaken"] += 1

    def _wait_for_nodes(self, packet: PacketIn) -> None:
        """Of the internal side, while nobody knows whose connections are older than the table: what
        goes on with one may be a client's, and its sender repeats it; the rest goes on."""
        octets = bridge.ip_packet(packet.frame)
        is_syn = packet.tcp_flags & _SYN_ACK == _SYN
        if octets is None or (packet.signature.protocol == TCP and not is_syn):
            self._counters["drop_nodes_awaited"] += 1
            return
        self._counters["passed_by_agent"] += 1
        self._outbox.commands.append(TransmitPacket(octets))

    def _group_asked(self, packet: PacketIn) -> int | None:
        """The group whose node sent the packet in mid-session, or whose CS wants to be asked about
        the internal side's flows; None: nobody is asked."""
        if packet.reason == _OF_NODE:
            src, _, port, _, protocol, _ = packet.signature
            group_id = self._nodes.group_at(src, port, protocol)
            self._counters["drop_no_outbound_group" if group_id is None else "nodes_asked"] += 1
            return group_id
        if self._nodes.awaited_until is not None:
            self._wait_for_nodes(packet)
            return None
        for group in self._peers.groups.values():
            if group.active is not None and group.active.config.flags & CsmbFlag.OUTBOUND_QUERY:
                self._counters["outbound_flows"] += 1
                return group.group_id
        self._counters["drop_no_outbound_group"] += 1
        return None

    def _answer_at_once(self, packet: PacketIn) -> None:
        if packet.reason == _BRIDGED:
            self._bridge(packet)
        else:  # UNSERVED; the target limits how many come
            refusal.notify_client(self._outbox, packet)

    def _bridge(self, packet: PacketIn) -> None:
        server = self._servers.by_key.get(packet.virtual_server) if packet.virtual_server else None
        peer = None if server is None else self._peers.active_of(server.group_id)
        if peer is None or not peer.ssmb_proved:
            self._counters["drop_no_cs_to_bridge"] += 1
            return
        octets = bridge.ip_packet(packet.frame)
        if octets is None or len(octets) > PACKET_MAX:
            self._counters["drop_not_bridged"] += 1
            return
        self._bridger.send(peer, octets)
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
                signature.tos & _NO_ECN,
                flow.tcp_flags,
                flow.asking,
                flow.opened_ms,
            )
        )
        repeat = flow.tries + 1 if flags & _RETRY else 0
        self._outbox.trace.append((now, "query", session, flow.serial, repeat))
        return True

    def ask_again(self, group: Group, now: float, *, only_unasked: bool = False) -> None:
        """The group has another active CS, or it became able to answer: everything that waits
        goes to it at once (11.5), or only what was not sent yet: a copy too many on its way may
        arrive when the flow has ended."""
        peer = group.active
        if peer is None or not peer.may_ask:
            return
        if not only_unasked:
            self._proxied.ask_again(group, now)
        left = ASKED_AT_ONCE
        for session, flow in self.pending.of_group(group.group_id):
            if only_unasked and flow.sent:
                continue
            flow.held_until = 0.0
            if left <= 0:
                flow.tries = -1  # that it is asked about first is no repeat
                self.pending.schedule(session, flow, now + SLOT_S * (1 - left / ASKED_AT_ONCE))
                left -= 1
            elif self._ask(session, flow, peer, now):
                flow.tries = 0
                self.pending.schedule(session, flow, now + peer.retry_s(0))
                left -= 1

    def get_timer(self) -> float | None:
        return self.pending.get_timer()

    def handle_timer(self, now: float) -> None:
        """Repeat what was not answered; give up what was repeated often enough."""
        for session, flow in self.pending.due(now):
            peer = self._peers.active_of(flow.group_id)
            if flow.waits_until:
                self._wait_on(session, flow, peer, now)
                continue
            if flow.tries >= QUERY_REPEATS and not self._may_still_be_answered(flow, peer, now):
                self._give_up(session, flow, now)
                continue
            was_asked = flow.sent
            is_asked = self._ask(session, flow, peer, now)
            if is_asked and was_asked:
                self._counters["query_retries"] += 1
            waits_for_sync = not is_asked and peer is not None and peer.may_ask
            if not waits_for_sync:
                flow.tries += 1
            tries = max(flow.tries, 0)
            wait = default_retry_s(tries) if peer is None else peer.retry_s(tries)
            self.pending.schedule(session, flow, now + wait)

    @staticmethod
    def _may_still_be_answered(flow: PendingFlow, peer: Peer | None, now: float) -> bool:
        """Nobody was there who could have answered: it waits for the next CS (11.6)."""
        if peer is not None and peer.answers:
            return False
        if not flow.held_until:
            flow.held_until = now + NO_CS_HOLD_MS / 1000
        return now < flow.held_until

    def _wait_on(self, session: Session, flow: PendingFlow, peer: Peer | None, now: float) -> None:
        """A flow that waits for a place asks again every second, until its time is over."""
        if now < flow.waits_until:
            self._ask(session, flow, peer, now)
            self.pending.schedule(session, flow, min(now + ASK_WAITING_S, flow.waits_until))
            return
        self.pending.remove(session)
        state = self._endings.table.lookup(flow.signature)
        if state is not None and not state.closed:  # its first segment came, and the target took it
            self._outbox.commands += map(InjectPacket, flow.packets)
            self._counters["put_back_late"] += 1
            return
        code = flow.refusal
        is_early = code == _UNKNOWN
        has_begun = state is not None or self._endings.table.target.has_asked(session)
        if is_early and has_begun:
            # its first segment came, and the connection is over, or about to be there
            self._counters["drop_early_segment"] += len(flow.packets)
            return
        self._counters["wait_timeouts" if code == _BUSY else refusal.COUNTERS[code]] += 1
        self._counters["held_packets_refused"] += len(flow.packets)
        if not is_early:  # the port may be another connection's by now
            self.negative.add(session, code, now, hold_ms(flow, code))
        self._outbox.trace.append((now, "refused", session, flow.serial, code))
        refusal.answer_refused(self._outbox, flow.packets[0], code)

    def _give_up(self, session: Session, flow: PendingFlow, now: float) -> None:
        self.pending.remove(session)
        self._counters["query_timeouts"] += 1
        if flow.is_half:
            self._halves.append(flow.signature)  # for the next time that a CS knows all
        if flow.asking:  # the flow is there: its packets go where they would have gone
            self._outbox.commands += map(InjectPacket, flow.packets)
            return
        self._counters["held_packets_given_up"] += len(flow.packets)
        self._outbox.trace.append((now, "given up", session, flow.serial, flow.tries))


def _asking(state: FlowState) -> Asking:
    """Whether the node ever answered, and the client has shown that it knows.  With direct return
    the DFS sees no answers, so a second packet of the client has to do."""
    counters = state.counters
    answered = counters.pkts_out > 0
    if state.entry.forward_mode != ForwardMode.NAT:
        answered = counters.pkts_in > 1
    if not answered:
        return Asking.UNANSWERED
    return Asking.HALF_OPEN if state.half_open else Asking.SILENT


def _tcp_sequence(frame: bytes) -> int | None:
    """The sequence number of a TCP packet that has neither VLAN tag nor IPv6 extension headers;
    None of any other."""
    if frame[12:14] == b"\x08\x00" and frame[23] == TCP:
        at = 18 + (frame[14] & 0xF) * 4
    elif frame[12:14] == b"\x86\xdd" and frame[20] == TCP:
        at = 58
    else:
        return None
    return int.from_bytes(frame[at : at + 4], "big")
