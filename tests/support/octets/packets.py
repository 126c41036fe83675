# SPDX-License-Identifier: Apache-2.0
"""Packets for tests: scapy builds them, and a checksum verifier that shares no code with the
product looks at what came out."""

from __future__ import annotations

import ipaddress
import itertools
import struct
from typing import Any, Final

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from ssmb.addresses import to_text

TCP_PROTOCOL: Final = 6
UDP_PROTOCOL: Final = 17

_identifications = itertools.count(1)


def identification() -> int:
    """A number that no packet of this run had (fragment tables outlive a test)."""
    return next(_identifications) & 0xFFFF


def text(address: bytes | str) -> str:
    """An address as scapy wants it."""
    return address if isinstance(address, str) else to_text(address)


def ip(src: bytes | str, dst: bytes | str, **fields: Any) -> ScapyPacket:
    """An IPv4 or IPv6 header by the addresses' family; `ttl` and `tos` for both."""
    src, dst = text(src), text(dst)
    if ":" not in src:
        return IP(src=src, dst=dst, **{"id": 7, **fields})
    fields.pop("id", None)
    renamed = {"ttl": "hlim", "tos": "tc"}
    return IPv6(src=src, dst=dst, **{renamed.get(name, name): v for name, v in fields.items()})


def tcp(
    src: tuple[bytes | str, int],
    dst: tuple[bytes | str, int],
    flags: str = "A",
    payload: bytes = b"",
    *,
    ip_fields: dict[str, Any] | None = None,
    **fields: Any,
) -> ScapyPacket:
    """A TCP segment between two (address, port) ends; ttl 64 unless told."""
    header = ip(src[0], dst[0], **{"ttl": 64, **(ip_fields or {})})
    segment = header / TCP(sport=src[1], dport=dst[1], flags=flags, **fields)
    return segment / Raw(payload) if payload else segment


def udp(
    src: tuple[bytes | str, int],
    dst: tuple[bytes | str, int],
    payload: bytes = b"",
    *,
    ip_fields: dict[str, Any] | None = None,
    **fields: Any,
) -> ScapyPacket:
    """A UDP datagram between two (address, port) ends; ttl 64 unless told."""
    header = ip(src[0], dst[0], **{"ttl": 64, **(ip_fields or {})})
    datagram = header / UDP(sport=src[1], dport=dst[1], **fields)
    return datagram / Raw(payload) if payload else datagram


def segment(
    protocol: int,
    src: tuple[bytes | str, int],
    dst: tuple[bytes | str, int],
    payload: bytes = b"",
    **fields: Any,
) -> ScapyPacket:
    """TCP (an ACK unless flags are told) or UDP, for tests that run over both."""
    if protocol == TCP_PROTOCOL:
        return tcp(src, dst, payload=payload, **fields)
    fields.pop("flags", None)
    return udp(src, dst, payload, **fields)


def frame(
    src_mac: str, dst_mac: str, packet: ScapyPacket | bytes, vlan: int | None = None
) -> bytes:
    """The IP packet in an Ethernet frame, with a VLAN tag if told; lengths and checksums made."""
    octets = bytes(packet)
    kind = 0x86DD if octets[0] >> 4 == 6 else 0x0800
    # Ether(...) / packet would copy the packet and each of its headers, which takes longer
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return _octets(dst_mac) + _octets(src_mac) + tag + struct.pack("!H", kind) + octets


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def macs(octets: bytes) -> tuple[str, str]:
    """Destination and source of a frame."""
    return octets[:6].hex(":"), octets[6:12].hex(":")


def vlan_of(octets: bytes) -> int | None:
    """The VLAN of a frame's outer tag."""
    return struct.unpack_from("!H", octets, 14)[0] & 0xFFF if octets[12:14] == b"\x81\x00" else None


def ip_packet(octets: bytes) -> bytes:
    """The IP packet of a frame: without link header, tags and padding."""
    start = _l3(octets)
    if octets[start] >> 4 == 4:
        return octets[start : start + struct.unpack_from("!H", octets, start + 2)[0]]
    return octets[start : start + 40 + struct.unpack_from("!H", octets, start + 4)[0]]


def parsed(octets: bytes) -> ScapyPacket:
    """The IP packet of a frame, read by scapy."""
    packet = ip_packet(octets)
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def hop(packet: ScapyPacket, by: int = 1) -> ScapyPacket:
    """The packet as a router hands it on: a hop fewer to go."""
    other = packet.copy()
    if IPv6 in other:
        other[IPv6].hlim -= by
    else:
        other[IP].ttl -= by
    return other


def router_alert() -> list[Any]:
    """An IPv4 option that routers look at and hand on (RFC 2113)."""
    return [IPOption_Router_Alert()]


def with_destination_options(packet: ScapyPacket) -> ScapyPacket:
    """An IPv6 packet with an extension header before its transport header."""
    transport = packet[IPv6].payload
    header = packet[IPv6].copy()
    header.remove_payload()
    header.nh = 60
    return (
        header
        / IPv6ExtHdrDestOpt(nh=transport.underlayer.nh, options=[PadN(optdata=b"\0" * 4)])
        / transport
    )


