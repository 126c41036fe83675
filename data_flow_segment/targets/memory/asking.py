# SPDX-License-Identifier: Apache-2.0
"""The question about a new flow: its packet becomes a sealed QUERY that carries it (PARKED, wire
protocol 6.8), and nothing is kept here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.contract import ASKED_S, FINISHED_VERSION, AskingPath
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.memory import forward, short_way
from data_flow_segment.targets.memory.controls import Controls
from data_flow_segment.targets.translation import Key
from packets import checksum
from packets.parse import (
    ACK,
    ETHERNET,
    IPV4,
    IPV6,
    SYN,
    TYPE_IPV4,
    TYPE_IPV6,
    Packet,
)
from ssmb.addresses import is_ipv4, to_text
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, TCP, UDP, Flag
from ssmb.messages import AppQuery, Query, Session
from ssmb.seal import Sealer
from ssmb.serials import UDP_SLOT_SHIFT, derived

TRAFFIC_CLASS: Final = 48 << 2  # DSCP CS6, wire protocol 6.8
TTL: Final = 64
UDP_HEADER: Final = 8
ECN: Final = 3  # the bits of a type of service that no signature has (6.2)

_WORD32: Final = 0xFFFFFFFF
_DONT_FRAGMENT: Final = 0x4000
_PLACE: Final = slice(8, 12)  # where a parked frame says by which interface it came in

RENEWED_MAX: Final = 16384  # of bpf/maps.h
ASKED_MAX: Final = 16384  # likewise


class Asker:
    """Makes frames of packets that nobody but the CS can place."""

    def __init__(
        self,
        serial_key: bytes,
        router: forward.Router,
        controls: Controls,
        clock: Callable[[], float],
    ) -> None:
        self._serial_key = serial_key
        self._router = router
        self._controls = controls
        self._clock = clock
        self.renewed: dict[Key, int] = {}
        self._asked: dict[Key, float] = {}  # clients' first segments: when

    def obstacle(self, group_id: int) -> str:
        """Why the agent asks about a group's flows; "" if this target does."""
        asking = self._controls.asking(group_id)
        if asking is None:
            return "no CS of the group can be asked yet"
        address = asking[0].cs_ipaddr
        try:
            self._router.exit_towards(address)
        except forward.NoRoute:
            return f"there is no route to the CS at {to_text(address)}"
        except forward.NoNeighbour:
            return f"the MAC address of the next hop to {to_text(address)} is not known"
        return ""

    def renew(self, key: Key) -> None:
        """A flow of UDP was taken out: the session's next one is to have another serial."""
        if len(self.renewed) >= RENEWED_MAX:
            del self.renewed[next(iter(self.renewed))]
        self.renewed[key] = self.renewed.get(key, 0) + 1

    def has_asked(self, key: Key) -> bool:
        """Whether it has asked about a client's first segment lately."""
        at = self._asked.get(key)
        return at is not None and self._clock() - at < ASKED_S

    def question(
        self, interface: Interface, packet: Packet, key: Key, group_id: int, app_type: int = 0
    ) -> tuple[forward.Exit, bytes] | None:
        """What leaves instead of a flow's first packet, whose checksums are right, and where;
        with `app_type` instead of a client's first segment.  None: the agent has to ask."""
        asking = self._controls.asking(group_id)
        if asking is None or not (_is_request if app_type else _is_plain)(packet):
            return None
        now = self._clock()
        if self._controls.is_refused(key, now):
            return None
        path, sealer = asking
        try:
            way = self._router.exit_towards(path.cs_ipaddr)
        except (forward.NoRoute, forward.NoNeighbour):
            return None
        datagram = self._datagram(interface, packet, key, sealer, now, app_type)
        outer = IPV4.size if is_ipv4(path.cs_ipaddr) else IPV6.size
        if outer + UDP_HEADER + len(datagram) > way.interface.mtu:
            return None
        if app_type:
            self._asked.pop(key, None)
            if len(self._asked) >= ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            self._asked[key] = now
        return way, _framed(datagram, path, way)

    def _datagram(
        self,
        interface: Interface,
        packet: Packet,
        key: Key,
        sealer: Sealer,
        now: float,
        app_type: int,
    ) -> bytes:
        if packet.protocol == TCP:
            distinction = int.from_bytes(packet.data[packet.l4 + 4 : packet.l4 + 8], "big")
        else:
            slot = int(now * 1e9) >> UDP_SLOT_SHIFT & _WORD32
            distinction = slot ^ self.renewed.get(key, 0)
        if app_type:
            distinction = distinction - 1 & _WORD32  # the SYN's number
        fields = (
            0,
            int(Flag.PARKED),
            derived(self._serial_key, Session(*key), distinction),
            *key,
            packet.tos & ~ECN,
            packet.tcp_flags,
            app_type,
            int(now * 1000) & _WORD32,
        )
        frame = parked(interface, packet)
        query = AppQuery(*fields, b"", frame) if app_type else Query(*fields, frame)
        return sealer.seal(encode(query, FINISHED_VERSION))


def _is_plain(packet: Packet) -> bool:
    """Whether it begins a flow and fits."""
    begins = packet.protocol != TCP or packet.tcp_flags & (SYN | ACK) == SYN
    return begins and _fits(packet)


def _is_request(packet: Packet) -> bool:
    """Whether a client's first segment fits, and says nothing out of the ordinary."""
    return short_way.may_be_asked_about(packet) and _fits(packet)


def _fits(packet: Packet) -> bool:
    """Which of fragments nobody can say."""
    if packet.first_fragment or packet.later_fragment or packet.l3 != ETHERNET.size:
        return False
    return packet.end <= PARKED_FRAME_MAX


def parked(interface: Interface, packet: Packet) -> bytes:
    """The packet's frame, without what an Ethernet adds to short ones.  Its MAC addresses are not
    needed any more: they say where it came in."""
    frame = bytearray(packet.data[: packet.end])
    frame[:12] = bytes(12)
    frame[_PLACE] = interface.number.to_bytes(4, "big")
    return bytes(frame)


def place_of(frame: bytes) -> int:
    """The number of the interface that a parked frame came in by."""
    return int.from_bytes(frame[_PLACE], "big")


def _framed(datagram: bytes, path: AskingPath, way: forward.Exit) -> bytes:
    length = UDP_HEADER + len(datagram)
    ports = path.own_port.to_bytes(2, "big") + path.cs_port.to_bytes(2, "big")
    udp = ports + length.to_bytes(2, "big")
    if is_ipv4(path.cs_ipaddr):
        addresses = path.own_ipaddr[12:], path.cs_ipaddr[12:]
        ip = IPV4.pack(
            0x45, TRAFFIC_CLASS, IPV4.size + length, 0, _DONT_FRAGMENT, TTL, UDP, 0, *addresses
        )
        ip = ip[:10] + checksum.compute(ip).to_bytes(2, "big") + ip[12:]
        ethertype, total = TYPE_IPV4, 0  # the seal is enough, RFC 768
    else:
        ip = IPV6.pack(
            6 << 28 | TRAFFIC_CLASS << 20, length, UDP, TTL, path.own_ipaddr, path.cs_ipaddr
        )
        pseudo = checksum.pseudo_header(path.own_ipaddr, path.cs_ipaddr, UDP, length)
        ethertype, total = TYPE_IPV6, checksum.compute(pseudo, udp + bytes(2), datagram) or 0xFFFF
    link = ETHERNET.pack(way.mac, way.interface.mac, ethertype)
    return link + ip + udp + total.to_bytes(2, "big") + datagram
