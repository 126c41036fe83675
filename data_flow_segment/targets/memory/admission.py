# SPDX-License-Identifier: Apache-2.0
"""Which packets may begin a flow, and which are not even routed: the counter of what is dropped."""

from __future__ import annotations

from typing import NamedTuple

from data_flow_segment.targets.interfaces import Interface
from packets.hygiene import is_source_routed
from packets.parse import FIN, RST, SYN, Packet
from ssmb.addresses import is_martian


class Sender(NamedTuple):
    """What is known of who sent a packet."""

    is_us: bool  # a virtual server, or this DFS
    is_group: bool  # its MAC address is several stations'
    is_nobody: bool  # its IP address is several hosts', or none's


def refused_at_the_door(
    packet: Packet, interface: Interface, sender: Sender, *, for_us: bool
) -> str | None:
    """Of a packet of no flow; `for_us`: to a virtual server or to an address that we own.  Behind a
    one-armed interface a node may answer from a virtual address itself (forward modes L2 and
    TUNNEL)."""
    if sender.is_us and (for_us or not interface.internal):
        return "drop_own_source"
    if for_us and sender.is_group:
        return "drop_group_source"
    if for_us and sender.is_nobody:
        return "drop_martian"
    if for_us and packet.tcp_flags & SYN and packet.tcp_flags & (FIN | RST):
        return "drop_tcp_flags"  # nobody sends it
    return None


def refused_by_a_router(packet: Packet, *, from_us: bool) -> str | None:
    """Of a packet that is routed like any other."""
    if from_us:
        return "drop_own_source"
    if is_martian(packet.src) or is_martian(packet.dst):
        return "drop_martian"
    if packet.version == 4 and is_source_routed(packet):
        return "drop_source_routed"  # IPv6: the concern of the node with that address only
    return None
