# SPDX-License-Identifier: Apache-2.0
"""A CS at the end of a target's cable: opens the QUERYs that the target sends by itself, and seals
REPLYs to them.  Its datagrams are built and taken apart by scapy and `ssmb`, by nothing of a
target's."""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import (
    AskingPath,
    Event,
    FinishedMessages,
    FlowEntry,
    Offload,
)
from ssmb.addresses import from_text
from ssmb.codec import decode, decode_datagram, encode
from ssmb.constants import Flag, MessageType
from ssmb.messages import AppQuery, Delete, Query, Reply
from ssmb.seal import Opener, Sealer
from support.octets import packets
from support.targets.rig import CS_MAC, OWN_PORT, TARGET_MAC, Family, Frame, Side
from support.targets.scene import only

CS_PORT: Final = 61019
GROUP: Final = 1
VERSION: Final = 2

_connections = itertools.count(1)  # each has keys of its own


class AnsweringCs:
    """The active CS of a group, with the keys of one connection."""

    def __init__(self, family: Family, *, port: int = CS_PORT) -> None:
        number = next(_connections).to_bytes(8, "big")
        self.family = family
        self.path = AskingPath(
            from_text(family.cs),
            port,
            from_text(family.internal),
            OWN_PORT,
            b"to CS   " + number,
            b"from CS " + number,
        )
        self._opener = Opener(self.path.sealing_key)
        self._sealers = {lane: Sealer(self.path.opening_key, lane) for lane in range(6)}
        self.numbers: list[int] = []  # the counters of the seals that came, with their lanes

    def offload(self, **changes: Any) -> Offload:
        """All that a target does for the group of a CS that may be asked."""
        return dataclasses.replace(Offload(GROUP, ends=True, path=self.path), **changes)

    # what the target sends

    def asked(self, frames: Sequence[Frame]) -> Query:
        """The QUERY that is all that came out."""
        return self.query(only(frames, Side.INTERNAL))

    def query(self, octets: bytes) -> Query:
        """The QUERY in a frame that came out, after a look at all of its headers."""
        message = decode(self._opened(octets), VERSION)
        assert isinstance(message, Query)
        return message

    def asked_content(self, frames: Sequence[Frame]) -> AppQuery:
        """The APP_QUERY that is all that came out."""
        return self.content_query(only(frames, Side.INTERNAL))

    def content_query(self, octets: bytes) -> AppQuery:
        """The APP_QUERY in a frame that came out, after a look at all of its headers."""
        message = decode(self._opened(octets), VERSION)
        assert isinstance(message, AppQuery)
        return message

    def _opened(self, octets: bytes) -> bytes:
        family, data = self.family, 14 + (20 if self.family.is_ipv4 else 40)
        assert packets.macs(octets) == (CS_MAC, TARGET_MAC[Side.INTERNAL])
        # scapy takes the headers only: what it finds in random octets may be anything
        header = IP(octets[14:data]) if family.is_ipv4 else IPv6(octets[14:data])
        assert (header.src, header.dst) == (family.internal, family.cs)
        if family.is_ipv4:
            assert (header.ttl, header.tos, header.flags, header.ihl) == (64, 48 << 2, "DF", 5)
        else:
            assert (header.hlim, header.tc, header.nh) == (64, 48 << 2, 17)
        sport, dport, length, checksum = struct.unpack_from("!HHHH", octets, data)
        assert (sport, dport) == (OWN_PORT, self.path.cs_port)
        assert packets.wrong_checksums(packets.ip_packet(octets)) == []
        assert (checksum == 0) == family.is_ipv4  # RFC 768, and RFC 8200 8.1
        sealed = octets[data + 8 :]
        assert len(sealed) == length - 8
        self.numbers.append(int.from_bytes(sealed[-16:-8], "big"))
        return self._opener.open(sealed)

    # what it answers

    def reply(self, query: Query | AppQuery, entry: FlowEntry, **changes: Any) -> Reply:
        """The decision of `entry`, with what the QUERY carried."""
        decided = entry._replace(signature=query.signature, serial=query.serial)
        return decision(decided)._replace(frame=query.frame)._replace(**changes)

    def frame(self, reply: Reply, *, lane: int = 1) -> Frame:
        """The REPLY, sealed, as a frame to the target."""
        return self.carrying(self.sealed(reply, lane=lane))

    def sealed(self, reply: Reply, *, lane: int = 1) -> bytes:
        return self._sealers[lane].seal(encode(reply, VERSION))

    def carrying(self, datagram: bytes) -> Frame:
        """These octets, as a frame to the target's own port."""
        family = self.family
        udp: dict[str, int] = {"chksum": 0} if family.is_ipv4 else {}
        packet = (
            packets.ip(family.cs, family.internal)
            / UDP(sport=self.path.cs_port, dport=OWN_PORT, **udp)
            / datagram
        )
        return self.side(packet)

    @staticmethod
    def side(packet: ScapyPacket) -> Frame:
        return Side.INTERNAL, packets.frame(CS_MAC, TARGET_MAC[Side.INTERNAL], packet)


def decision(entry: FlowEntry) -> Reply:
    """An entry as a REPLY with PARKED has it, without a frame."""
    flags = entry.flags | int(Flag.PARKED)
    values = 0, flags, entry.serial, *entry.signature, 0, 0, *entry.translation, b""
    return Reply._make(values)


def finished(events: Iterable[Event]) -> list[Delete | Reply]:
    """The messages that a target finished; other events are not expected here."""
    found: list[Delete | Reply] = []
    for event in events:
        assert isinstance(event, FinishedMessages), event
        assert event.group_id == GROUP
        decoded = decode_datagram(event.octets, VERSION)
        assert decoded.malformed is None
        for message in decoded.messages:
            assert isinstance(message, Delete | Reply)
            kind = MessageType.DELETE if isinstance(message, Delete) else MessageType.REPLY
            assert event.msg_type == kind
            found.append(message)
    return found
