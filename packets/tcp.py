# SPDX-License-Identifier: Apache-2.0
"""A TCP segment as a value, read from an IP packet and written as one (RFC 9293 3.1, 3.2).

Of the options those of RFC 9293, RFC 7323 and RFC 2018 are read and written; others are passed over
and lost.  Options that contradict themselves end the reading of options, not of the segment.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from packets import checksum
from packets.icmp import ipv4_header
from packets.parse import (
    FIN,
    IPV6,
    PSH,
    Kind,
    MalformedPacket,
    Packet,
    parse_ip,
)
from ssmb.addresses import IPV4_PREFIX
from ssmb.constants import TCP
from ssmb.messages import Session

URG, ECE, CWR = 32, 64, 128  # the other flags are in packets.parse
HEADER_LENGTH: Final = 20
OPTIONS_MAX: Final = 40  # the data offset counts to 15 words
WINDOW_SCALE_MAX: Final = 14  # RFC 7323 2.3
TIMESTAMPS_LENGTH: Final = 12  # with the padding that everybody sends
HEADERS_V4: Final = 40
"""Octets of an IPv4 and a TCP header without options: an MTU less an MSS."""
HEADERS_V6: Final = 60

_HEADER: Final = struct.Struct("!HHIIBBHHH")
_PAIR: Final = struct.Struct("!II")
_END, _NOP, _MSS, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
_TTL: Final = 64
_WORD32: Final = 0xFFFFFFFF
_WORD16: Final = 0xFFFF


class Options(NamedTuple):
    """The options of a segment; None, False and () stand for those that it does not have."""

    mss: int | None = None
    window_scale: int | None = None  # at most 14: more means 14 (RFC 7323 2.3)
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()  # left and right edges
    timestamps: tuple[int, int] | None = None  # TSval and TSecr


NO_OPTIONS: Final = Options()


class Segment(NamedTuple):
    """What a TCP segment says, without its ports; numbers are as on the wire."""

    seq: int
    ack: int = 0  # meaningless without the flag ACK
    flags: int = 0
    window: int = 0  # not scaled
    options: Options = NO_OPTIONS
    payload: bytes = b""
    urgent: int = 0  # meaningless without the flag URG
    tos: int = 0  # type of service, or traffic class, of its packet

    @property
    def length(self) -> int:
        """How many sequence numbers it takes (RFC 9293 3.3.1)."""
        flags = self.flags
        return len(self.payload) + (flags >> 1 & 1) + (flags & 1)

    @property
    def end(self) -> int:
        """The sequence number behind it."""
        return self.seq + self.length & _WORD32


def after(a: int, b: int) -> int:
    """By how much the number `a` is after `b`, negative if it is before (RFC 9293 3.4)."""
    return ((a - b + 0x8000_0000) & _WORD32) - 0x8000_0000


def with_urgent(segment: Segment, urgent: int | None, offset: int) -> Segment:
    """The segment, whose first octet is at `offset`, with the pointer to the offset `urgent` if
    that is still ahead and can be said (RFC 9293 3.8.5)."""
    if urgent is None or not 0 < urgent - offset <= _WORD16:
        return segment._replace(flags=segment.flags & ~URG, urgent=0)
    return segment._replace(flags=segment.flags | URG, urgent=urgent - offset)


def split(segment: Segment, size: int) -> list[Segment]:
    """The segment in parts of at most that many octets."""
    octets = segment.payload
    if len(octets) <= size:
        return [segment]
    urgent = segment.urgent if segment.flags & URG else None
    parts = []
    for start in range(0, len(octets), size):
        is_last = start + size >= len(octets)
        flags = segment.flags if is_last else segment.flags & ~(FIN | PSH)
        part = segment._replace(
            seq=segment.seq + start & _WORD32, flags=flags, payload=octets[start : start + size]
        )
        parts.append(with_urgent(part, urgent, start))
    return parts


def read(packet: Packet) -> Segment:
    """Read a packet that `packets.parse` took apart; its checksum is not looked at.

    Raises MalformedPacket if it is not TCP or is a fragment.
    """
    if packet.kind != Kind.TRANSPORT or packet.protocol != TCP:
        raise MalformedPacket("not TCP")
    if packet.first_fragment or packet.later_fragment:
        raise MalformedPacket("a fragment of a TCP segment")
    data, start = packet.data, packet.l4
    _, _, seq, ack, offset, flags, window, _, urgent = _HEADER.unpack_from(data, start)
    end = start + (offset >> 4) * 4  # `parse` saw that it is within the packet
    options = NO_OPTIONS
    if end - start > HEADER_LENGTH:
        options = read_options(bytes(data[start + HEADER_LENGTH : end]))
    payload = bytes(data[end : packet.end])
    return Segment(seq, ack, flags, window, options, payload, urgent, packet.tos)


def read_ip(octets: bytes) -> tuple[Session, Segment]:
    """Read an IP packet of either family: its ends as it has them, and the segment.

    Raises MalformedPacket if it is not one whole TCP segment, with right checksums.
    """
    packet = parse_ip(octets)
    segment = read(packet)
    if not packet.checksums_are_right():
        raise MalformedPacket("a checksum is wrong")
    return Session(packet.src, packet.dst, *packet.ports, TCP), segment


def write(segment: Segment, ends: Session) -> bytes:
    """Write the IP packet from the source of `ends` to its destination: TTL 64, never to be
    fragmented, checksums made.  Raises struct.error if it is longer than a packet can be."""
    options = write_options(segment.options)
    length = HEADER_LENGTH + len(options) + len(segment.payload)
    header = _HEADER.pack(
        ends.src_port,
        ends.dst_port,
        segment.seq,
        segment.ack,
        (HEADER_LENGTH + len(options)) // 4 << 4,
        segment.flags & 0xFF,
        segment.window,
        0,
        segment.urgent,
    )
    octets = header + options + segment.payload
    src, dst = ends.src_ipaddr, ends.dst_ipaddr
    # IPv4's prefix ::ffff sums to zero, so both families sum alike with 16 octets.
    total = checksum.compute(checksum.pseudo_header(src, dst, TCP, length), octets)
    octets = octets[:16] + total.to_bytes(2, "big") + octets[18:]
    if src.startswith(IPV4_PREFIX):
        return ipv4_header(src, dst, TCP, length, segment.tos) + octets
    return IPV6.pack(6 << 28 | segment.tos << 20, length, TCP, _TTL, src, dst) + octets


def read_options(octets: bytes) -> Options:
    """Read the octets behind a TCP header; total: whatever they are, it gives an answer."""
    mss, scale, permitted, timestamps = None, None, False, None
    sack: tuple[tuple[int, int], ...] = ()
    at = 0
    while at < len(octets) and octets[at] != _END:
        if octets[at] == _NOP:
            at += 1
            continue
        length = octets[at + 1] if at + 1 < len(octets) else 0
        if length < 2 or at + length > len(octets):
            break  # where the next one begins is unknown
        kind, value = octets[at], octets[at + 2 : at + length]
        at += length
        if kind == _MSS and len(value) == 2:
            mss = int.from_bytes(value, "big") or None  # 0 says nothing (as in Linux)
        elif kind == _WINDOW_SCALE and len(value) == 1:
            scale = min(value[0], WINDOW_SCALE_MAX)
        elif kind == _SACK_PERMITTED and not value:
            permitted = True
        elif kind == _SACK and value and len(value) % 8 == 0:
            sack = tuple((left, right) for left, right in _PAIR.iter_unpack(value))
        elif kind == _TIMESTAMPS and len(value) == 8:
            timestamps = _PAIR.unpack(value)
    return Options(mss, scale, permitted, sack, timestamps)


def write_options(options: Options) -> bytes:
    """Write options, padded to whole words; SACK blocks that have no room are left out."""
    octets = b""
    if options.mss is not None:
        octets += bytes((_MSS, 4)) + options.mss.to_bytes(2, "big")
    if options.window_scale is not None:
        octets += bytes((_NOP, _WINDOW_SCALE, 3, options.window_scale))
    if options.sack_permitted:
        octets += bytes((_NOP, _NOP, _SACK_PERMITTED, 2))
    if options.timestamps is not None:
        octets += bytes((_NOP, _NOP, _TIMESTAMPS, 10)) + _PAIR.pack(*options.timestamps)
    blocks = options.sack[: (OPTIONS_MAX - 4 - len(octets)) // 8]
    if blocks:
        octets += bytes((_NOP, _NOP, _SACK, 2 + 8 * len(blocks)))
        octets += b"".join(_PAIR.pack(*block) for block in blocks)
    return octets
