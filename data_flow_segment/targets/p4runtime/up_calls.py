# SPDX-License-Identifier: Apache-2.0
"""What comes up from the switch: packets for the agent, ends of flows, answers to queries, and
packets whose senders get an ICMP error from the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from finsy.proto import p4r

from data_flow_segment.targets.contract import (
    EarlyFragment,
    Event,
    FlowReopened,
    PacketIn,
    VirtualServerKey,
)
from data_flow_segment.targets.flow_table import INBOUND, event_of
from data_flow_segment.targets.interfaces import Interface, broadcasts, by_port, is_from_elsewhere
from data_flow_segment.targets.ownership import Question
from data_flow_segment.targets.p4runtime.constants import INJECT_ARRIVAL, Operation, Reason
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.flows import SwitchFlow
from data_flow_segment.targets.p4runtime.packets import (
    FrameUp,
    MalformedUp,
    Report,
    frame_up,
    packet_out,
)
from data_flow_segment.targets.p4runtime.proxied import Proxied
from data_flow_segment.targets.translation import Key
from packets import icmp
from packets.hygiene import is_from_group
from packets.parse import Kind, MalformedPacket, Packet, parse
from packets.split import split
from ssmb.addresses import is_ipv4
from ssmb.messages import FlowSignature

ERRORS_PER_S: Final = 500
ERRORS_BURST: Final = 100
_NEW: Final = frozenset(map(int, (Reason.NEW_FLOW, Reason.BRIDGED, Reason.OUTBOUND)))
_KNOWN: Final = frozenset(map(int, (Reason.UNANSWERED, Reason.ASLEEP, Reason.COLLISION)))
_UNSERVED: Final = int(Reason.UNSERVED)
_EARLY_FRAGMENT: Final = int(Reason.EARLY_FRAGMENT)
_PROXYING: Final = frozenset((int(Reason.PROXIED), int(Reason.HELD)))
_FROM_OUTSIDE: Final = _NEW - {int(Reason.OUTBOUND)} | {_UNSERVED, int(Reason.PROXIED)}
_TELL_SENDER: Final = frozenset((int(Reason.TTL), int(Reason.TOO_BIG)))
_CLOSED: Final = int(Reason.CLOSED)


class UpCalls:
    """Sorts what comes up."""

    def __init__(
        self,
        desired: Desired,
        *,
        emit: Callable[[Event], None],
        reported: Callable[[SwitchFlow, float], None],
    ) -> None:
        self._desired = desired
        self._interfaces = by_port(desired.options.interfaces)
        self._routes = desired.routes
        self._broadcasts = broadcasts(desired.options.routes)
        self._counters = desired.counters
        self._emit = emit
        self._errors_left: float = ERRORS_BURST
        self._errors_at = desired.now
        self._reported = reported
        self._proxied = Proxied(desired, emit)

    def take(self, packet: p4r.PacketIn) -> None:
        """One packet that came up."""
        desired = self._desired
        try:
            up = frame_up(packet)
        except MalformedUp:
            self._counters.add("drop_malformed")
            return
        if up.reason in _NEW or up.reason in _KNOWN:
            self._new(up, "up_calls")
        elif up.reason in _PROXYING:
            self._of_proxy(up)
        elif up.reason == _UNSERVED:
            self._unserved(up)
        elif up.reason == _EARLY_FRAGMENT:
            self._emit(EarlyFragment(up.port, up.frame))
        elif up.report is not None:
            self._report(up, up.report)
        elif up.resolve is not None:
            desired.act(desired.neighbours.resolve(up, desired.now))
        elif up.reason in _TELL_SENDER:
            self._split_or_tell(up)
        else:
            desired.act(desired.neighbours.heard(up.frame, up.port, desired.now))

    def _split_or_tell(self, up: FrameUp) -> None:
        """As many errors as a router sends (RFC 1812 4.3.2.8, RFC 4443 2.4 f): a flood of packets
        whose time is over shall not keep the agent from new flows.  Likewise for packets that are
        too long and may be fragmented."""
        now = self._desired.now
        self._errors_left = min(
            ERRORS_BURST, self._errors_left + (now - self._errors_at) * ERRORS_PER_S
        )
        self._errors_at = now
        if self._errors_left < 1:
            self._counters.add("icmp_limited")
            return
        pieces = _pieces(up)
        if pieces:
            self._errors_left -= 1
            self._counters.instead("drop_too_big", "fragmented")
            for piece in pieces:
                self._desired.send(
                    packet_out(Operation.INJECT, port=up.port, value=INJECT_ARRIVAL, frame=piece)
                )
            return
        error = error_frame(up, self._interfaces.get(up.port))
        if error is not None:
            self._errors_left -= 1
            self._desired.send(packet_out(Operation.SEND, port=up.port, frame=error))

    def _unserved(self, up: FrameUp) -> None:
        """To an address that we own, and no virtual server takes it."""
        frame, interface = up.frame, self._interfaces.get(up.port)
        try:
            packet = parse(frame)
        except MalformedPacket:
            return
        if packet.kind != Kind.ICMP:
            if self._desired.ownership.may_answer(Question.UNSERVED):
                self._new(up, "drop_unserved")
            return
        if interface is None or not icmp.is_plain_echo_request(packet):
            return
        if packet.dst in self._desired.own_addresses:
            if not is_from_group(up.frame) and packet.src not in self._broadcasts:
                self._answer_echo(up.port, packet, interface)
                self._counters.instead("local", "echo_answered")
            return
        refusal = self._refusal(up, packet)
        if refusal is not None:
            self._counters.instead("drop_unserved", refusal)
        elif self._desired.ownership.may_answer(Question.ECHO):
            self._answer_echo(up.port, packet, interface)
            self._counters.instead("drop_unserved", "echo_answered")

    def _answer_echo(self, port: int, packet: Packet, interface: Interface) -> None:
        icmp.turn_echo_around(packet)
        reply = packet.source_mac + interface.mac + bytes(packet.data[12:])
        self._desired.send(packet_out(Operation.SEND, port=port, frame=reply))

    def _of_proxy(self, up: FrameUp) -> None:
        packet = self._read(up, "up_calls")
        if packet is not None and up.reason == Reason.HELD:
            self._proxied.held(up, packet)
        elif packet is not None:
            self._proxied.came(up, packet)

    def _read(self, up: FrameUp, counted: str) -> Packet | None:
        """The packet, or None if it ends here."""
        try:
            packet = parse(up.frame)
        except MalformedPacket:
            self._counters.instead(counted, "drop_malformed")
            return None
        # otherwise nothing that the program sends up; of an error it tells what is quoted
        if packet.protocol != up.protocol and up.reason != Reason.HELD:
            self._counters.instead(counted, "drop_malformed")
            return None
        refusal = self._refusal(up, packet) if up.reason in _FROM_OUTSIDE else None
        if refusal is not None:
            self._counters.instead(counted, refusal)
            return None
        # the switch sums no payload before it sends a packet up
        if not packet.checksums_are_right():
            self._counters.instead(counted, "drop_checksum")
            return None
        return packet

    def _new(self, up: FrameUp, counted: str) -> None:
        packet = self._read(up, counted)
        if packet is None:
            return
        key = (packet.src, packet.dst, up.src_port, up.dst_port, up.protocol)
        server = self._desired.servers.key_of(up.server)
        if up.reason in _KNOWN:
            known = self._session(up.reason, key)
            if known is None:
                self._go_on(up)
                return
            key, server = known
        signature = FlowSignature(*key, packet.tos)
        self._emit(PacketIn(up.reason, signature, packet.tcp_flags, up.port, up.frame, server))

    def _session(self, reason: int, key: Key) -> tuple[Key, VirtualServerKey | None] | None:
        """The client's key of the flow that a packet is about which has another flow's key or none;
        None if there is nothing to ask the CS about."""
        desired = self._desired
        if reason == Reason.UNANSWERED:
            server = desired.servers.match(key[1], key[3], key[4])
            return None if server is None or server.bridged else (key, server.key)
        if reason == Reason.ASLEEP:
            session = desired.asleep.find(key)
            return None if session is None else (session, None)
        src, dst, src_port, dst_port, protocol = key
        found = desired.flows.table.find((dst, src, dst_port, src_port, protocol))
        if found is None or found[1] == INBOUND or found[0].key == key:
            return None
        return found[0].key, None

    def _go_on(self, up: FrameUp) -> None:
        """It goes where it would have gone without the question; a node's packet whose flow has
        just woken is sent again by its node."""
        if up.reason == Reason.ASLEEP:
            self._counters.instead("up_calls", "drop_detached")
            return
        self._counters.add("up_calls", -1)
        self._desired.send(
            packet_out(Operation.INJECT, port=up.port, value=INJECT_ARRIVAL, frame=up.frame)
        )

    def _refusal(self, up: FrameUp, packet: Packet) -> str | None:
        """As what a packet is counted that begins no flow, because of where it is from."""
        if is_from_group(up.frame):
            return "drop_group_source"
        if packet.src in self._broadcasts:
            return "drop_martian"
        return "drop_reverse_path" if self._is_from_elsewhere(up.port, packet.src) else None

    def _is_from_elsewhere(self, port: int, source: bytes) -> bool:
        interface = self._interfaces.get(port)
        if interface is None or not interface.external:
            return False
        return is_from_elsewhere(interface, self._routes.find(source), self._interfaces)

    def _report(self, up: FrameUp, report: Report) -> None:
        now = self._desired.now
        flow = self._desired.flows.at(report.flow_index)
        if flow is None:
            return  # it was removed meanwhile
        if (
            up.reason == _CLOSED
            and report.halves[0].cookie != flow.cookie != report.halves[1].cookie
        ):
            return  # an earlier flow's end
        was_closed = flow.closed
        flow.learn(report, now)
        if was_closed and not flow.closed:
            flow.close_reported = False
            self._emit(FlowReopened(flow.state(now)))
        if up.reason != _CLOSED:
            self._reported(flow, now)
        elif flow.closed and not flow.close_reported:
            event = event_of(flow, now, stats=False, half_open_s=0)
            if event is not None:
                self._emit(event)


def _pieces(up: FrameUp) -> list[bytes]:
    """What a packet becomes that is too long for its route, if its sender allows fragments."""
    if up.reason != Reason.TOO_BIG:
        return []
    try:
        return split(parse(up.frame), up.value)
    except (MalformedPacket, ValueError):
        return []


def error_frame(up: FrameUp, interface: Interface | None) -> bytes | None:
    """The ICMP error about a packet that the switch dropped: time exceeded, too big."""
    try:
        packet = parse(up.frame)
    except MalformedPacket:
        return None
    source = None if interface is None else _own_address(interface, packet)
    if interface is None or source is None or not icmp.may_be_answered(packet):
        return None
    if is_from_group(up.frame):
        return None
    error = (
        icmp.time_exceeded(packet, source)
        if up.reason == Reason.TTL
        else icmp.too_big(packet, source, up.value)
    )
    if error is None:
        return None
    link_type = bytes(packet.data[12 : packet.l3])  # with its VLAN tags
    return packet.source_mac + interface.mac + link_type + error


def _own_address(interface: Interface, packet: Packet) -> bytes | None:
    for address in interface.addresses:
        if is_ipv4(address) == (packet.version == 4):
            return address
    return None
