# SPDX-License-Identifier: Apache-2.0
"""Packets that the program could not send: their senders are notified, or fragments go on."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.bpf.flows import Flows, unpack
from data_flow_segment.targets.bpf.layout import EVENT_PACKET, EventKind, FlowBit
from data_flow_segment.targets.bpf.places import Places
from data_flow_segment.targets.bpf.ring import arrival
from data_flow_segment.targets.bpf.tap import Tap
from data_flow_segment.targets.bpf.transmit import Transmitter
from packets import icmp
from packets.parse import MalformedPacket, Packet, parse
from packets.rewrite import decrement_ttl
from packets.split import split
from packets.tunnel import in_fragments, tunnel_overhead, tunnelled

_HEADER: Final = EVENT_PACKET.size
_SPLIT: Final = int(EventKind.SPLIT)


class SlowPath:
    """What the agent does for the program, a bounded number of times per second (may_notify in
    bpf/upcall.h)."""

    def __init__(
        self,
        flows: Flows,
        places: Places,
        transmitter: Transmitter,
        count: Callable[..., None],
    ) -> None:
        self._flows = flows
        self._places = places
        self._transmitter = transmitter
        self._count = count

    def take(self, record: bytes, tap: Tap | None) -> None:
        """An event of the kind TTL, TOO_BIG or SPLIT; `tap` leads back to the program."""
        if record[0] != _SPLIT:
            self._notify_sender(record)
            return
        ifindex, frame = arrival(record)
        fields = EVENT_PACKET.unpack_from(record)
        mtu, key = fields[8], fields[9]
        try:
            packet = parse(frame)
            if packet.version == 6:
                self._tunnel(packet, key, mtu)
                return
            pieces = split(packet, mtu)
        except (MalformedPacket, ValueError):
            return
        self._count("fragmented")
        for piece in pieces:
            if tap is None or not tap.inject(ifindex, piece):
                self._count("drop_inject_failed")

    def transmit(self, octets: bytes) -> None:
        """Send an IP packet by the kernel's routes, and count it."""
        self._count("transmitted" if self._transmitter.send(octets) else "drop_transmit")

    def _tunnel(self, packet: Packet, key: bytes, mtu: int) -> None:
        """The packet goes to its node in fragments of the outer packet (RFC 2473 7.1)."""
        value = self._flows.table.lookup(key)
        home = None if value is None else unpack(value)
        if home is None or not home.bits & FlowBit.TUNNEL:
            self._count("drop_inject_unmatched")
            return
        src = self._transmitter.source_towards(home.node)
        if src is None:
            self._count("drop_transmit")
            return
        decrement_ttl(packet)
        outer = tunnelled(packet, src, home.node)
        self._count("fragmented")
        for piece in in_fragments(outer, mtu + tunnel_overhead(home.node), secrets.randbits(32)):
            self.transmit(piece)

    def _notify_sender(self, record: bytes) -> None:
        """The program dropped a packet that its sender has to know about."""
        kind, _, _, _, ifindex, _, _, _, mtu, _, _ = EVENT_PACKET.unpack_from(record)
        device = self._places.devices.get(ifindex)
        try:
            packet = parse(_completed(record[_HEADER:]))
        except MalformedPacket:
            return
        src = None if device is None else device.first(ipv4=packet.version == 4)
        if src is None or not icmp.may_be_answered(packet):
            return
        error = (
            icmp.time_exceeded(packet, src)
            if kind == EventKind.TTL
            else icmp.too_big(packet, src, mtu)
        )
        if error is not None:
            self.transmit(error)


def _completed(frame: bytes) -> bytes:
    """A packet's beginning as long as its header says: only the beginning is quoted anyway."""
    return frame + bytes(65536)
