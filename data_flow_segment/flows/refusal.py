# SPDX-License-Identifier: Apache-2.0
"""What a refused client gets: RST for TCP, ICMP port unreachable for UDP (9.9)."""

from __future__ import annotations

import struct
from typing import Final

from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import PacketIn, TransmitPacket
from packets import checksum
from packets.parse import ACK, FIN, ICMP, ICMPV6, RST, SYN, Kind, MalformedPacket, Packet, parse
from ssmb.addresses import is_ipv4
from ssmb.constants import TCP, UDP, ErrorCode

_HOP_LIMIT: Final = 64
_DONT_FRAGMENT: Final = 0x4000
_TCP: Final = struct.Struct("!HHIIBBHHH")
_ICMP_UNREACHABLE: Final = (3, 3)  # type, code: port unreachable (RFC 792)
_ICMPV6_UNREACHABLE: Final = (1, 4)  # RFC 4443 3.1
_QUOTED_V4_MAX: Final = 548  # so that the whole error has at most 576 octets (RFC 1812 4.3.2.3)
_QUOTED_V6_MAX: Final = 1232  # at most the minimum MTU, 1280 (RFC 4443 3.1)
_WORD32: Final = 0xFFFFFFFF


COUNTERS: Final = {  # of flows, by the CS's error code
    int(ErrorCode.UNKNOWN): "refused_unknown",
    int(ErrorCode.NOTAVAIL): "refused_notavail",
    int(ErrorCode.CONNLIMIT): "refused_connlimit",
    int(ErrorCode.BUSY): "refused_connlimit",
    int(ErrorCode.WAIT): "refused_connlimit",
}


def notify_client(outbox: Outbox, packet: PacketIn) -> None:
    """Send what its sender has to receive, if anything."""
    octets = answer(packet.frame)
    if octets is not None:
        outbox.commands.append(TransmitPacket(octets))
        is_tcp = packet.signature.protocol == TCP
        outbox.counters["reset_sent" if is_tcp else "unreachable_sent"] += 1


_ANSWERED: Final = frozenset((int(ErrorCode.NOTAVAIL), int(ErrorCode.BUSY)))


def answer_refused(outbox: Outbox, packet: PacketIn, error_code: int) -> None:
    """What the sender of a packet gets whose flow the CS refused.

    UNKNOWN about a connection under way cannot change any more: without a reset its client would
    wait until it gives up.
    """
    is_under_way = packet.signature.protocol == TCP and packet.tcp_flags & (SYN | ACK) != SYN
    if error_code in _ANSWERED or (error_code == ErrorCode.UNKNOWN and is_under_way):
        notify_client(outbox, packet)
        if is_under_way:
            _reset_other_end(outbox, packet)


def _reset_other_end(outbox: Outbox, packet: PacketIn) -> None:
    """A node that goes on with a connection that nobody knows: its client is to hear it too."""
    client, vip, client_port, vip_port = packet.signature[:4]
    try:
        seen = parse(packet.frame)
    except MalformedPacket:
        return
    if seen.later_fragment or (seen.src, seen.ports[0]) == (client, client_port):
        return
    seq = int.from_bytes(seen.data[seen.l4 + 4 : seen.l4 + 8], "big")
    octets = reset_segment(vip, client, (vip_port, client_port), seq, 0, RST)
    outbox.commands.append(TransmitPacket(octets))
    outbox.counters["reset_sent"] += 1


def answer(frame: bytes) -> bytes | None:
    """Return the IP packet that refuses the sender of *frame*; None if it must not be answered."""
    try:
        packet = parse(frame)
    except MalformedPacket:
        return None
    if packet.kind != Kind.TRANSPORT or packet.later_fragment:
        return None
    if packet.protocol == TCP:
        return _reset(packet)
    return _unreachable(packet) if packet.protocol == UDP else None


def _reset(packet: Packet) -> bytes | None:
    """RFC 9293 3.10.7.1: as if no connection existed."""
    data, start, flags = packet.data, packet.l4, packet.tcp_flags
    if flags & RST:
        return None
    seq, ack = struct.unpack_from("!II", data, start + 4)
    length = packet.end - start - (data[start + 12] >> 4) * 4
    if flags & ACK:
        ours = (ack, 0, RST)
    else:
        consumed = length + bool(flags & SYN) + bool(flags & FIN)
        ours = (0, (seq + consumed) & _WORD32, RST | ACK)
    src_port, dst_port = packet.ports
    return reset_segment(packet.dst, packet.src, (dst_port, src_port), *ours)


def reset_segment(
    src: bytes, dst: bytes, ports: tuple[int, int], seq: int, ack: int, flags: int
) -> bytes:
    """An IP packet with a TCP reset, from `src` to `dst`, of one family."""
    segment = bytearray(_TCP.pack(*ports, seq, ack, 5 << 4, flags, 0, 0, 0))
    pseudo = checksum.pseudo_header(src, dst, TCP, len(segment))
    segment[16:18] = checksum.compute(pseudo, segment).to_bytes(2, "big")
    return _datagram(src, dst, TCP, bytes(segment))


def _unreachable(packet: Packet) -> bytes:
    quoted = bytes(packet.data[packet.l3 : packet.end])
    if packet.version == 4:
        kind, code = _ICMP_UNREACHABLE
        message = bytearray(struct.pack("!BBHI", kind, code, 0, 0) + quoted[:_QUOTED_V4_MAX])
        message[2:4] = checksum.compute(message).to_bytes(2, "big")
        return _back(packet, ICMP, bytes(message))
    kind, code = _ICMPV6_UNREACHABLE
    message = bytearray(struct.pack("!BBHI", kind, code, 0, 0) + quoted[:_QUOTED_V6_MAX])
    pseudo = checksum.pseudo_header(packet.dst, packet.src, ICMPV6, len(message))
    message[2:4] = checksum.compute(pseudo, message).to_bytes(2, "big")
    return _back(packet, ICMPV6, bytes(message))


def _back(packet: Packet, protocol: int, payload: bytes) -> bytes:
    """An IP packet to the client, from the address that the client used."""
    return _datagram(packet.dst, packet.src, protocol, payload)


def _datagram(src: bytes, dst: bytes, protocol: int, payload: bytes) -> bytes:
    if not is_ipv4(src):
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, _HOP_LIMIT)
        return header + src + dst + payload
    addresses = src[12:] + dst[12:]
    header4 = bytearray(
        struct.pack(
            "!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, _DONT_FRAGMENT, _HOP_LIMIT, protocol, 0
        )
        + addresses
    )
    header4[10:12] = checksum.compute(header4).to_bytes(2, "big")
    return bytes(header4) + payload
