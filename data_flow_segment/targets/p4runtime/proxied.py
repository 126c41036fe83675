# SPDX-License-Identifier: Apache-2.0
"""What comes up to have a client's handshake completed (docs/design/0012-content.md): of no flow,
to a proxied virtual server, and of held flows.

The switch makes no cookies: the agent's side answers SYNs, by the port and to the MAC address that
they came from, and reads what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.contract import Event, PacketIn, PacketReason
from data_flow_segment.targets.interfaces import by_port
from data_flow_segment.targets.ownership import Question
from data_flow_segment.targets.p4runtime.constants import Operation
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.packets import FrameUp, packet_out
from data_flow_segment.targets.proxying import NOT_BEGUN, Verdict
from data_flow_segment.targets.translation import Key
from packets import icmp
from packets.parse import Kind, Packet
from ssmb.messages import FlowSignature

_COUNTED: Final = "up_calls"
"""What the switch counts such a packet as."""


class Proxied:
    """Packets whose checksums are right."""

    def __init__(self, desired: Desired, emit: Callable[[Event], None]) -> None:
        self._desired = desired
        self._interfaces = by_port(desired.options.interfaces)
        self._emit = emit

    def came(self, up: FrameUp, packet: Packet) -> None:
        """No flow, to a proxied virtual server."""
        desired = self._desired
        server = desired.servers.key_of(up.server)
        entry = None if server is None else desired.servers.entries[server]
        key = (packet.src, packet.dst, *packet.ports, packet.protocol)
        reason = PacketReason.NEW_FLOW
        if entry is not None and entry.proxied:
            verdict = desired.proxy.judge(packet, key, entry.group_id)
            if verdict is Verdict.ANSWER:
                self._answer(up, packet, key, entry.group_id)
                return
            if verdict is Verdict.BEGINS:
                reason = PacketReason.PROXIED
            elif verdict is not Verdict.STRAY or not desired.ownership.may_answer(Question.STRAY):
                desired.counters.instead(_COUNTED, NOT_BEGUN[verdict])
                return
        signature = FlowSignature(*key, packet.tos)
        self._emit(PacketIn(reason, signature, packet.tcp_flags, up.port, up.frame, server))

    def held(self, up: FrameUp, packet: Packet) -> None:
        """Of a held flow, or an error about one of its packets; what belongs to no flow any more
        ends here."""
        desired = self._desired
        key = _key(packet)
        found = None if key is None else desired.flows.table.find(key)
        if found is None:
            desired.counters.instead(_COUNTED, "drop_detached")
            return
        signature = FlowSignature(*found[0].key, packet.tos)
        reason = PacketReason.HELD
        self._emit(PacketIn(reason, signature, packet.tcp_flags, up.port, up.frame, None))

    def _answer(self, up: FrameUp, packet: Packet, key: Key, group_id: int) -> None:
        """Where its sender is, whatever routes say."""
        desired = self._desired
        octets = desired.proxy.answer(packet, key, group_id)
        mac = self._interfaces[up.port].mac
        link = packet.source_mac + mac + bytes(packet.data[12 : packet.l3])  # with its VLAN tags
        desired.send(packet_out(Operation.SEND, port=up.port, frame=link + octets))
        desired.counters.instead(_COUNTED, "cookies_made")


def _key(packet: Packet) -> Key | None:
    """Of the flow that a packet belongs to, or that an ICMP error is about."""
    if packet.kind == Kind.TRANSPORT:
        return packet.src, packet.dst, *packet.ports, packet.protocol
    try:
        inner = icmp.quoted_packet(packet)
    except icmp.CannotRead:
        return None
    if inner is None:
        return None
    there, back = inner.ports
    return inner.dst, inner.src, back, there, inner.protocol
