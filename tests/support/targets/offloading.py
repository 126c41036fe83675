# SPDX-License-Identifier: Apache-2.0
"""The far end of a cable, with what a NIC would be told: packets whose checksum is left to it, and
several segments in one, as a container or a virtual machine sends them."""

from __future__ import annotations

import socket
import struct
from typing import Final

from packets.parse import Kind, MalformedPacket, parse
from ssmb.constants import TCP, UDP
from support.octets.packets import ones_sum
from support.targets.veth_rig import FAR
from support.targets.wire import inside

# linux/if_packet.h and linux/virtio_net.h
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_HEADER: Final = struct.Struct("=BBHHHH")  # flags, GSO, its sizes, where a sum begins, and goes
_NEEDS_CSUM: Final = 1
_GSO: Final = {True: 1, False: 4}  # TCPv4, TCPv6
_WAIT_S: Final = 30.0


class OffloadingWire:
    """In that namespace."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((FAR, _ETH_P_ALL))
        self._socket.settimeout(_WAIT_S)

    def send(self, frame: bytes, start: int, place: int, gso_size: int = 0) -> None:
        """Send a frame whose transport header begins at *start*, and whose sum, there already over
        the pseudo header, is to be written *place* octets behind; *gso_size*: in so many segments
        of TCP, with 20 octets of header each."""
        header = start + 20 if gso_size else start + 8
        kind = _GSO[frame[14] >> 4 == 4] if gso_size else 0
        self._socket.send(_HEADER.pack(_NEEDS_CSUM, kind, header, gso_size, start, place) + frame)

    def receive(self) -> tuple[bytes, tuple[int, int] | None]:
        """The next frame with TCP or UDP, and where a sum is still to begin and to be written; the
        kernels at both ends also speak of themselves (ARP, ICMPv6, IGMP)."""
        while True:
            octets = self._socket.recv(65536)
            flags, _, _, _, start, place = _HEADER.unpack_from(octets)
            frame = octets[_HEADER.size :]
            if _is_transport(frame):
                return frame, (start, place) if flags & _NEEDS_CSUM else None

    def receive_finished(self) -> bytes:
        """The same with the sum written, as the receiver's kernel or a NIC on the way would."""
        octets, left = self.receive()
        frame = bytearray(octets)
        if left is not None:
            start, place = left
            at = start + place
            frame[at : at + 2] = struct.pack("!H", ~ones_sum(octets[start:]) & 0xFFFF)
        return bytes(frame)

    def close(self) -> None:
        """No more."""
        self._socket.close()


def _is_transport(frame: bytes) -> bool:
    try:
        packet = parse(frame)
    except MalformedPacket:
        return False
    return packet.kind == Kind.TRANSPORT and packet.protocol in (TCP, UDP)
