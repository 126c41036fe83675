# SPDX-License-Identifier: Apache-2.0
"""ICMP and ICMPv6 errors: the packet quoted in them, their translation (RFC 5508 4.2), and the
two that the target makes itself."""

from __future__ import annotations

import struct
from typing import Final

from packets import checksum
from packets.hygiene import has_mapped_address
from packets.parse import (
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    Kind,
    MalformedPacket,
    Packet,
    parse_ipv4,
    parse_ipv6,
)
from packets.rewrite import Translation, set_addresses, set_ttl, translate

_ERRORS_V4: Final = frozenset((3, 4, 11, 12))  # a redirect (5) concerns one link and stays there
_ERRORS_V6: Final = frozenset((1, 2, 3, 4))
_HEADER_LENGTH: Final = 8
_PACKET_MAX_V4: Final = 576  # RFC 1812 4.3.2.3
_PACKET_MAX_V6: Final = 1280  # RFC 4443 2.4 (c)
_TTL: Final = 64
_DONT_FRAGMENT: Final = 0x4000

_PLAIN_HEADER: Final = {4: IPV4.size, 6: IPV6.size}
_ECHO_REQUEST: Final = {4: b"\x08\x00", 6: b"\x80\x00"}
_ECHO_REPLY: Final = {4: 0, 6: 129}
_TIME_EXCEEDED: Final = {4: (11, 0), 6: (3, 0)}
_TOO_BIG: Final = {4: (3, 4), 6: (2, 0)}


def is_error(packet: Packet) -> bool:
    """Whether an ICMP packet quotes another packet."""
    return packet.data[packet.l4] in (_ERRORS_V4 if packet.version == 4 else _ERRORS_V6)


def is_plain_echo_request(packet: Packet) -> bool:
    """Whether it asks for an echo, in one piece and without options or extension headers."""
    if packet.first_fragment or packet.l4 != packet.l3 + _PLAIN_HEADER[packet.version]:
        return False
    return bytes(packet.data[packet.l4 : packet.l4 + 2]) == _ECHO_REQUEST[packet.version]


def turn_echo_around(packet: Packet) -> None:
    """Make the reply of the request in place; its checksum stays as right or wrong as it was."""
    before = _covered(packet)
    set_addresses(packet, packet.dst, packet.src)
    packet.data[packet.l4] = _ECHO_REPLY[packet.version]
    total = checksum.adjusted(packet.word(packet.l4 + 2), before, _covered(packet))
    struct.pack_into("!H", packet.data, packet.l4 + 2, total)
    set_ttl(packet, _TTL)


class CannotRead(Exception):
    """An error quotes too little, or a later fragment: nobody can tell which flow is meant."""


def quoted_packet(packet: Packet) -> Packet | None:
    """The packet that an error is about, None if it is neither TCP nor UDP; raises CannotRead if
    its ports are not there."""
    inner = Packet(packet.data[packet.l4 + _HEADER_LENGTH : packet.end])
    inner.end = len(inner.data)
    read = parse_ipv4 if packet.version == 4 else parse_ipv6
    try:
        read(inner, quoted=True)
    except MalformedPacket as error:
        raise CannotRead(str(error)) from error
    if has_mapped_address(inner):
        return None  # its key would be an IPv4 flow's
    if inner.kind == Kind.TRANSPORT and inner.later_fragment:
        raise CannotRead("a later fragment has no ports")
    return inner if inner.kind == Kind.TRANSPORT else None


def translate_error(
    packet: Packet, inner: Packet, change: Translation, src: bytes | None, dst: bytes | None
) -> None:
    """Rewrite the quoted packet by `change` and the error's own addresses, checksums included."""
    begin = packet.l4 + _HEADER_LENGTH
    before = _covered(packet)
    translate(inner, change)
    packet.data[begin : begin + len(inner.data)] = inner.data
    set_addresses(packet, src, dst)
    total = checksum.adjusted(packet.word(packet.l4 + 2), before, _covered(packet))
    struct.pack_into("!H", packet.data, packet.l4 + 2, total)


def time_exceeded(original: Packet, src: bytes) -> bytes:
    """The IP packet that reports to the sender that its packet's time to live expired."""
    return _error(original, src, *_TIME_EXCEEDED[original.version], 0)


def too_big(original: Packet, src: bytes, mtu: int) -> bytes | None:
    """The IP packet that reports to the sender what length fits; None if IPv4 allows fragments."""
    if original.version == 4 and not original.word(original.l3 + 6) & _DONT_FRAGMENT:
        return None
    return _error(original, src, *_TOO_BIG[original.version], mtu)


def may_be_answered(original: Packet) -> bool:
    """No error about an error, a later fragment, or from an address that is not one host's
    (RFC 1122 3.2.2, RFC 4443 2.4 (e))."""
    if original.later_fragment or (original.kind == Kind.ICMP and is_error(original)):
        return False
    first = original.src[12] if original.version == 4 else original.src[0]
    return any(original.src[12:]) and (
        first < 224 and first != 0 if original.version == 4 else first != 0xFF
    )


def _covered(packet: Packet) -> bytes:
    """What the error's checksum covers; IPv4's does not cover the addresses."""
    own = bytes(packet.data[packet.l4 : packet.end])
    return own if packet.version == 4 else packet.src + packet.dst + own


def _error(original: Packet, src: bytes, kind: int, code: int, rest: int) -> bytes:
    version = original.version
    overhead = (IPV4.size if version == 4 else IPV6.size) + _HEADER_LENGTH
    limit = (_PACKET_MAX_V4 if version == 4 else _PACKET_MAX_V6) - overhead
    quote = bytes(original.data[original.l3 : min(original.end, original.l3 + limit)])
    message = struct.pack("!BBHI", kind, code, 0, rest) + quote
    if version == 4:
        total = checksum.compute(message)
        header = ipv4_header(src, original.src, ICMP, len(message))
    else:
        pseudo = checksum.pseudo_header(src, original.src, ICMPV6, len(message))
        total = checksum.compute(pseudo, message)
        header = IPV6.pack(6 << 28, len(message), ICMPV6, _TTL, src, original.src)
    return header + message[:2] + total.to_bytes(2, "big") + message[4:]


def ipv4_header(src: bytes, dst: bytes, protocol: int, length: int, tos: int = 0) -> bytes:
    """A header without options; its packets are never fragmented, so identification is 0."""
    header = IPV4.pack(
        0x45, tos, IPV4.size + length, 0, _DONT_FRAGMENT, _TTL, protocol, 0, src[12:], dst[12:]
    )
    return header[:10] + checksum.compute(header).to_bytes(2, "big") + header[12:]
