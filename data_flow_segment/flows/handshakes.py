# SPDX-License-Identifier: Apache-2.0
"""Drives the machine of each connection to a content-aware virtual server (`splicing`): packets and
answers in; segments, held entries and the splice out (docs/design/0012).

    PROXIED                     begin      the client's first data; the machine collects
    the data are complete       Ask        `questions`
    REPLY or NEWFLOW            decided    InstallFlow(held), then the SYN to the node
    the node has answered       Splice     InstallFlow with the offsets; FLOW_STATE to the CSs
    anything else               End        RemoveFlow; DELETE if the CS knows the flow
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from data_flow_segment.flows import messages
from data_flow_segment.flows.application import Reader, limit_of
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.handshake import Arrival, Handshake, HandshakeTable, Link
from data_flow_segment.flows.put_back import put_back
from data_flow_segment.flows.questions import Questions
from data_flow_segment.flows.splices import (
    Splices,
    is_by_target,
    mss_of,
    placeholder,
    spliced,
)
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group, Peers
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import (
    FlowEntry,
    FlowIsThere,
    InstallFlow,
    PacketIn,
    PacketReason,
    RemoveFlow,
    TransmitPacket,
)
from data_flow_segment.targets.translation import inbound, reverse_key
from packets.parse import parse
from packets.tcp import write
from splicing.connection import Connection
from splicing.instructions import (
    Agreed,
    Ask,
    Cause,
    Decision,
    End,
    Enough,
    Instruction,
    Offsets,
    Pass,
    Send,
    Settings,
    Side,
    Splice,
    never_enough,
)
from splicing.table import State
from ssmb.constants import (
    FLOW_BUFFER_MAX,
    TCP,
    TCP_IDLE_TIMEOUT_S,
    CloseReason,
    ErrorCode,
    Flag,
)
from ssmb.messages import FlowSignature, Session
from ssmb.serials import derived

ETHERNET_MTU: Final = 1500
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_PARKED: Final = int(Flag.PARKED)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_HELD: Final = int(PacketReason.HELD)
_NO_ECN: Final = 0xFC
_WORD32: Final = 0xFFFFFFFF
_UNDECIDED: Final = (State.COLLECT, State.ASKED)

_REASONS: Final = {  # of DELETE (9.8)
    Cause.CLIENT_CLOSED: CloseReason.CLIENT_ABORT,
    Cause.CLIENT_RESET: CloseReason.CLIENT_ABORT,
    Cause.NODE_FAILED: CloseReason.NODE_FAIL,
    Cause.NODE_RESET: CloseReason.RST,
    Cause.NODE_SILENT: CloseReason.NODE_FAIL,
    Cause.FINISHED: CloseReason.FIN,
    Cause.IDLE: CloseReason.REAPED,  # nobody else can go on with it
}
_COUNTED: Final = {
    Cause.COLLECT_TIMEOUT: "collecting_timeouts",
    Cause.NODE_FAILED: "handshakes_failed",
    Cause.NODE_SILENT: "handshakes_failed",
    Cause.REFUSED: "content_refused",
}


class Handshakes:
    """All connections that are not spliced yet."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        endings: Endings,
        questions: Questions,
        random_octets: Callable[[int], bytes],
    ) -> None:
        self.table = HandshakeTable()
        self.questions = questions
        questions.schedule = self.table.schedule
        self.splices = Splices(outbox, peers, endings)
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._endings = endings
        self._serial_key = endings.table.target.serial_key() or random_octets(16)

    @property
    def by_session(self) -> dict[Session, Handshake]:
        return self.table.by_session

    # --- packets -----------------------------------------------------------------------------

    def serial_of(self, session: Session, agreed: Agreed) -> int:
        """A repeat of a client's first segment is a repeated question, whoever asks (15.2)."""
        return derived(self._serial_key, session, agreed.client_isn)

    def begin(
        self, arrival: Arrival, server: VirtualServer, agreed: Agreed, serial: int, now: float
    ) -> Handshake:
        """A connection, by its client's first data; the segment itself is still to be handled."""
        signature = arrival.packet.signature
        signature = signature._replace(tos=signature.tos & _NO_ECN)
        handshake = Handshake(signature, serial, server, int(now * 1000) & _WORD32)
        peer = self._peers.active_of(server.group_id)
        buffer_max = FLOW_BUFFER_MAX if peer is None else peer.config.flow_buffer_max
        limit = limit_of(server, buffer_max)
        enough: Enough = never_enough
        if server.app_type is not None:
            handshake.reader = Reader(server.app_type, server.app_data, limit)
            enough = handshake.reader.look
        idle_s = float(server.idle_timeout_s or (peer.idle_timeout_s(TCP) if peer else 0))
        settings = Settings(
            mss_of(handshake.session), limit, buffer_max, idle_s=idle_s or TCP_IDLE_TIMEOUT_S
        )
        handshake.connection = Connection(agreed, settings, enough, now)
        self.table.add(handshake)
        self._counters["proxied_connections"] += 1
        self._outbox.trace.append((now, "collecting", handshake.session, serial, 0))
        return handshake

    def segment_came(self, handshake: Handshake, arrival: Arrival, now: float) -> None:
        """A segment of either side."""
        packet, parsed, segment = arrival
        signature = handshake.signature
        is_clients = (parsed.src, parsed.ports[0]) == (signature.src_ipaddr, signature.src_port)
        origin = Side.CLIENT if is_clients else Side.NODE
        handshake.links[origin] = Link(packet.interface, bytes(parsed.data[: parsed.l3]))
        connection = handshake.connection
        is_collecting = is_clients and connection.state in _UNDECIDED
        if is_collecting:
            settings = connection.settings
            most = settings.limit + settings.buffer
            self.table.charge(handshake, len(segment.payload), most)
        ignored = connection.ignored
        received = connection.client.received
        had = len(received.data), received.is_whole
        instructions = connection.segment(origin, segment, now)
        self._counters["drop_unacceptable"] += connection.ignored - ignored
        self.carry_out(handshake, instructions, now)
        is_raw = handshake.reader is None and handshake.entry is None
        has_more = (len(received.data), received.is_whole) != had
        if is_collecting and is_raw and has_more and self._is_there(handshake):
            self.questions.copy(handshake, had[0], now)
            self.table.schedule(handshake)

    def _is_there(self, handshake: Handshake) -> bool:
        return self.by_session.get(handshake.session) is handshake

    # --- what the machine wants --------------------------------------------------------------

    def carry_out(self, handshake: Handshake, instructions: list[Instruction], now: float) -> None:
        """In their order; then it is looked at when its machine says."""
        for instruction in instructions:
            kind = instruction.__class__
            if kind is Send:
                self._send(handshake, instruction)  # type: ignore[arg-type]
            elif kind is Ask:
                self._ask(handshake, instruction, now)  # type: ignore[arg-type]
            elif kind is Splice:
                self._splice(handshake, instruction.offsets, now)  # type: ignore[union-attr]
            elif kind is Pass:
                self._pass(handshake, instruction)  # type: ignore[arg-type]
            else:
                self._ended(handshake, instruction, now)  # type: ignore[arg-type]
        if self._is_there(handshake):
            if handshake.connection.state is State.COLLECT and not handshake.installed:
                self._install(handshake, placeholder(handshake), now)
            self.table.schedule(handshake)

    def _send(self, handshake: Handshake, send: Send) -> None:
        ends = handshake.to_client if send.to is Side.CLIENT else handshake.to_node
        if ends is not None:
            self._outbox.commands.append(TransmitPacket(write(send.segment, ends)))

    def _ask(self, handshake: Handshake, ask: Ask, now: float) -> None:
        if handshake.is_answered:
            if handshake.reader is not None:
                self.questions.prepare(handshake, ask, int(Flag.RETRY))
            return
        reader = handshake.reader
        if reader is not None and ask.truncated and reader.says_nothing(ask.octets):
            self._counters["content_refused"] += 1  # as a CS would, of whom nobody asks it
            self.refuse(handshake, now)
            return
        if ask.node_failed:
            self._counters["nodes_refused"] += 1
            if handshake.entry is not None:
                handshake.failed.append((handshake.entry.node_ipaddr, handshake.entry.node_port))
        if handshake.reader is not None:
            self.questions.ask(handshake, ask, now)
        elif ask.node_failed:
            self._report(handshake, CloseReason.NODE_FAIL, int(ErrorCode.NODEFAIL), now)
            handshake.entry = None
            self.questions.copy_again(handshake, now)

    def decide(
        self, handshake: Handshake, entry: FlowEntry, now: float, *, is_asked: bool = False
    ) -> None:
        """A CS chose a node: its packets have to come here before the SYN leaves.  `is_asked`: the
        target has sent it before; it is repeated in time."""
        if not handshake.installed and self.is_targets(handshake.signature, entry.serial):
            self._leave(handshake, now)  # before the SYN, which would be a second one
            return
        self.questions.answered(handshake, now)
        flags = entry.flags & ~_PARKED | _PROXY_SERVER
        entry = entry._replace(signature=handshake.signature, flags=flags, held=True)
        handshake.serial = entry.serial
        handshake.entry, handshake.is_known = entry, True
        handshake.to_node = Session(*reverse_key(entry.signature, inbound(entry))).opposite
        self._install(handshake, entry, now)
        instructions = handshake.connection.decided(Decision(), now)
        self.carry_out(handshake, [] if is_asked else instructions, now)

    def _install(self, handshake: Handshake, entry: FlowEntry, now: float) -> None:
        endings = self._endings
        replaces = handshake.installed
        endings.table.make_way(endings.ended, entry, now, replaces=replaces)
        handshake.installed = True
        self._outbox.commands.append(InstallFlow(entry, begins=not replaces))

    def is_there(self, event: FlowIsThere, now: float) -> None:
        """The target has what was to begin here: an agent before had begun it, or the target has
        asked about its client's repeat too, and that answer was first.  Then the target goes on."""
        entry = event.entry
        handshake = self.by_session.get(entry.signature.session)
        if handshake is None or handshake.serial != entry.serial:
            return
        state = self._endings.table.lookup(entry.signature)
        if state is None or state.entry.serial != entry.serial or is_by_target(state.entry):
            self._leave(handshake, now)  # perhaps it is even over by now
        else:
            self._outbox.commands.append(InstallFlow(handshake.entry or placeholder(handshake)))

    def is_targets(self, signature: FlowSignature, serial: int) -> bool:
        """Whether the target carries this flow, or completes its handshake."""
        state = self._endings.table.lookup(signature)
        return state is not None and state.entry.serial == serial and is_by_target(state.entry)

    def _leave(self, handshake: Handshake, now: float) -> None:
        self._counters["short_ahead"] += 1
        self.table.remove(handshake)
        self.questions.is_over(handshake, now)
        self._outbox.trace.append((now, "left", handshake.session, handshake.serial, 0))

    def _splice(self, handshake: Handshake, offsets: Offsets, now: float) -> None:
        """The target carries it from now on, or as soon as enough is learnt."""
        self.table.remove(handshake)
        self.splices.joined(handshake, spliced(handshake, offsets), now)

    def _pass(self, handshake: Handshake, passed: Pass) -> None:
        """A segment that came too early for the entry."""
        link = handshake.links.get(passed.origin)
        ends = handshake.session
        if passed.origin is Side.NODE:
            assert handshake.to_node is not None, "a node was chosen"
            ends = handshake.to_node.opposite
        if link is None:
            return
        frame = link.header + write(passed.segment, ends)
        learner = self.splices.learning.by_session.get(handshake.session)
        if learner is not None:
            is_clients = passed.origin is Side.CLIENT
            self.splices.learning.relay(parse(frame), learner.entry, is_clients=is_clients)
            return
        signature, flags = handshake.signature, passed.segment.flags
        packet = PacketIn(_HELD, signature, flags, link.interface, frame, handshake.server.key)
        put_back(self._outbox, packet)

    # --- its end -----------------------------------------------------------------------------

    def _ended(self, handshake: Handshake, end: End, now: float) -> None:
        counter = _COUNTED.get(end.cause)
        if counter is not None and handshake.connection.state is State.OVER:
            self._counters[counter] += 1
        reason = _REASONS.get(end.cause, CloseReason.UNSPECIFIED)
        failed = end.cause in (Cause.NODE_FAILED, Cause.NODE_SILENT)
        self._forget(handshake, reason, int(ErrorCode.NODEFAIL) if failed else 0, now)

    def drop(self, handshake: Handshake, reason: int, now: float, error_code: int = 0) -> None:
        """It cannot go on; both sides get an RST, and the CS a DELETE with this reason."""
        instructions = handshake.connection.drop(now)
        for instruction in instructions:
            if isinstance(instruction, Send):
                self._send(handshake, instruction)
        self._forget(handshake, reason, error_code, now)

    def refuse(self, handshake: Handshake, now: float) -> None:
        """A CS refused it, and so does not have it."""
        handshake.is_known = False
        for instruction in handshake.connection.refused(now):
            if isinstance(instruction, Send):
                self._send(handshake, instruction)
        self._forget(handshake, CloseReason.UNSPECIFIED, 0, now)

    def _forget(self, handshake: Handshake, reason: int, error_code: int, now: float) -> None:
        self.table.remove(handshake)
        self.questions.is_over(handshake, now)
        self._report(handshake, reason, error_code, now)
        if handshake.installed:
            self._outbox.commands.append(RemoveFlow(handshake.signature))
        self._endings.ended.note(handshake.signature, handshake.serial, now)
        what = (now, "not spliced", handshake.session, handshake.serial, reason)
        self._outbox.trace.append(what)

    def _report(self, handshake: Handshake, reason: int, error_code: int, now: float) -> None:
        """DELETE, if the CS has the flow."""
        if not handshake.is_known or (handshake.reader is None and handshake.entry is None):
            return
        handshake.is_known = False
        entry = handshake.entry or placeholder(handshake)
        state = self._endings.table.lookup(handshake.signature) if handshake.installed else None
        if state is None:
            message = messages.delete_uninstalled(entry, reason, error_code)
        else:
            message = messages.delete(state._replace(entry=entry), reason, error_code)
        self._endings.report(message, handshake.group_id, now)

    # --- time, and other CSs -----------------------------------------------------------------

    def ask_again(self, group: Group, now: float) -> None:
        """Another CS of the group is active, or it became able to answer (11.5)."""
        for handshake in self.table.of_group(group.group_id):
            self.questions.ask_again(handshake, now)
            self.table.schedule(handshake)

    def drop_all(self, group_id: int | None, now: float) -> None:
        """RESET: nothing of it is any CS's."""
        for handshake in list(self.by_session.values()):
            if group_id is None or handshake.group_id == group_id:
                handshake.is_known = False
                self.drop(handshake, CloseReason.UNSPECIFIED, now)

    def get_timer(self) -> float | None:
        return self.table.get_timer()

    def handle_timer(self, now: float) -> None:
        """Repeats and deadlines of the machines, and of what is asked."""
        for handshake in self.table.due(now):
            if handshake.ask_at and handshake.ask_at <= now:
                self.questions.repeat(handshake, now)
            timer = handshake.connection.get_timer()
            due = timer is not None and timer <= now
            instructions = handshake.connection.handle_timer(now) if due else []
            self.carry_out(handshake, instructions, now)
