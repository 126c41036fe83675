# SPDX-License-Identifier: Apache-2.0
"""What a DFS reports about its flows: DELETE, STATS, FLOW_STATE (wire protocol 9.8, 10.1, 11.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from control_segment.decisions import Decisions
from control_segment.flows import SESSION, WAITS_FOR_ANSWER, Elsewhere, Flow, FlowTable
from control_segment.nodes import Node
from control_segment.openings import FAILED, NEVER_ESTABLISHED, Opening, opening_of
from control_segment.pairs.teams import (
    are_together,
    carry,
    gone,
    has_packets,
    next_holder,
    reported,
)
from control_segment.peers import Peer
from control_segment.source_ports import Scope
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import (
    PLACE_SIZE,
    PROTOCOL,
    Ended,
    head_flags,
    pack_translation,
    reply_head,
    session_key,
    src_of,
    unpack_translation,
    with_snat_port,
)
from ssmb.constants import FLOW_FLAGS, TCP, CloseReason, ErrorCode, Flag, ForwardMode
from ssmb.messages import FlowState, Stats
from ssmb.serials import CS_ORIGINATED

# Plain numbers: a DELETE comes for every flow, and an enum's operators cost ten times an int's
_HAS_STATS: Final = int(Flag.HAS_STATS)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_TRANSLATE_SRC: Final = int(Flag.TRANSLATE_SRC)
_SESSION_GOES_ON: Final = frozenset({int(CloseReason.IDLE), int(CloseReason.OVERFLOW)})
_LEAVES: Final = frozenset(  # of a DFS, while the flow may go on at another one
    int(reason)
    for reason in (
        CloseReason.UNSPECIFIED,
        CloseReason.IDLE,
        CloseReason.OVERFLOW,
        CloseReason.REAPED,
    )
)
_OVERFLOW: Final = int(CloseReason.OVERFLOW)
_NORESOURCE: Final = int(ErrorCode.NORESOURCE)
_OPENED: Final = Opening.OPENED
_REASONS: Final = {int(reason): reason.name for reason in CloseReason}
_ACTIVE: Final = "the active CS"
_ERRORS: Final = {int(code): f", {code.name}" for code in ErrorCode if code}


def _nobody_asks(flow: Flow, now: float) -> None:
    """Until the reaper is there."""


class Claims(Protocol):
    """`control_segment.grant_takings.Takings.claim`."""

    def __call__(
        self, peer: Peer, key: bytes, serial: int, now: float, *, node: Node | None, is_over: bool
    ) -> Flow | None: ...


class Decided:
    """What somebody else has decided for flows of a virtual server to one of its nodes."""

    __slots__ = ("head", "idle_s", "is_spare", "node", "scope", "server", "tail")

    def __init__(
        self,
        server: VirtualServer,
        node: Node,
        head: bytes,
        tail: bytes,
        idle_s: int,
        scope: Scope | None,
        *,
        is_spare: bool,
    ) -> None:
        self.server = server
        self.node = node
        self.head = head  # of a REPLY
        self.tail = tail  # likewise, without a source port
        self.idle_s = idle_s
        self.scope = scope  # of their source ports, if the source is translated
        self.is_spare = is_spare  # the DFS holds them for another one of its team


class Notices:
    """Keeps the table as the DFSs say."""

    def __init__(
        self,
        decisions: Decisions,
        statistics: Statistics,
        trace: Trace,
        strangers: VirtualServer,
        claims: Claims,
    ) -> None:
        self._decisions = decisions
        self._table: FlowTable = decisions.table
        self._by_key = self._table.by_key
        self._statistics = statistics
        self._note = trace.note
        self.ask: Callable[[Flow, float], None] = _nobody_asks  # by TIMEOUT; see `Reaper.ask`
        self.claims = claims  # any message about an outstanding grant says that it was taken
        # stands in for virtual servers and nodes of earlier configurations
        self._strangers = strangers

    def ended(self, peer: Peer, delete: Ended, now: float) -> None:
        """DELETE: a flow ended at the DFS; its session may go on (9.8)."""
        (
            _, error, flags, serial, key, _, tcp_flags, reason, _, idle_ms,
            pkts_in, bytes_in, pkts_out, bytes_out, seq_offset, ack_offset, ts_offset, wscale_shift,
        ) = delete  # fmt: skip
        flow = self._held(peer, key, serial, now, is_over=True)
        if flow is None:
            return
        leaves = reason in _LEAVES
        if flow.peer is not peer:
            if leaves:
                full = reason == _OVERFLOW or error == _NORESOURCE
                gone(self._table, flow, peer, has_room=not full)
                return
            carry(flow, peer, still_there=True)
        if flags & _HAS_STATS:
            _count(flow, pkts_in, bytes_in, pkts_out, bytes_out)
        opening = opening_of(
            error, flags, key[PROTOCOL], tcp_flags, reason, idle_ms, pkts_in, pkts_out,
            forward_mode=flow.tail[-1], idle_timeout_s=flow.idle_s,
        )  # fmt: skip
        keeps = reason in _SESSION_GOES_ON and opening not in NEVER_ESTABLISHED
        if leaves and flow.spares and self._is_elsewhere(flow, now, keeps=keeps, still_there=False):
            return
        if opening in FAILED and flow.node.connection_failed(serial, flow.opened, now):
            self._decisions.suspect(flow.node, now)
        elif opening is _OPENED:
            flow.node.connection_opened(flow.opened, now)
        name = _REASONS.get(reason) or str(reason)  # of a later release, perhaps
        keeps |= flow.elsewhere is not None and flow.elsewhere.keeps_session
        if keeps and key[PROTOCOL] == TCP:
            if flags & _ADD_TCP_OFFSETS:
                _adopt_offsets(flow, seq_offset, ack_offset, ts_offset, wscale_shift)
            self._note((now, flow.key, "the flow ended (%s): its session is kept", (name,)))
            self._table.detach(flow, now)
        else:
            self._note((now, flow.key, "the flow ended (%s%s)", (name, _ERRORS.get(error, ""))))
            self._table.end(flow)

    def _is_elsewhere(self, flow: Flow, now: float, *, keeps: bool, still_there: bool) -> bool:
        """Its owner has no packets of a flow any more; another DFS may, which is asked.

        `keeps`: the session may go on when nobody has the flow; `still_there`: the owner keeps its
        entry until then.
        """
        holder = next_holder(flow)
        if holder is None:
            return False
        carry(flow, holder, still_there=still_there, keeps_session=keeps)
        what = "left by its DFS: DFS segment %s is asked about its spare"
        self._note((now, flow.key, what, (holder.segment_id,)))
        self.ask(flow, now)
        return True

    def _unused(self, flow: Flow, peer: Peer, now: float) -> None:
        """A DFS that was asked about a spare says that no packet has met it."""
        if flow.elsewhere is None or self._is_elsewhere(flow, now, keeps=False, still_there=False):
            return
        assert peer.member is not None, "it holds a spare"
        flow.spares |= peer.member.bit
        self._note((now, flow.key, "no DFS has packets of it: the flow is over", ()))
        if flow.elsewhere.keeps_session and flow.key[PROTOCOL] == TCP:
            self._table.detach(flow, now)
        else:
            self._table.end(flow)

    def counted(self, peer: Peer, message: Stats, now: float) -> None:
        """STATS: counters, and a sign of life (9.11, 10.1)."""
        flow = self._held(peer, session_key(*message[3:8]), message.serial, now)
        if flow is None:
            return
        if flow.peer is not peer or flow.elsewhere is not None:
            is_unused = not message.pkts_in + message.pkts_out
            if flow.peer is not peer:
                if is_unused:
                    return
                carry(flow, peer, still_there=True)
            elif is_unused and flow.state in WAITS_FOR_ANSWER:
                self._unused(flow, peer, now)
                return
            has_packets(self._table, flow, peer)
        if message.flags & _HAS_STATS:
            _count(flow, message.pkts_in, message.bytes_in, message.pkts_out, message.bytes_out)
        if message.flags & _ADD_TCP_OFFSETS:
            self._spliced(flow, message)
        flow.confirmed = peer.sync_number
        if flow.state in WAITS_FOR_ANSWER:
            self._note((now, flow.key, "the DFS reports that the flow is active", ()))
        self._table.moved(flow, now)

    def flow_state(self, peer: Peer, state: FlowState, now: float) -> None:
        """FLOW_STATE: a flow that the DFS has."""
        key = session_key(*state[3:8])
        flow = self._table.by_key.get(key)
        if peer.grants is not None and state.serial in peer.grants.outstanding:
            newer = flow is not None and flow.opened >= peer.sync.started
            _, node = self._find(key, state)
            claimed = self.claims(peer, key, state.serial, now, node=node, is_over=newer)
            flow = self._table.by_key.get(key) if claimed is None else claimed
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self._decisions.lapse(flow, now)
        if flow is not None and flow.state != SESSION and are_together(flow, peer):
            if flow.serial == state.serial:
                reported(flow, peer, state.idle_timeout)
                if state.flags & _ADD_TCP_OFFSETS:
                    self._spliced(flow, state)
            else:  # an earlier one of the session, or a lost NEWFLOW's
                gone(self._table, flow, peer, has_room=True)
            return
        is_same = flow is not None and _is_held(flow, peer, state)
        if flow is not None:
            # Else it is what this CS decided when it did not know yet that it is a standby
            if is_same and (peer.is_active or _is_at(flow, state)):
                self._confirmed(flow, peer, state, now)
                return
            is_known = not is_same and flow.state != SESSION
            if is_known and self._is_newer(flow, peer, state, now):
                return
            self._table.end(flow)
        self._enter_reported(peer, key, state, now, corrects=is_same)

    def _spliced(self, flow: Flow, message: Stats | FlowState) -> None:
        """The DFS has joined the client's connection to the node's: by what offsets (15.5)."""
        if not head_flags(flow.head) & _ADD_TCP_OFFSETS:
            offsets = message.seq_offset, message.ack_offset, message.ts_offset
            _adopt_offsets(flow, *offsets, message.wscale_shift)
            if flow.peer.member is not None:
                self._table.spread_again(flow)

    def _confirmed(self, flow: Flow, peer: Peer, state: FlowState, now: float) -> None:
        if state.flags & _ADD_TCP_OFFSETS:
            self._spliced(flow, state)
        flow.confirmed = peer.sync_number
        if flow.state in WAITS_FOR_ANSWER:
            self._table.moved(flow, now)
        # It may have moved while we could not hear of it
        flow.last_active = max(flow.last_active, now - state.idle_ms / 1000)

    def _enter_reported(
        self, peer: Peer, key: bytes, state: FlowState, now: float, *, corrects: bool
    ) -> None:
        flow = self._enter(peer, key, state, now)
        if flow is None:
            return
        server, client = flow.virtual_server, src_of(key)
        (server.learn_node if corrects else server.recall_node)(client, flow.node, now)

    @staticmethod
    def _is_newer(flow: Flow, peer: Peer, state: FlowState, now: float) -> bool:
        """Whether what is known of a session is newer than this report.

        What came by ordinary messages since the SYNC began is (11.4).  If another DFS has a flow of
        the session too, it has moved from one to the other, and is where it was seen last.
        """
        if flow.peer is not peer:
            return flow.last_active > now - state.idle_ms / 1000
        return flow.opened >= peer.sync.started

    def session_kept(
        self, absent: Peer, key: bytes, state: FlowState, now: float, seen: float
    ) -> bool:
        """A session without a flow that another process knew; False: there is no room, or another
        session has its source port."""
        if state.snat_port:
            scope = self.described(absent, key, state).scope
            ports = self._decisions.source_ports
            if scope is not None and ports.is_used(scope, state.snat_port):
                return False
        flow = self._enter(absent, key, state, now)
        if flow is None:
            return False
        self._table.detach(flow, seen)
        return True

    def mirrored(self, peer: Peer, key: bytes, state: FlowState, now: float) -> None:
        """A decision of the group's active CS, of which the DFS sent a copy (11.3)."""
        flow = self._table.by_key.get(key)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self._decisions.lapse(flow, now)
        if flow is not None:
            is_same = _is_held(flow, peer, state)
            if flow.previous_serial == state.serial or (is_same and _is_at(flow, state)):
                return  # a late one, or a repeat
            if flow.serial == state.serial and are_together(flow, peer):
                reported(flow, peer, state.idle_timeout)
                return
            # The session's next flow
            if not is_same and _is_at(flow, state):
                self._table.attach(flow, peer, state.serial, now)
                return
            self._table.end(flow)
        flow = self._enter(peer, key, state, now, _ACTIVE)
        if flow is not None:
            flow.virtual_server.learn_node(src_of(key), flow.node, now)

    def _enter(
        self, peer: Peer, key: bytes, state: FlowState, now: float, who: str = ""
    ) -> Flow | None:
        if not self.has_room():
            return None
        who = who or ("SYNC" if state.serial else "the state file")
        decided = self.described(peer, key, state)
        flow = self._record(peer, key, state.serial, decided, state.snat_port, now, who)
        flow.last_active = now - state.idle_ms / 1000
        return flow

    def has_room(self) -> bool:
        """Whether there is room for a record; otherwise that is counted."""
        if self._table.make_room():
            return True
        self._statistics.drops["table_full"] += 1
        return False

    def described(self, peer: Peer, key: bytes, state: FlowState) -> Decided:
        """Return what other flows of the virtual server to the same node get, too."""
        server, node = self._find(key, state)
        idle_s = state.idle_timeout or server.idle_s
        is_spare = peer.member is not None and idle_s > server.idle_s
        if is_spare:  # of a DFS that does not report it, or later
            idle_s = server.idle_s
        head = reply_head(0, state.flags & FLOW_FLAGS)
        tail = pack_translation(state.translation._replace(idle_timeout=idle_s, snat_port=0))
        configured = server.answers.get(node)
        if configured == (head, tail):
            head, tail = configured  # one copy for all
        scope: Scope | None = None
        if state.flags & _TRANSLATE_SRC:
            port = state.node_port or state.dst_port
            scope = (state.snat_ipaddr, state.node_ipaddr, port, state.protocol)
        return Decided(server, node, head, tail, idle_s, scope, is_spare=is_spare)

    def mirrored_as(
        self, peer: Peer, key: bytes, serial: int, decided: Decided, snat_port: int, now: float
    ) -> None:
        """As `mirrored`, of a flow whose signature stands for nothing here; it `has_room`."""
        self._record(peer, key, serial, decided, snat_port, now, _ACTIVE)
        server = decided.server
        if server.persistence is not None:
            server.learn_node(src_of(key), decided.node, now)

    def _record(
        self,
        peer: Peer,
        key: bytes,
        serial: int,
        decided: Decided,
        snat_port: int,
        now: float,
        who: str,
    ) -> Flow:
        """Enter a flow; there is room."""
        server, node, tail, table = decided.server, decided.node, decided.tail, self._table
        if snat_port:
            tail = with_snat_port(tail, snat_port)
        flow = Flow(key, serial, peer, server, node, decided.head, tail, decided.idle_s, now)
        if snat_port and decided.scope is not None:
            flow.source_port = self._decisions.source_ports.adopt(decided.scope, snat_port)
        if decided.is_spare:
            flow.elsewhere = Elsewhere()
            flow.elsewhere.keeps_session = True
        table.enter(flow, now)
        if table.serials is not None and serial >= CS_ORIGINATED:
            table.serials.mark(serial)
        self._note(
            (now, key, "known by %s: virtual server %s, node %s", (who, server.name, node.name))
        )
        return flow

    def _find(self, key: bytes, state: FlowState) -> tuple[VirtualServer, Node]:
        """Return what a flow from before our start belongs to; else a stranger."""
        server = self._decisions.servers.match(key) or self._strangers
        port = state.node_port or state.dst_port
        node = server.find_node(state.node_ipaddr, port)
        if node is None and not (state.node_port or server.config.translates_port):
            node = server.find_node_at(state.node_ipaddr)
        if node is None:
            node = _stranger(server, state, port)
        elif server is not self._strangers and state.forward_mode == ForwardMode.NAT:
            server.answer(node)  # so that equal translations are found equal
        return server, node

    def _held(
        self, peer: Peer, key: bytes, serial: int, now: float, *, is_over: bool = False
    ) -> Flow | None:
        """Return the flow that a message is about, if it is the one that we hold; its DFS may be
        another one of the sender's team."""
        flow = self._by_key.get(key)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self._decisions.lapse(flow, now)
        if flow is None or flow.serial != serial or flow.peer is not peer or flow.state == SESSION:
            if peer.grants is not None and serial in peer.grants.outstanding:
                return self.claims(peer, key, serial, now, node=None, is_over=is_over)
            is_held = flow is not None and flow.serial == serial and flow.state != SESSION
            if is_held and flow is not None and are_together(flow, peer):
                return flow  # the caller looks whose it is
            self._statistics.drops["stale_serial"] += 1
            return None
        return flow


