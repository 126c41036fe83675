# SPDX-License-Identifier: Apache-2.0
"""IP in IP: the packet within another one to the node (RFC 2003, RFC 2473)."""

from __future__ import annotations

import struct
from typing import Final

from packets.icmp import ipv4_header
from packets.parse import FRAGMENT, IPV4, IPV6, Packet
from ssmb.addresses import is_ipv4

IPV6_MTU_MIN: Final = 1280  # RFC 8200 5
_IPV4_IN_IP, _IPV6_IN_IP = 4, 41
_TTL: Final = 64
_FRAGMENT: Final = struct.Struct("!BBHI")  # RFC 8200 4.5
_UNIT: Final = 8  # octets: what an offset counts


def tunnelled(packet: Packet, src: bytes, node: bytes) -> bytes:
    """The packet within another one to the node; the type of service is copied (RFC 2983)."""
    inner = bytes(packet.data[packet.l3 : packet.end])
    if is_ipv4(node):
        return ipv4_header(src, node, _IPV4_IN_IP, len(inner), packet.tos) + inner
    first = 6 << 28 | packet.tos << 20
    return IPV6.pack(first, len(inner), _IPV6_IN_IP, _TTL, src, node) + inner


def tunnel_overhead(node: bytes) -> int:
    """Octets of the outer header."""
    return IPV4.size if is_ipv4(node) else IPV6.size


def told_mtu(mtu: int, node: bytes) -> int:
    """What a sender is told that a tunnel with room for `mtu` octets takes.  No IPv6 sender goes
    below 1,280, so such a tunnel has to fragment its own packets (RFC 2473 7.1)."""
    return mtu if is_ipv4(node) else max(mtu, IPV6_MTU_MIN)


def in_fragments(outer: bytes, mtu: int, identification: int) -> list[bytes]:
    """An IPv6 packet that a tunnel's entry made, as IPv6 packets of at most `mtu` octets."""
    if len(outer) <= mtu:
        return [outer]
    first, _, following, hops, src, dst = IPV6.unpack_from(outer)
    room = (mtu - IPV6.size - _FRAGMENT.size) // _UNIT * _UNIT
    data = outer[IPV6.size :]
    pieces = []
    for at in range(0, len(data), room):
        piece = data[at : at + room]
        more = at + room < len(data)
        header = IPV6.pack(first, _FRAGMENT.size + len(piece), FRAGMENT, hops, src, dst)
        pieces.append(header + _FRAGMENT.pack(following, 0, at | more, identification) + piece)
    return pieces
