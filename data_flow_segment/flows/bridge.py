# SPDX-License-Identifier: Apache-2.0
"""Packets that are bridged to a CS (8.4)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.peers.groups import Peer
from packets.parse import MalformedPacket, parse
from ssmb.bridging import split

_WORD32: Final = 0xFFFFFFFF


def ip_packet(frame: bytes) -> bytes | None:
    """The IP packet in a frame; None if it has none."""
    try:
        packet = parse(frame)
    except MalformedPacket:
        return None
    return bytes(packet.data[packet.l3 : packet.end]) if packet.version else None


class Bridger:
    """Sends packets to CSs."""

    def __init__(self) -> None:
        self._packet_id = 0

    def send(self, peer: Peer, packet: bytes, flags: int = 0, serial: int = 0) -> None:
        """A whole IP packet of at most PACKET_MAX octets; `serial` as 8.4 has it."""
        self._packet_id = self._packet_id + 1 & _WORD32
        for piece in split(packet, self._packet_id, flags, serial):
            peer.link.send(piece)
