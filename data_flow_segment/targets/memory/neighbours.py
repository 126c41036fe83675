# SPDX-License-Identifier: Apache-2.0
"""Answers to "who has this address?": ARP (RFC 826) and neighbour discovery (RFC 4861 7.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.memory import checksum
from data_flow_segment.targets.memory.parse import ICMPV6, IPV6, Packet
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED

_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ADVERTISEMENT_LAYOUT: Final = struct.Struct("!BBHI16sBB6s")
_SOLICITED, _OVERRIDE = 0x40000000, 0x20000000
_ALL_NODES: Final = bytes.fromhex("ff02" + "00" * 13 + "01")
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")


def arp_reply(packet: Packet, mac: bytes, answers_for: Callable[[bytes], bool]) -> bytes | None:
    """The reply to an ARP request for an address of ours, None if it is not one."""
    if packet.end - packet.l3 < _ARP.size:
        return None
    fields = _ARP.unpack_from(packet.data, packet.l3)
    if fields[:5] != (1, 0x0800, 6, 4, _ARP_REQUEST):
        return None
    sender_mac, sender, wanted = bytes(fields[5]), fields[6], bytes(fields[8])
    if not answers_for(IPV4_PREFIX + wanted):
        return None
    reply = _ARP.pack(1, 0x0800, 6, 4, _ARP_REPLY, mac, wanted, sender_mac, sender)
    return sender_mac + mac + bytes(packet.data[12 : packet.l3]) + reply


def is_solicitation(packet: Packet) -> bool:
    """Whether an ICMPv6 packet asks for a neighbour, and may (RFC 4861 7.1.1)."""
    return (
        packet.protocol == ICMPV6
        and packet.data[packet.l4] == _SOLICITATION
        and packet.data[packet.l4 + 1] == 0
        and packet.ttl == 255
        and packet.end - packet.l4 >= 24
        and packet.checksums_are_right()
    )


def advertisement(packet: Packet, mac: bytes, answers_for: Callable[[bytes], bool]) -> bytes | None:
    """The answer to a neighbour solicitation for an address of ours."""
    wanted = bytes(packet.data[packet.l4 + 8 : packet.l4 + 24])
    if not answers_for(wanted):
        return None
    receiver, receiver_mac, flags = packet.src, packet.source_mac, _SOLICITED | _OVERRIDE
    if receiver == UNSPECIFIED:  # somebody is about to take the address: tell all
        receiver, receiver_mac, flags = _ALL_NODES, _ALL_NODES_MAC, _OVERRIDE
    fields = (_ADVERTISEMENT, 0, 0, flags, wanted, 2, 1, mac)
    unsummed = _ADVERTISEMENT_LAYOUT.pack(*fields)
    pseudo = checksum.pseudo_header(wanted, receiver, ICMPV6, len(unsummed))
    total = checksum.compute(pseudo, unsummed)
    header = IPV6.pack(6 << 28, len(unsummed), ICMPV6, 255, wanted, receiver)
    link = receiver_mac + mac + bytes(packet.data[12 : packet.l3])
    return link + header + unsummed[:2] + total.to_bytes(2, "big") + unsummed[4:]
