# SPDX-License-Identifier: Apache-2.0
"""A client's SYN that meets an entry of its flow: which ones the agent has to see."""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.flow_table import INBOUND
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.translation import Key
from packets.parse import ACK, RST, SYN, Packet
from ssmb.constants import TCP

ASK_AGAIN_S: Final = 0.2
"""The least between two questions about one flow: clients repeat a SYN after a second, and a flood
of one flow's SYNs shall not reach the agent."""

SILENT_S: Final = 1.0
"""For how long a node that answered before has said nothing when it is sent a SYN that it does not
answer.  A living one answers (RFC 5961 4), though not every SYN: Linux one in half a second."""


def _is_syn(packet: Packet, direction: int) -> bool:
    if direction != INBOUND or packet.protocol != TCP or packet.later_fragment:
        return False
    return packet.tcp_flags & (SYN | ACK) == SYN


def begins_a_flow(packet: Packet) -> bool:
    """A connection's SYN, or a datagram with which a flow of UDP may begin."""
    return packet.protocol != TCP or _is_syn(packet, INBOUND)


def is_new_connection(packet: Packet, flow: Flow, direction: int) -> bool:
    """On an entry that only lingers it is another connection."""
    return flow.closed and _is_syn(packet, direction)


def may_follow_a_cookie(packet: Packet) -> bool:
    """Whether it may be a client's first segment to a proxied virtual server."""
    if packet.protocol != TCP or packet.first_fragment or packet.later_fragment:
        return False
    return packet.tcp_flags & (SYN | RST | ACK) == ACK


def collides(packet: Packet, key: Key, flow: Flow, direction: int) -> bool:
    """It goes to the node itself, from the port that the flow has, whose answers it would meet."""
    return direction != INBOUND and _is_syn(packet, INBOUND) and flow.entry.signature.session != key


def is_unanswered(packet: Packet, flow: Flow, direction: int, now: float) -> bool:
    """The node has never answered, or not the SYN before this one: it may be dead.  One SYN alone
    may be anybody's, but before the handshake is complete there is nothing to lose by it; with
    direct return nobody sees what the node says."""
    inbound, outbound = flow.packets
    if not _is_syn(packet, direction) or not inbound or now - flow.client_seen < ASK_AGAIN_S:
        return False
    if flow.half_open and (not outbound or now - flow.node_seen >= SILENT_S):
        return True
    is_silent = not outbound or flow.client_seen - flow.node_seen >= SILENT_S
    return flow.client_sent_syn and is_silent
