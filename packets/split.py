# SPDX-License-Identifier: Apache-2.0
"""Fragments of an IPv4 packet that is too long for its next link (RFC 791 3.2)."""

from __future__ import annotations

import struct
from typing import Final

from packets import checksum
from packets.parse import IPV4, Packet

_DONT_FRAGMENT, _MORE_FRAGMENTS, _OFFSET = 0x4000, 0x2000, 0x1FFF
_UNIT: Final = 8  # octets: what an offset counts
_MTU_MIN: Final = 68  # RFC 791: every link carries that much
_COPIED: Final = 0x80  # of an option's type: later fragments carry it, too
_END, _NO_OPERATION = 0, 1


def may_be_split(packet: Packet) -> bool:
    """Whether its sender allows fragments; IPv6's sender makes them itself (RFC 8200 4.5)."""
    return packet.version == 4 and not packet.word(packet.l3 + 6) & _DONT_FRAGMENT


def split(packet: Packet, mtu: int) -> list[bytes]:
    """Frames with the packet's link header whose IP packets have at most `mtu` octets.

    The packet may be a fragment itself.  Its checksums need not be right, except for the IP
    header's, which is made anew for each.  Raises ValueError if it may not be split.
    """
    if not may_be_split(packet) or mtu < _MTU_MIN:
        raise ValueError("the packet may not be fragmented")
    link = bytes(packet.data[: packet.l3])
    header_end = packet.header_end()
    first_header = bytes(packet.data[packet.l3 : header_end])
    later_header = first_header[: IPV4.size] + _copied(first_header[IPV4.size :])
    place = packet.word(packet.l3 + 6)
    offset, more = place & _OFFSET, bool(place & _MORE_FRAGMENTS)
    at = header_end
    frames: list[bytes] = []
    while at < packet.end:
        header = later_header if frames else first_header
        room = (mtu - len(header)) // _UNIT * _UNIT
        data = bytes(packet.data[at : min(at + room, packet.end)])
        at += len(data)
        is_last = at == packet.end and not more
        where = offset | (0 if is_last else _MORE_FRAGMENTS)
        frames.append(link + _with_place(header, len(data), where) + data)
        offset += len(data) // _UNIT
    return frames


def _copied(options: bytes) -> bytes:
    """Those of the options that every fragment carries, padded to whole words."""
    kept, at = b"", 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2:
            break
        if options[at] & _COPIED:
            kept += options[at : at + length]
        at += length
    return kept + bytes(-len(kept) % 4)


def _with_place(header: bytes, length: int, place: int) -> bytes:
    words = len(header) // 4
    made = bytearray(header)
    made[0] = 4 << 4 | words
    struct.pack_into("!H", made, 2, len(header) + length)
    struct.pack_into("!H", made, 6, place)
    struct.pack_into("!H", made, 10, 0)
    struct.pack_into("!H", made, 10, checksum.compute(bytes(made)))
    return bytes(made)
