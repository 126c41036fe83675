# SPDX-License-Identifier: Apache-2.0
"""What the internal side sent of itself, whose answers a wildcard would take for a client's."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from data_flow_segment.targets.translation import Key
from packets.parse import ACK, SYN, Packet
from ssmb.constants import TCP

OUTGOING_MAX: Final = 65536
"""As many as the `bpf` target remembers; the oldest yields."""

OUTGOING_UDP_S: Final = 120.0
"""For how long an answer of UDP may follow what the internal side sent last: as long as Linux keeps
such a stream in mind (nf_conntrack_udp_timeout_stream), and resolvers wait less."""


class Outgoing:
    """The key of the answer -> when the packet was sent that it answers."""

    def __init__(self) -> None:
        self._sent: OrderedDict[Key, float] = OrderedDict()

    def note(self, packet: Packet, key: Key, now: float) -> None:
        """The internal side opened a connection, or sent a datagram."""
        if packet.protocol == TCP and packet.tcp_flags & (SYN | ACK) != SYN:
            return
        src, dst, sport, dport, protocol = key
        answer = (dst, src, dport, sport, protocol)
        self._sent.pop(answer, None)
        if len(self._sent) >= OUTGOING_MAX:
            self._sent.popitem(last=False)
        self._sent[answer] = now

    def is_answered_by(self, packet: Packet, key: Key, now: float) -> bool:
        """Whether it is such an answer.  No client's connection begins with SYN and ACK."""
        if packet.protocol == TCP and packet.tcp_flags & SYN:
            return bool(packet.tcp_flags & ACK)
        sent = self._sent.get(key)
        return sent is not None and (packet.protocol == TCP or now - sent < OUTGOING_UDP_S)
