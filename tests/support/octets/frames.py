# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames by `struct`: a hundred times quicker to build than scapy's, for tests that need
thousands.  What they look like is held to scapy's by a test."""

from __future__ import annotations

import struct
from typing import Final

from ssmb.addresses import is_ipv4

FIN, SYN, RST, ACK = 1, 2, 4, 16
_MODULUS: Final = 0xFFFF


def _checksum(octets: bytes) -> int:
    value = int.from_bytes(octets + bytes(len(octets) & 1), "big") % _MODULUS
    return _MODULUS - value & 0xFFFF


def _ip(src: bytes, dst: bytes, protocol: int, payload: bytes, tos: int) -> bytes:
    if not is_ipv4(src):
        header = struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, 64)
        return header + src + dst + payload
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), 7, 0, 64, protocol, 0, src[12:], dst[12:]
    )
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + payload


def _pseudo(src: bytes, dst: bytes, protocol: int, length: int) -> bytes:
    return src + dst + struct.pack("!II", length, protocol)


def tcp_packet(
    src: tuple[bytes, int],
    dst: tuple[bytes, int],
    flags: int,
    *,
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    tos: int = 0,
) -> bytes:
    """An IP packet with a TCP segment."""
    segment = struct.pack("!HHIIBBHHH", src[1], dst[1], seq, ack, 0x50, flags, 65535, 0, 0)
    segment += payload
    checksum = _checksum(_pseudo(src[0], dst[0], 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack("!H", checksum) + segment[18:]
    return _ip(src[0], dst[0], 6, segment, tos)


def udp_packet(src: tuple[bytes, int], dst: tuple[bytes, int], payload: bytes = b"x") -> bytes:
    """An IP packet with a UDP datagram."""
    datagram = struct.pack("!HHHH", src[1], dst[1], 8 + len(payload), 0) + payload
    checksum = _checksum(_pseudo(src[0], dst[0], 17, len(datagram)) + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack("!H", checksum) + datagram[8:]
    return _ip(src[0], dst[0], 17, datagram, 0)


def framed(packet: bytes, src_mac: bytes, dst_mac: bytes) -> bytes:
    """The packet behind an Ethernet header."""
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return dst_mac + src_mac + kind + packet


def ends_of(frame: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int], int]:
    """Source, destination and protocol of a frame that carries TCP or UDP."""
    packet = frame[14:]
    if packet[0] >> 4 == 4:
        prefix = bytes(10) + b"\xff\xff"
        src, dst, protocol, l4 = prefix + packet[12:16], prefix + packet[16:20], packet[9], 20
    else:
        src, dst, protocol, l4 = packet[8:24], packet[24:40], packet[6], 40
    src_port, dst_port = struct.unpack_from("!HH", packet, l4)
    return (src, src_port), (dst, dst_port), protocol