def _is_held(flow: Flow, peer: Peer, state: FlowState) -> bool:
    """Whether it is this flow that a message is about."""
    return flow.peer is peer and flow.serial == state.serial and flow.state != SESSION


def _is_at(flow: Flow, state: FlowState) -> bool:
    """Whether the DFS has the node that was decided here."""
    return flow.tail[:PLACE_SIZE] == pack_translation(state.translation)[:PLACE_SIZE]


def _stranger(server: VirtualServer, state: FlowState, port: int) -> Node:
    """Return a node that is not configured any more, for the sessions that it still has."""
    pool = server.own_pool
    node = Node(pool.name, f"unknown-{port}", state.node_ipaddr, port)
    node.removed = True
    pool.leaving[node.place] = node
    return node


def _count(flow: Flow, pkts_in: int, bytes_in: int, pkts_out: int, bytes_out: int) -> None:
    """Take cumulative counters; a lost or late message costs nothing."""
    if pkts_in + pkts_out < flow.pkts_in + flow.pkts_out:
        return  # overtaken by a later one
    node = flow.node
    node.pkts_in += pkts_in - flow.pkts_in
    node.bytes_in += bytes_in - flow.bytes_in
    node.pkts_out += pkts_out - flow.pkts_out
    node.bytes_out += bytes_out - flow.bytes_out
    flow.pkts_in, flow.bytes_in = pkts_in, bytes_in
    flow.pkts_out, flow.bytes_out = pkts_out, bytes_out


def _adopt_offsets(
    flow: Flow, seq_offset: int, ack_offset: int, ts_offset: int, wscale_shift: int
) -> None:
    """A spliced session's next flow needs the offsets that the DFS computed (9.8)."""
    translation = unpack_translation(flow.tail)._replace(
        seq_offset=seq_offset,
        ack_offset=ack_offset,
        ts_offset=ts_offset,
        wscale_shift=wscale_shift,
    )
    flags = head_flags(flow.head) & ~Flag.PROXY_SERVER | Flag.ADD_TCP_OFFSETS
    flow.head, flow.tail = reply_head(0, flags), pack_translation(translation)
