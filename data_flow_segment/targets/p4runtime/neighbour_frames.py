# SPDX-License-Identifier: Apache-2.0
"""Requests for a neighbour's MAC address, and frames that contain it: ARP (RFC 826) and neighbour
discovery (RFC 4861).  Answers contain it, and so do requests to the switch and announcements."""

from __future__ import annotations

from typing import Final, NamedTuple

from packets.neighbours import (
    ADVERTISEMENT,
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    OVERRIDE,
    SOLICITATION,
    SOLICITED,
    SOURCE_MAC,
    TARGET_MAC,
    discovery,
)
from packets.parse import ICMPV6, TYPE_ARP, TYPE_IPV6, Kind, MalformedPacket, Packet, parse
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED, is_ipv4

_BROADCAST: Final = b"\xff" * 6
_SOLICITED_NODE: Final = bytes.fromhex("ff02" + "00" * 9 + "01ff")  # RFC 4291 2.7.1
_SOLICITED_NODE_MAC: Final = bytes.fromhex("3333ff")  # RFC 2464 7
_DISCOVERY_SIZE: Final = 24  # without options


class Announced(NamedTuple):
    """What a frame says of a neighbour."""

    address: bytes
    mac: bytes | None  # an advertisement to a host that knows it may omit it
    overrides: bool  # whether it may replace another MAC address (RFC 4861 7.2.5)


def question(address: bytes, mac: bytes, own: bytes, known: bytes | None) -> bytes:
    """Who has `address`?  From the switch; to its known MAC address or, without one, to all."""
    if is_ipv4(address):
        asked = ARP.pack(1, 0x0800, 6, 4, ARP_REQUEST, mac, own[12:], bytes(6), address[12:])
        return (known or _BROADCAST) + mac + TYPE_ARP.to_bytes(2, "big") + asked
    receiver, receiver_mac = address, known
    if receiver_mac is None:
        receiver = _SOLICITED_NODE + address[13:]
        receiver_mac = _SOLICITED_NODE_MAC + address[13:]
    link = receiver_mac + mac + TYPE_IPV6.to_bytes(2, "big")
    return link + discovery(SOLICITATION, 0, address, mac, own, receiver)


def announced(frame: bytes) -> Announced | None:
    """What the frame says of a neighbour; None if there is nothing to accept."""
    try:
        packet = parse(frame)
    except MalformedPacket:
        return None
    found = _by_arp(packet) if packet.kind == Kind.ARP else _by_discovery(packet)
    if found is None or (found.mac is not None and not _is_one_station(found.mac)):
        return None
    return found


def _is_one_station(mac: bytes) -> bool:
    return mac[0] & 1 == 0 and any(mac)


def _by_arp(packet: Packet) -> Announced | None:
    if packet.end - packet.l3 < ARP.size:
        return None
    *kind, operation, mac, sender, _, _ = ARP.unpack_from(packet.data, packet.l3)
    if kind != [1, 0x0800, 6, 4] or operation not in (ARP_REQUEST, ARP_REPLY):
        return None
    if not any(sender):  # a probe (RFC 5227): it has no address yet
        return None
    return Announced(IPV4_PREFIX + sender, mac, overrides=True)


def _by_discovery(packet: Packet) -> Announced | None:
    """RFC 4861 7.1 says what makes a solicitation and an advertisement valid."""
    start, end, data = packet.l4, packet.end, packet.data
    is_valid = (
        packet.kind == Kind.ICMP
        and packet.protocol == ICMPV6
        and packet.ttl == 255
        and not packet.first_fragment
        and end - start >= _DISCOVERY_SIZE
        and data[start] in (SOLICITATION, ADVERTISEMENT)
        and data[start + 1] == 0
        and packet.checksums_are_right()
    )
    options = _options(packet, start + _DISCOVERY_SIZE) if is_valid else None
    if options is None:
        return None
    target = bytes(data[start + 8 : start + 24])
    if data[start] == SOLICITATION:
        mac = options.get(SOURCE_MAC)
        if mac is None or packet.src == UNSPECIFIED:
            return None
        return Announced(packet.src, mac, overrides=True)  # 7.2.3
    flags = int.from_bytes(data[start + 4 : start + 8], "big")
    if target[0] == 0xFF or (packet.dst[0] == 0xFF and flags & SOLICITED):
        return None
    return Announced(target, options.get(TARGET_MAC), overrides=bool(flags & OVERRIDE))


def _options(packet: Packet, place: int) -> dict[int, bytes] | None:
    """The link-layer addresses by their option's type; None if an option is not whole."""
    data, end, found = packet.data, packet.end, dict[int, bytes]()
    while place < end:
        length = data[place + 1] * 8 if place + 2 <= end else 0
        if length == 0 or place + length > end:
            return None
        if length == 8:
            found[data[place]] = bytes(data[place + 2 : place + 8])
        place += length
    return found
