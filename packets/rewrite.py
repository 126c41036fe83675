# SPDX-License-Identifier: Apache-2.0
"""Rewriting a packet in place: addresses, ports, offsets, time to live (wire protocol 9.4, 9.6).

A `Translation` describes one direction.  Checksums stay as right or as wrong as they were
(RFC 1624).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from packets import checksum
from packets.parse import ACK, SYN, Packet
from ssmb.constants import TCP, UDP

_WORD32: Final = 0xFFFFFFFF
_OPTION_END, _OPTION_NOP, _OPTION_SACK, _OPTION_TIMESTAMPS = 0, 1, 5, 8


class Translation(NamedTuple):
    """New values (None: keep) and what to add, modulo 2^32; one direction."""

    src: bytes | None = None
    dst: bytes | None = None
    src_port: int | None = None
    dst_port: int | None = None
    has_offsets: bool = False
    seq: int = 0
    ack: int = 0  # SACK edges too
    ts_value: int = 0
    ts_echo: int = 0
    window_shift: int = 0


def undo(there: Translation, original: Translation) -> Translation:
    """What turns a packet that `there` was applied to back; `original` is the other direction,
    which knows the addresses that `there` wrote over."""
    return Translation(
        src=original.dst,
        dst=original.src,
        src_port=original.dst_port,
        dst_port=original.src_port,
        has_offsets=there.has_offsets,
        seq=-there.seq,
        ack=-there.ack,
        ts_value=-there.ts_value,
        ts_echo=-there.ts_echo,
    )


def translate(packet: Packet, change: Translation) -> None:
    """Rewrite a TCP or UDP packet in place."""
    old_addresses = packet.src + packet.dst
    _set_addresses(packet, change)
    if packet.later_fragment:
        return  # the transport header, with its checksum, was in the first one
    start, end = packet.l4, _header_end(packet)
    old = bytes(packet.data[start:end])
    if change.src_port is not None:
        struct.pack_into("!H", packet.data, start, change.src_port)
    if change.dst_port is not None:
        struct.pack_into("!H", packet.data, start + 2, change.dst_port)
    if packet.protocol == TCP and change.has_offsets:
        _add_offsets(packet, change, end)
    _adjust_checksum(packet, old_addresses + old, end)


def set_addresses(packet: Packet, src: bytes | None, dst: bytes | None) -> None:
    """Write addresses; the header's own checksum follows, the transport's does not."""
    _set_addresses(packet, Translation(src=src, dst=dst))


def decrement_ttl(packet: Packet) -> None:
    """One less (the caller knows that it is above 1)."""
    set_ttl(packet, packet.ttl - 1)


def set_ttl(packet: Packet, ttl: int) -> None:
    """Time to live, or hop limit."""
    data, start = packet.data, packet.l3
    if packet.version == 6:
        data[start + 7] = ttl
        return
    old = bytes(data[start + 8 : start + 10])
    data[start + 8] = ttl
    new = bytes(data[start + 8 : start + 10])
    struct.pack_into("!H", data, start + 10, checksum.adjusted(packet.word(start + 10), old, new))


def _set_addresses(packet: Packet, change: Translation) -> None:
    data, start = packet.data, packet.l3
    packet.src = packet.src if change.src is None else change.src
    packet.dst = packet.dst if change.dst is None else change.dst
    if packet.version == 6:
        data[start + 8 : start + 40] = packet.src + packet.dst
        return
    old = bytes(data[start + 12 : start + 20])
    new = packet.src[12:] + packet.dst[12:]
    data[start + 12 : start + 20] = new
    struct.pack_into("!H", data, start + 10, checksum.adjusted(packet.word(start + 10), old, new))


def _header_end(packet: Packet) -> int:
    """Where the transport header ends, or the octets that an ICMP error quotes of it."""
    length = 8
    if packet.protocol == TCP:
        length = 20
        if packet.l4 + 12 < packet.end:
            length = max(length, (packet.data[packet.l4 + 12] >> 4) * 4)
    return min(packet.l4 + length, packet.end)


def _adjust_checksum(packet: Packet, before: bytes, end: int) -> None:
    place = packet.l4 + (16 if packet.protocol == TCP else 6)
    if place + 2 > end:
        return  # quoted too short
    old = packet.word(place)
    if packet.protocol == UDP and old == 0:
        return  # there was none (RFC 768), so none is added
    after = packet.src + packet.dst + bytes(packet.data[packet.l4 : end])
    new = checksum.adjusted(old, before, after)
    if packet.protocol == UDP and new == 0:
        new = 0xFFFF
    struct.pack_into("!H", packet.data, place, new)


def _add(packet: Packet, offset: int, amount: int) -> None:
    value = int.from_bytes(packet.data[offset : offset + 4], "big")
    packet.data[offset : offset + 4] = ((value + amount) & _WORD32).to_bytes(4, "big")


def _add_offsets(packet: Packet, change: Translation, end: int) -> None:
    start = packet.l4
    if start + 8 <= end:
        _add(packet, start + 4, change.seq)
    if start + 20 > end:
        return
    flags = packet.data[start + 13]
    if flags & ACK:  # without it the field means nothing
        _add(packet, start + 8, change.ack)
    if change.window_shift and not flags & SYN:  # a SYN's window is never scaled (RFC 7323 2.2)
        window = shifted_window(packet.word(start + 14), change.window_shift)
        struct.pack_into("!H", packet.data, start + 14, window)
    _shift_options(packet, change, start + 20, end, acknowledges=bool(flags & ACK))


def shifted_window(window: int, shift: int) -> int:
    """Left by `shift`, right if negative; saturates, and only a closed window becomes 0."""
    if window == 0:
        return 0
    if shift >= 0:
        return min(window << shift, 0xFFFF)
    return max(window >> -shift, 1)


def _shift_options(
    packet: Packet, change: Translation, offset: int, end: int, *, acknowledges: bool
) -> None:
    data = packet.data
    while offset < end:
        kind = data[offset]
        if kind == _OPTION_END:
            return
        if kind == _OPTION_NOP:
            offset += 1
            continue
        if offset + 2 > end:
            return
        length = data[offset + 1]
        if length < 2 or offset + length > end:
            return  # the receiver will not understand the rest either
        if kind == _OPTION_SACK:
            for edge in range(offset + 2, offset + length - 3, 4):
                _add(packet, edge, change.ack)
        elif kind == _OPTION_TIMESTAMPS and length == 10:
            _add(packet, offset + 2, change.ts_value)
            if acknowledges:  # otherwise the echo is not valid and 0 (RFC 7323 3.2)
                _add(packet, offset + 6, change.ts_echo)
        offset += length