def unreachable(src: bytes | str, dst: bytes | str, quoted: bytes, kind: str) -> ScapyPacket:
    """An ICMP error of either family: `kind` is "port", "too_big" or "time"."""
    header = ip(src, dst, ttl=64)
    if ":" in text(src):
        errors: dict[str, ScapyPacket] = {
            "port": ICMPv6DestUnreach(code=4),
            "too_big": ICMPv6PacketTooBig(mtu=1280),
            "time": ICMPv6TimeExceeded(code=0),
        }
        return header / errors[kind] / Raw(quoted)
    errors = {
        "port": ICMP(type=3, code=3),
        "too_big": ICMP(type=3, code=4, nexthopmtu=1280),
        "time": ICMP(type=11, code=0),
    }
    return header / errors[kind] / Raw(quoted)


def arp_request(sender_mac: str, sender: str, wanted: str, vlan: int | None = None) -> bytes:
    """Who has `wanted`? (RFC 826)"""
    link = Ether(src=sender_mac, dst="ff:ff:ff:ff:ff:ff")
    question = ARP(op=1, hwsrc=sender_mac, psrc=sender, hwdst="00:00:00:00:00:00", pdst=wanted)
    return bytes(link / question if vlan is None else link / Dot1Q(vlan=vlan) / question)


def solicitation(sender_mac: str, sender: str, wanted: str, **fields: Any) -> ScapyPacket:
    """A neighbour solicitation (RFC 4861 4.3), in its frame; `hlim` and `cksum` may be told."""
    node = ipaddress.IPv6Address(wanted).packed[-3:]
    group = ipaddress.IPv6Address(bytes.fromhex("ff02" + "00" * 9 + "01ff") + node)
    link = Ether(src=sender_mac, dst=(b"\x33\x33\xff" + node).hex(":"))
    header = IPv6(src=sender, dst=str(group), hlim=fields.pop("hlim", 255))
    question = ICMPv6ND_NS(tgt=wanted, **fields)
    if sender == "::":  # duplicate address detection says no link address (RFC 4862 5.4.2)
        return link / header / question
    return link / header / question / ICMPv6NDOptSrcLLAddr(lladdr=sender_mac)


def fragments(packet: ScapyPacket, size: int) -> list[ScapyPacket]:
    """The packet in fragments whose data is `size` octets each (a multiple of 8)."""
    whole = bytes(packet)
    number = identification()
    if IPv6 in packet:
        header, data = packet[IPv6], whole[40:]
        kinds = [data[at : at + size] for at in range(0, len(data), size)]
        found = []
        for place, piece in enumerate(kinds):
            part = IPv6(src=header.src, dst=header.dst, hlim=header.hlim, tc=header.tc)
            part /= IPv6ExtHdrFragment(
                nh=IPv6(whole).nh, offset=place * size // 8, m=place + 1 < len(kinds), id=number
            )
            found.append(part / Raw(piece))
        return found
    header, data = packet[IP], whole[20:]
    found = []
    for at in range(0, len(data), size):
        more = at + size < len(data)
        part = IP(src=header.src, dst=header.dst, ttl=header.ttl, tos=header.tos, id=number)
        part.proto, part.frag, part.flags = IP(whole).proto, at // 8, "MF" if more else 0
        found.append(part / Raw(data[at : at + size]))
    return found


# --- the verifier --------------------------------------------------------------------------


def ones_sum(octets: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    if len(octets) % 2:
        octets += b"\0"
    for (word,) in struct.iter_unpack("!H", octets):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def wrong_checksums(octets: bytes) -> list[str]:
    """Which checksums of an IP packet are wrong; a fragment's transport is not looked at."""
    if octets[0] >> 4 == 4:
        header = (octets[0] & 0x0F) * 4
        wrong = [] if ones_sum(octets[:header]) == 0xFFFF else ["IPv4 header"]
        if struct.unpack_from("!H", octets, 6)[0] & 0x3FFF:
            return wrong
        return wrong + _wrong_transport(octets[9], octets[12:20], octets[header:])
    protocol, start = octets[6], 40
    while protocol in (0, 43, 60):
        protocol, start = octets[start], start + 8 + octets[start + 1] * 8
    if protocol == 44:
        return []
    return _wrong_transport(protocol, octets[8:40], octets[start:])


def _wrong_transport(protocol: int, addresses: bytes, data: bytes) -> list[str]:
    pseudo = addresses + struct.pack("!II", len(data), protocol)
    if protocol == 1:
        return [] if ones_sum(data) == 0xFFFF else ["ICMP"]
    if protocol == UDP_PROTOCOL and data[6:8] == b"\0\0":
        return [] if len(addresses) == 8 else ["UDP: zero over IPv6"]
    if protocol in (TCP_PROTOCOL, UDP_PROTOCOL, 58):
        return [] if ones_sum(pseudo + data) == 0xFFFF else [f"transport {protocol}"]
    return []


def _l3(octets: bytes) -> int:
    start = 12
    while octets[start : start + 2] in (b"\x81\x00", b"\x88\xa8"):
        start += 4
    return start + 2
