# SPDX-License-Identifier: Apache-2.0
"""The answer to a question of the target's own: a REPLY with PARKED is opened and carried out, and
the packet that it carries goes on.  What is not plain is left to the agent's socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from data_flow_segment.targets.contract import FINISHED_VERSION, FinishedMessages, FlowEntry
from data_flow_segment.targets.flow_table import FlowTable
from data_flow_segment.targets.memory.asking import UDP_HEADER
from data_flow_segment.targets.memory.controls import Control, Controls
from data_flow_segment.targets.memory.ends import Ends
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.memory.short_way import (
    SHORT_WAY,
    Request,
    Requests,
    request_of,
    syn_of,
)
from data_flow_segment.targets.translation import CannotInstall, inbound, reverse_key
from packets.parse import ETHERNET, IPV4, Kind, MalformedPacket, Packet, parse
from ssmb.addresses import is_martian
from ssmb.codec import decode, encode
from ssmb.constants import NODE_FLAGS, SEAL_SIZE, TCP, UDP, Flag, ForwardMode, MessageType
from ssmb.errors import BadTag, MalformedMessage, Replayed, TooOld, TooShort
from ssmb.messages import Reply
from ssmb.serials import CS_ORIGINATED, NO_FLOW

LANES: Final = 4
"""Of a CS whose REPLYs are opened here; others are the agent's."""

_UNDERSTOOD: Final = NODE_FLAGS | int(Flag.PARKED | Flag.RETRY | Flag.PROXY_SERVER)
_WORD32: Final = 0xFFFFFFFF


class Back(NamedTuple):
    """What a REPLY brought back."""

    frame: bytes  # b"": nothing that may go on
    is_syn: bool = False  # of the target's own, to the node of a held flow


_NOTHING: Final = Back(b"")


class _LeftToAgent(Exception):
    """The agent has to look at it: what is rare, and what cannot be."""


class Answerer:
    """Carries REPLYs out."""

    def __init__(
        self,
        table: FlowTable[Flow],
        controls: Controls,
        ends: Ends,
        requests: Requests,
        check: Callable[[FlowEntry], None],
        awake: Callable[[FlowEntry], None],
        count: Callable[[str], None],
        report: Callable[[FinishedMessages], None],
        clock: Callable[[], float],
    ) -> None:
        """`check` raises CannotInstall for what could go round; `awake` is told what is there."""
        self._table = table
        self._controls = controls
        self._ends = ends
        self._requests = requests
        self._check = check
        self._awake = awake
        self._count = count
        self._report = report
        self._clock = clock

    def reply_came(self, frame: bytes) -> Back | None:
        """What a REPLY brought back; None: the frame is no REPLY for this target, and goes the way
        of any other."""
        try:
            return self._carry_out(frame)
        except (_LeftToAgent, MalformedPacket, CannotInstall):
            return None

    def _carry_out(self, frame: bytes) -> Back:
        packet = parse(frame)
        control = self._control_of(packet)
        if control is None:
            raise _LeftToAgent
        datagram = _datagram_of(packet)
        reply = _reply_of(datagram[:-SEAL_SIZE])
        if not _is_plain(reply) or datagram[-SEAL_SIZE] >= LANES or control.seals is None:
            raise _LeftToAgent
        try:
            control.seals.opener.open(datagram)
        except (BadTag, TooShort):
            raise _LeftToAgent from None
        except (Replayed, TooOld):
            self._count("reply_replayed")
            return _NOTHING
        request = _request_of(reply)
        entry = _entry_of(reply, control.offload.group_id, self._clock())
        if self._is_stale(entry):
            self._count("reply_stale")
            return _NOTHING
        if self._table.lookup(entry.signature) is None or self._gives_way(entry):
            self._enter(entry, half_open=bool(reply.frame) and reply.protocol == TCP)
            if control.offload.shared:
                copy = reply._replace(flags=reply.flags & ~int(Flag.PARKED), frame=b"")
                octets = encode(copy, FINISHED_VERSION)
                self._report(FinishedMessages(entry.group_id, int(MessageType.REPLY), octets))
        elif request is not None:  # its client said it again before the first REPLY came
            self._count("reply_stale")
            return _NOTHING
        if request is None:
            return Back(reply.frame)
        self._requests.keep(entry.signature.session, request)
        return Back(syn_of(request), is_syn=True)

    def _control_of(self, packet: Packet) -> Control | None:
        is_datagram = packet.kind == Kind.TRANSPORT and packet.protocol == UDP
        if not is_datagram or packet.first_fragment or packet.later_fragment:
            return None
        if packet.l3 != ETHERNET.size:
            return None
        source, destination = packet.ports
        control = self._controls.answering(packet.src, source)
        path = None if control is None else control.offload.path
        if path is None or (path.own_ipaddr, path.own_port) != (packet.dst, destination):
            return None
        return control

    def _is_stale(self, entry: FlowEntry) -> bool:
        """Its flow is over, or another one has its place."""
        flow = self._table.lookup(entry.signature)
        if flow is None:
            return False
        return (flow.entry.serial == entry.serial) == flow.closed

    def _gives_way(self, entry: FlowEntry) -> bool:
        """Whether the flow with its signature only lingers; otherwise it is this very flow."""
        flow = self._table.lookup(entry.signature)
        if flow is None or not flow.closed:
            return False
        if not flow.close_reported:
            raise _LeftToAgent
        return True

    def _enter(self, entry: FlowEntry, *, half_open: bool) -> None:
        if not entry.flags & Flag.ROUTE_BY_DST_IP and is_martian(entry.next_hop_ipaddr):
            raise _LeftToAgent  # it knows the virtual server's next hop, and the default gateway
        self._check(entry)
        known = self._table.lookup(entry.signature)
        if known is not None:
            self._ends.take_out(known)
        in_the_way = self._table.find(reverse_key(entry.signature, inbound(entry)))
        if in_the_way is not None:
            flow = in_the_way[0]
            if not flow.closed or not flow.close_reported:
                raise _LeftToAgent
            self._ends.take_out(flow)
            self._count("lingering_replaced")
        if len(self._table) >= self._table.capacity:
            self._ends.make_room()
        self._table.install(entry, self._clock(), half_open=half_open)
        self._awake(entry)
        self._count("installed")
        self._ends.begun(entry)


