# SPDX-License-Identifier: Apache-2.0
"""A frame's headers, found once and kept as offsets.

Every length is checked against what is there before anything is read by it.  What cannot be
valid is `MalformedPacket`; what is valid and of no concern here has `kind` OTHER.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from packets import checksum
from ssmb.addresses import IPV4_PREFIX
from ssmb.constants import TCP, UDP

ETHERNET: Final = struct.Struct("!6s6sH")
IPV4: Final = struct.Struct("!BBHHHBBH4s4s")  # RFC 791 3.1
IPV6: Final = struct.Struct("!IHBB16s16s")  # RFC 8200 3

TYPE_IPV4: Final = 0x0800
TYPE_ARP: Final = 0x0806
TYPE_IPV6: Final = 0x86DD
_TYPES_VLAN: Final = frozenset((0x8100, 0x88A8))
_VLAN_TAGS_MAX: Final = 2  # 802.1ad: one of the provider, one of the customer

ICMP: Final = 1
FRAGMENT: Final = 44
ICMPV6: Final = 58
_EXTENSIONS: Final = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options
_EXTENSIONS_MAX: Final = 6  # more than any honest packet has; a loop needs a limit

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_L4_MINIMUM: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}


class MalformedPacket(Exception):
    """The headers contradict each other or the frame ends too early."""


class Kind(IntEnum):
    """What the pipeline has to distinguish."""

    OTHER = 0  # not IP, or a protocol that is routed and nothing else
    ARP = 1
    TRANSPORT = 2  # TCP or UDP, with its ports or as a later fragment
    ICMP = 3  # either family, not a later fragment


class Packet:
    """A frame under way.  `data` may be rewritten in place; the offsets stay right then."""

    __slots__ = (
        "data",
        "dst",
        "end",
        "first_fragment",
        "fragment_id",
        "kind",
        "l3",
        "l4",
        "later_fragment",
        "protocol",
        "src",
        "version",
    )

    def __init__(self, frame: bytes | bytearray) -> None:
        self.data = bytearray(frame)
        self.kind = Kind.OTHER
        self.version = 0
        self.l3 = self.l4 = self.end = 0
        self.protocol = 0
        self.src = self.dst = b""
        self.fragment_id = 0
        self.first_fragment = self.later_fragment = False

    def copy(self) -> Packet:
        """This packet as it is now."""
        other = Packet(self.data)
        for name in Packet.__slots__:
            if name != "data":
                setattr(other, name, getattr(self, name))
        return other

    @property
    def destination_mac(self) -> bytes:
        return bytes(self.data[:6])

    @property
    def source_mac(self) -> bytes:
        return bytes(self.data[6:12])

    @property
    def tos(self) -> int:
        """Type of service, or traffic class."""
        if self.version == 4:
            return self.data[self.l3 + 1]
        return (self.data[self.l3] & 0x0F) << 4 | self.data[self.l3 + 1] >> 4

    @property
    def ttl(self) -> int:
        """Time to live, or hop limit."""
        return self.data[self.l3 + (8 if self.version == 4 else 7)]

    @property
    def ip_length(self) -> int:
        """IP total length: what counters count."""
        return self.end - self.l3

    @property
    def ports(self) -> tuple[int, int]:
        return self.word(self.l4), self.word(self.l4 + 2)

    @property
    def tcp_flags(self) -> int:
        return self.data[self.l4 + 13] if self.protocol == TCP and not self.later_fragment else 0

    def word(self, offset: int) -> int:
        return self.data[offset] << 8 | self.data[offset + 1]

    def checksums_are_right(self) -> bool:
        """Verify what the packet itself lets one verify: a fragment's data is elsewhere."""
        if self.version == 4 and not checksum.is_right(self.data[self.l3 : self.header_end()]):
            return False
        if self.first_fragment or self.later_fragment:
            return True
        if self.protocol == UDP and self.word(self.l4 + 6) == 0:
            return self.version == 4  # RFC 768: none was made; RFC 8200 8.1: not allowed
        end = self.l4 + self.word(self.l4 + 4) if self.protocol == UDP else self.end
        if not self.l4 + _L4_MINIMUM[self.protocol] <= end <= self.end:
            return False
        covered = self.data[self.l4 : end]
        if self.protocol == ICMP:
            return checksum.is_right(covered)
        # IPv4's prefix ::ffff sums to zero, so both families sum alike with 16 octets.
        pseudo = checksum.pseudo_header(self.src, self.dst, self.protocol, len(covered))
        return checksum.is_right(pseudo, covered)

    def header_end(self) -> int:
        """Where the IP header without extensions ends."""
        return self.l3 + ((self.data[self.l3] & 0x0F) * 4 if self.version == 4 else IPV6.size)


def is_of_vlan(frame: bytes | bytearray) -> bool:
    """Whether a frame has a VLAN's tag; one with number 0 has a priority only (IEEE 802.1Q 9.6)."""
    for at in range(12, 12 + 4 * _VLAN_TAGS_MAX, 4):
        if int.from_bytes(frame[at : at + 2], "big") not in _TYPES_VLAN:
            break
        if int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF and len(frame) >= at + 6:
            return True
    return False


