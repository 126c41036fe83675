# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about the packets of a connection that is not spliced yet (RFC 5927)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.flows.handshakes import Handshakes
from packets import icmp
from packets.parse import Packet
from packets.tcp import HEADERS_V4, HEADERS_V6, after
from splicing.table import State

_UNREACHABLE: Final = {4: 3, 6: 1}
_TOO_BIG: Final = frozenset(((4, 3, 4), (6, 2, 0)))  # version, type, code
_WINDOW: Final = 1 << 16
"""How far from the client's first number what is quoted may be: others made it up."""


def tell(handshakes: Handshakes, handshake: Handshake, packet: Packet, now: float) -> None:
    """Let the machine know, if the error is about what was sent to the node."""
    try:
        inner = icmp.quoted_packet(packet) if icmp.is_error(packet) else None
    except icmp.CannotRead:
        return
    if inner is None or handshake.to_node is None:
        return
    ends = (inner.src, inner.dst, *inner.ports, inner.protocol)
    if ends != handshake.to_node or len(inner.data) < inner.l4 + 8:
        return
    quoted = int.from_bytes(inner.data[inner.l4 + 4 : inner.l4 + 8], "big")
    connection = handshake.connection
    if not 0 <= after(quoted, connection.agreed.client_isn) < _WINDOW:
        return
    kind, code = packet.data[packet.l4 : packet.l4 + 2]
    if (packet.version, kind, code) in _TOO_BIG:
        at = packet.l4 + (6 if packet.version == 4 else 4)
        mtu = int.from_bytes(packet.data[at : packet.l4 + 8], "big")
        headers = HEADERS_V4 if packet.version == 4 else HEADERS_V6
        handshakes.carry_out(handshake, connection.too_big(mtu, headers, now), now)
    elif kind == _UNREACHABLE[packet.version] and connection.state is State.NODE_HANDSHAKE:
        handshakes.carry_out(handshake, connection.node_unreachable(now), now)