def _datagram_of(packet: Packet) -> bytes:
    length = packet.word(packet.l4 + 4)
    if not UDP_HEADER + SEAL_SIZE < length <= packet.end - packet.l4:
        raise _LeftToAgent
    return bytes(packet.data[packet.l4 + UDP_HEADER : packet.l4 + length])


def _reply_of(octets: bytes) -> Reply:
    try:
        message = decode(octets, FINISHED_VERSION)
    except MalformedMessage:
        raise _LeftToAgent from None
    if not isinstance(message, Reply):
        raise _LeftToAgent
    return message


def _is_plain(reply: Reply) -> bool:
    """Whether this target carries it out; of the rest the agent says why not."""
    if reply.error_code or not reply.flags & Flag.PARKED:
        return False
    if reply.flags & ~(_UNDERSTOOD | int(Flag.ADDR16)) or reply.protocol not in (TCP, UDP):
        return False
    if reply.serial == NO_FLOW or reply.serial & CS_ORIGINATED or not reply.idle_timeout:
        return False
    if reply.seq_offset or reply.ack_offset or reply.ts_offset or reply.wscale_shift:
        return False
    return not reply.frame or len(reply.frame) >= ETHERNET.size + IPV4.size


def _request_of(reply: Reply) -> Request | None:
    """What the client said, if the target is to complete the handshake with the node, to which its
    SYN goes by the routes; None: it is not."""
    if not reply.flags & Flag.PROXY_SERVER:
        return None
    is_routed = reply.forward_mode == ForwardMode.NAT and reply.flags & Flag.ROUTE_BY_DST_IP
    request = request_of(reply.frame) if is_routed and reply.protocol == TCP else None
    if request is None:
        raise _LeftToAgent
    return request


def _entry_of(reply: Reply, group_id: int, now: float) -> FlowEntry:
    is_short = bool(reply.flags & Flag.PROXY_SERVER)
    return FlowEntry(
        reply.signature,
        reply.serial,
        group_id,
        reply.flags & NODE_FLAGS | (SHORT_WAY if is_short else 0),
        *reply.translation,
        int(now * 1000) & _WORD32,
        held=is_short,
    )