def parse(frame: bytes | bytearray) -> Packet:
    """Find the headers of *frame*, or raise MalformedPacket."""
    packet = Packet(frame)
    if len(frame) < ETHERNET.size:
        raise MalformedPacket("shorter than an Ethernet header")
    ethertype, offset = packet.word(12), ETHERNET.size
    for _ in range(_VLAN_TAGS_MAX):
        if ethertype not in _TYPES_VLAN:
            break
        if len(frame) < offset + 4:
            raise MalformedPacket("ends within a VLAN tag")
        ethertype, offset = packet.word(offset + 2), offset + 4
    packet.l3 = offset
    packet.end = len(frame)
    if ethertype == TYPE_IPV4:
        parse_ipv4(packet)
    elif ethertype == TYPE_IPV6:
        parse_ipv6(packet)
    elif ethertype == TYPE_ARP:
        packet.kind = Kind.ARP
    return packet


def parse_ip(octets: bytes | bytearray) -> Packet:
    """Find the headers of an IP packet of either family without a link header, or raise
    MalformedPacket."""
    packet = Packet(octets)
    packet.end = len(octets)
    if octets[:1] and octets[0] >> 4 == 6:
        parse_ipv6(packet)
    else:
        parse_ipv4(packet)
    return packet


def parse_ipv4(packet: Packet, *, quoted: bool = False) -> None:
    """Read the IPv4 header at `l3`.  A quoted packet (in an ICMP error) may be cut short."""
    data, start = packet.data, packet.l3
    if packet.end - start < IPV4.size:
        raise MalformedPacket("ends within the IPv4 header")
    first, _, length, packet.fragment_id, fragment, _, protocol, _, src, dst = IPV4.unpack_from(
        data, start
    )
    header = (first & 0x0F) * 4
    if first >> 4 != 4 or header < IPV4.size or length < header:
        raise MalformedPacket("IPv4 version or lengths")
    if start + length > packet.end or start + header > packet.end:
        if not quoted or start + header > packet.end:
            raise MalformedPacket("shorter than its IPv4 total length")
    else:
        packet.end = start + length
    packet.version, packet.protocol, packet.l4 = 4, protocol, start + header
    packet.src, packet.dst = IPV4_PREFIX + src, IPV4_PREFIX + dst
    packet.later_fragment = fragment & 0x1FFF != 0
    packet.first_fragment = fragment & 0x3FFF == 0x2000
    _classify(packet, quoted=quoted)


def parse_ipv6(packet: Packet, *, quoted: bool = False) -> None:
    """Read the IPv6 header at `l3` and the extension headers up to the transport's."""
    data, start = packet.data, packet.l3
    if packet.end - start < IPV6.size:
        raise MalformedPacket("ends within the IPv6 header")
    first, length, following, _, src, dst = IPV6.unpack_from(data, start)
    if first >> 28 != 6:
        raise MalformedPacket("IPv6 version")
    if start + IPV6.size + length <= packet.end:
        packet.end = start + IPV6.size + length
    elif not quoted:
        raise MalformedPacket("shorter than its IPv6 payload length")
    packet.version, packet.src, packet.dst = 6, src, dst
    packet.protocol, packet.l4 = _skip_extensions(packet, following, start + IPV6.size)
    _classify(packet, quoted=quoted)


def _skip_extensions(packet: Packet, following: int, offset: int) -> tuple[int, int]:
    data = packet.data
    for _ in range(_EXTENSIONS_MAX):
        if following not in _EXTENSIONS and following != FRAGMENT:
            break
        if offset + 8 > packet.end:
            raise MalformedPacket("ends within an extension header")
        if following == FRAGMENT:
            place = packet.word(offset + 2)
            packet.fragment_id = int.from_bytes(data[offset + 4 : offset + 8], "big")
            packet.later_fragment = place & 0xFFF8 != 0
            packet.first_fragment = place & 0xFFF8 == 0 and place & 1 == 1
            following, offset = data[offset], offset + 8
            if packet.later_fragment:
                break
        else:
            following, offset = data[offset], offset + 8 + data[offset + 1] * 8
    if offset > packet.end:
        raise MalformedPacket("an extension header is longer than the packet")
    return following, offset


def _classify(packet: Packet, *, quoted: bool) -> None:
    protocol = packet.protocol
    icmp = ICMP if packet.version == 4 else ICMPV6
    if protocol not in (TCP, UDP, icmp):
        return
    if packet.later_fragment:
        packet.kind = Kind.OTHER if protocol == icmp else Kind.TRANSPORT
        return
    # An ICMP error need not quote more than 8 octets of what it is about (RFC 792).
    minimum = 8 if quoted else _L4_MINIMUM[protocol]
    if packet.end - packet.l4 < minimum:
        raise MalformedPacket("ends within the transport header")
    if protocol == TCP and not quoted:
        header = (packet.data[packet.l4 + 12] >> 4) * 4
        if header < 20 or packet.l4 + header > packet.end:
            raise MalformedPacket("TCP data offset")
    packet.kind = Kind.ICMP if protocol == icmp else Kind.TRANSPORT
