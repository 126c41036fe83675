# SPDX-License-Identifier: Apache-2.0
"""Packets of connections that were held, put back to go through their entries.

What a network card, or a container's kernel, has made of several segments comes up whole; the
data path would drop it as too big when it comes back, and its sender would have to repeat it.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import InjectPacket, PacketIn
from packets.parse import ETHERNET, MalformedPacket, parse
from packets.tcp import HEADERS_V4, HEADERS_V6, read, split, write, write_options
from ssmb.constants import TCP
from ssmb.messages import Session

ETHERNET_MTU: Final = 1500


def put_back(outbox: Outbox, packet: PacketIn) -> None:
    """As one packet, or in segments that fit."""
    outbox.commands += [
        InjectPacket(packet._replace(frame=frame)) for frame in _fitting(packet.frame)
    ]


def _fitting(frame: bytes) -> list[bytes]:
    if len(frame) <= ETHERNET.size + ETHERNET_MTU:
        return [frame]
    try:
        packet = parse(frame)
        segment = read(packet)
    except MalformedPacket:
        return [frame]
    headers = HEADERS_V4 if packet.version == 4 else HEADERS_V6
    size = ETHERNET_MTU - headers - len(write_options(segment.options))
    ends = Session(packet.src, packet.dst, *packet.ports, TCP)
    link = bytes(packet.data[: packet.l3])
    return [link + write(part, ends) for part in split(segment, size)]
