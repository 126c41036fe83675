# SPDX-License-Identifier: Apache-2.0
"""Packets that no router passes on, by the family of their addresses and by the route that
they ask for."""

from __future__ import annotations

from typing import Final

from packets.parse import FRAGMENT, IPV4, IPV6, Packet
from ssmb.addresses import IPV4_PREFIX

_ROUTING: Final = 43
_EXTENSIONS: Final = frozenset((0, _ROUTING, FRAGMENT, 60))  # 0, 60: options, by hop or at the end
_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE = 131, 137  # RFC 791 3.1


def has_mapped_address(packet: Packet) -> bool:
    """Whether an IPv6 packet has an address that stands for an IPv4 one, which is valid within a
    machine only (RFC 4291 2.5.5.2)."""
    if packet.version != 6:
        return False
    return packet.src.startswith(IPV4_PREFIX) or packet.dst.startswith(IPV4_PREFIX)


def is_from_group(frame: bytes | bytearray) -> bool:
    """No frame comes from a group of stations (IEEE 802.3 3.2.3); answered, it reaches all."""
    return bool(frame[6] & 1)


def is_source_routed(packet: Packet) -> bool:
    """Whether its sender chose routers that it has not passed all yet, or, in IPv4, ever did."""
    if packet.version == 4:
        return _has_source_route(packet)
    return packet.version == 6 and _has_segments_left(packet)


def _has_source_route(packet: Packet) -> bool:
    data, at, end = packet.data, packet.l3 + IPV4.size, packet.header_end()
    while at + 2 <= end and data[at] != 0:
        if data[at] in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
            return True
        if data[at] != 1 and data[at + 1] < 2:
            return False
        at += 1 if data[at] == 1 else data[at + 1]
    return False


def _has_segments_left(packet: Packet) -> bool:
    data, following, at = packet.data, packet.data[packet.l3 + 6], packet.l3 + IPV6.size
    while following in _EXTENSIONS and at + 8 <= packet.l4:
        if following == _ROUTING and data[at + 3]:
            return True
        length = 8 if following == FRAGMENT else 8 + data[at + 1] * 8
        following, at = data[at], at + length
    return False
