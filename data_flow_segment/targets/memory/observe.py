# SPDX-License-Identifier: Apache-2.0
"""What a flow learns from one of its packets: counters, flags, time, the close."""

from __future__ import annotations

from data_flow_segment.targets.flow_table import INBOUND
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.memory.tracker import Segment
from packets.parse import ACK, FIN, RST, SYN, Packet
from ssmb.constants import TCP

_OPTION_END, _OPTION_NOP, _OPTION_WINDOW_SCALE = 0, 1, 3
_WINDOW_SCALE_MAX = 14  # RFC 7323 2.3


def observe(flow: Flow, direction: int, before: Packet, after: Packet, now: float) -> bool:
    """Count the packet, and look at what it says; whether a flow that was closed goes on.  The
    client's side of the translation is `before` on the way in and `after` on the way back."""
    count_packet(flow, direction, before, now)
    if before.protocol != TCP or before.later_fragment:
        return False
    if direction == INBOUND:
        flow.client_sent_syn = before.tcp_flags & (SYN | ACK) == SYN
    seen = before if direction == INBOUND else after
    start, header = seen.l4, (seen.data[seen.l4 + 12] >> 4) * 4
    seq = int.from_bytes(seen.data[start + 4 : start + 8], "big")
    ack = int.from_bytes(seen.data[start + 8 : start + 12], "big")
    length = seen.end - start - header
    scale = _window_scale(seen, start + header) if seen.tcp_flags & SYN else 0
    window = seen.word(start + 14)
    is_right = True
    if seen.tcp_flags & (SYN | FIN | RST):  # the sum of a fragment's data cannot be known
        is_right = not before.first_fragment and before.checksums_are_right()
    segment = Segment(seen.tcp_flags, seq, ack, window, length, scale, is_right)
    return flow.tracker.observe(direction, segment)


def count_packet(flow: Flow, direction: int, packet: Packet, now: float) -> None:
    """Count the packet, as its sender sent it."""
    flow.packets[direction] += 1
    flow.bytes[direction] += packet.ip_length
    flow.last_seen = now
    if direction == INBOUND:
        flow.client_seen = now
    else:
        flow.node_seen = now


def _window_scale(packet: Packet, end: int) -> int:
    data, offset = packet.data, packet.l4 + 20
    while offset < end and data[offset] != _OPTION_END:
        if data[offset] == _OPTION_NOP:
            offset += 1
            continue
        if offset + 1 >= end or data[offset + 1] < 2:
            break
        if data[offset] == _OPTION_WINDOW_SCALE and offset + 3 <= end:
            return min(data[offset + 2], _WINDOW_SCALE_MAX)
        offset += data[offset + 1]
    return 0
