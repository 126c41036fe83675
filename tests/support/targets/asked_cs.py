# SPDX-License-Identifier: Apache-2.0
"""A CS beside a rig's target: what the program asks it, and its answers, octet by octet.

It is where `Family.firewall` is, on the internal side.  It has no code of the program's.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from data_flow_segment.targets.contract import AskingPath, Offload
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.codec import decode, encode
from ssmb.constants import Flag
from ssmb.messages import Query, Reply
from ssmb.seal import Opener, Sealer
from support.octets import packets
from support.targets.rig import FIREWALL_MAC, TARGET_MAC, Family, Side
from support.targets.scene import NAT

CS_PORT: Final = 6970
OWN_PORT: Final = 6971
_UDP: Final = packets.UDP_PROTOCOL
_FRAMED: Final = int(Flag.PARKED | Flag.ADDR16)


class AskedCs:
    """One CS, its keys and its way."""

    def __init__(self, family: Family, group_id: int = 1) -> None:
        self.family = family
        self.group_id = group_id
        self.asking_key = bytes([group_id]) + bytes(range(1, 16))
        self.answering_key = bytes([group_id]) + bytes(range(17, 32))
        self._opener = Opener(self.asking_key)
        self._sealers = [Sealer(self.answering_key, lane) for lane in range(256)]

    def offload(self, *, ends: bool = False) -> Offload:
        """The command that has the program ask here."""
        path = AskingPath(
            from_text(self.family.firewall),
            CS_PORT,
            from_text(self.family.internal),
            OWN_PORT,
            self.asking_key,
            self.answering_key,
        )
        return Offload(self.group_id, ends=ends, path=path)

    # --- questions ------------------------------------------------------------------------------

    def read(self, octets: bytes) -> Query:
        """A QUERY on the wire, of which everything is held that the packet inside does not say."""
        assert packets.macs(octets) == (FIREWALL_MAC, TARGET_MAC[Side.INTERNAL])
        packet = packets.ip_packet(octets)
        assert len(octets) == 14 + len(packet), "something hangs on behind it"
        udp = 20 if self.family.is_ipv4 else 40
        assert packets.wrong_checksums(packet) == []
        assert self._without_checksum(packet[:udp]) == self._header(len(packet))
        source, destination, length = struct.unpack_from("!HHH", packet, udp)
        assert (source, destination, length) == (OWN_PORT, CS_PORT, len(packet) - udp)
        query = decode(self._opener.open(packet[udp + 8 :]), version=2)
        assert isinstance(query, Query)
        return query

    def _header(self, length: int) -> bytes:
        """DSCP CS6, TTL 64, not to be fragmented (6.8)."""
        src, dst = from_text(self.family.internal), from_text(self.family.firewall)
        if self.family.is_ipv4:
            head = struct.pack("!BBHHHBBH", 0x45, 48 << 2, length, 0, 0x4000, 64, _UDP, 0)
            return head + src[12:] + dst[12:]
        return struct.pack("!IHBB", 6 << 28 | 48 << 22, length - 40, _UDP, 64) + src + dst

    @staticmethod
    def _without_checksum(header: bytes) -> bytes:
        return header[:10] + bytes(2) + header[12:] if len(header) == 20 else header

    # --- answers --------------------------------------------------------------------------------

    def reply(self, query: Query, node: tuple[str, int], **changes: Any) -> Reply:
        """The plain decision, NAT to the node, with the frame; changed as told."""
        plain = Reply(
            flags=int(NAT) | _FRAMED,
            serial=query.serial,
            src_ipaddr=query.src_ipaddr,
            dst_ipaddr=query.dst_ipaddr,
            src_port=query.src_port,
            dst_port=query.dst_port,
            protocol=query.protocol,
            tos=query.tos,
            tcp_flags=query.tcp_flags,
            node_ipaddr=from_text(node[0]),
            node_port=node[1],
            snat_ipaddr=UNSPECIFIED,
            next_hop_ipaddr=UNSPECIFIED,
            idle_timeout=60,
            frame=query.frame,
        )
        return plain._replace(**changes)

    def seal(self, message: bytes, lane: int = 1) -> bytes:
        return self._sealers[lane].seal(message)

    def sealed(self, reply: Reply, lane: int = 1) -> bytes:
        return self.seal(encode(reply, version=2), lane)

    def datagram(self, payload: bytes, **ends: Any) -> bytes:
        """A frame from the CS to the DFS, or from and to wherever is told."""
        source = ends.get("source", (self.family.firewall, CS_PORT))
        destination = ends.get("destination", (self.family.internal, OWN_PORT))
        packet = packets.udp(source, destination, payload)
        return packets.frame(FIREWALL_MAC, TARGET_MAC[Side.INTERNAL], packet)
