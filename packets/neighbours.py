# SPDX-License-Identifier: Apache-2.0
"""Answers to requests for a MAC address: ARP (RFC 826) and neighbour discovery (RFC 4861 7.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from packets import checksum
from packets.parse import ICMPV6, IPV6, TYPE_ARP, TYPE_IPV4, TYPE_IPV6, Packet
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED

ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
ARP_REQUEST, ARP_REPLY = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136
_DISCOVERY: Final = struct.Struct("!BBHI16sBB6s")
SOLICITED, OVERRIDE = 0x40000000, 0x20000000
SOURCE_MAC, TARGET_MAC = 1, 2  # options, RFC 4861 4.6.1
_ALL_NODES: Final = bytes.fromhex("ff02" + "00" * 13 + "01")
_BROADCAST_MAC: Final = b"\xff" * 6
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")


def arp_reply(packet: Packet, mac: bytes, answers_for: Callable[[bytes], bool]) -> bytes | None:
    """The reply to an ARP request for one of the given addresses, None if it is not one."""
    if packet.end - packet.l3 < ARP.size:
        return None
    fields = ARP.unpack_from(packet.data, packet.l3)
    if fields[:5] != (1, 0x0800, 6, 4, ARP_REQUEST):
        return None
    sender_mac, sender, wanted = bytes(fields[5]), fields[6], bytes(fields[8])
    if not answers_for(IPV4_PREFIX + wanted):
        return None
    reply = ARP.pack(1, 0x0800, 6, 4, ARP_REPLY, mac, wanted, sender_mac, sender)
    return sender_mac + mac + bytes(packet.data[12 : packet.l3]) + reply


def is_solicitation(packet: Packet) -> bool:
    """Whether an ICMPv6 packet asks for a neighbour, and may (RFC 4861 7.1.1)."""
    return (
        packet.protocol == ICMPV6
        and packet.data[packet.l4] == SOLICITATION
        and packet.data[packet.l4 + 1] == 0
        and packet.ttl == 255
        and packet.end - packet.l4 >= 24
        and packet.checksums_are_right()
    )


def advertisement(packet: Packet, mac: bytes, answers_for: Callable[[bytes], bool]) -> bytes | None:
    """The answer to a neighbour solicitation for one of the given addresses."""
    wanted = bytes(packet.data[packet.l4 + 8 : packet.l4 + 24])
    if wanted.startswith(IPV4_PREFIX) or not answers_for(wanted):
        return None
    receiver, receiver_mac, flags = packet.src, packet.source_mac, SOLICITED | OVERRIDE
    if receiver == UNSPECIFIED:  # a host is about to use the address: answer to all
        receiver, receiver_mac, flags = _ALL_NODES, _ALL_NODES_MAC, OVERRIDE
    link = receiver_mac + mac + bytes(packet.data[12 : packet.l3])
    return link + discovery(ADVERTISEMENT, flags, wanted, mac, wanted, receiver)


def announcement(address: bytes, mac: bytes) -> bytes:
    """The frame by which everybody on a link learns where an address is now: an ARP announcement
    (RFC 5227 3), an unsolicited advertisement (RFC 4861 7.2.6)."""
    if not address.startswith(IPV4_PREFIX):
        message = discovery(ADVERTISEMENT, OVERRIDE, address, mac, address, _ALL_NODES)
        return _ALL_NODES_MAC + mac + TYPE_IPV6.to_bytes(2, "big") + message
    ipv4 = address[len(IPV4_PREFIX) :]
    request = ARP.pack(1, TYPE_IPV4, 6, 4, ARP_REQUEST, mac, ipv4, bytes(6), ipv4)
    return _BROADCAST_MAC + mac + TYPE_ARP.to_bytes(2, "big") + request


def discovery(kind: int, flags: int, target: bytes, mac: bytes, src: bytes, dst: bytes) -> bytes:
    """A solicitation or an advertisement with the sender's MAC address (RFC 4861 4.3, 4.4)."""
    option = TARGET_MAC if kind == ADVERTISEMENT else SOURCE_MAC
    unsummed = _DISCOVERY.pack(kind, 0, 0, flags, target, option, 1, mac)
    pseudo = checksum.pseudo_header(src, dst, ICMPV6, len(unsummed))
    total = checksum.compute(pseudo, unsummed)
    header = IPV6.pack(6 << 28, len(unsummed), ICMPV6, 255, src, dst)
    return header + unsummed[:2] + total.to_bytes(2, "big") + unsummed[4:]
