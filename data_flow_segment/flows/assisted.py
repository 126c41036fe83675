# SPDX-License-Identifier: Apache-2.0
"""Flows that a CS carries, packet by packet: bridged there and back, and handed over (15.4).

Whoever finds the held entry of such a flow knows all that is needed, so that an agent that was
restarted goes on with it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from data_flow_segment.flows.bridge import Bridger
from data_flow_segment.flows.table import RECENT_S
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer, Peers
from data_flow_segment.targets.contract import FlowEntry, FlowState, TransmitPacket
from data_flow_segment.targets.translation import inbound, returning, reverse_key
from packets.parse import Kind, MalformedPacket, Packet, parse_ip
from packets.rewrite import translate
from ssmb.addresses import UNSPECIFIED
from ssmb.bridging import PACKET_MAX
from ssmb.constants import Flag

HANDED_OVER_MAX: Final = 4096
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_OUTBOUND: Final = int(Flag.OUTBOUND)


def is_assisted(entry: FlowEntry) -> bool:
    """Whether a CS carries the flow."""
    return entry.held and not entry.flags & _PROXY_SERVER and entry.node_ipaddr != UNSPECIFIED


class Assisted:
    """Bridges the packets of such flows."""

    def __init__(self, outbox: Outbox, peers: Peers, bridger: Bridger) -> None:
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._bridger = bridger
        # By group and serial, the oldest first: when, and the entry
        self._handed_over: OrderedDict[tuple[int, int], tuple[float, FlowEntry]] = OrderedDict()

    def came(self, state: FlowState, parsed: Packet) -> None:
        """A packet of such a flow: to the CS."""
        entry = state.entry
        peer = self._peers.active_of(entry.group_id)
        octets = bytes(parsed.data[parsed.l3 : parsed.end])
        if peer is None or not peer.ssmb_proved:
            self._counters["drop_no_cs_to_bridge"] += 1
        elif len(octets) > PACKET_MAX:
            self._counters["drop_not_bridged"] += 1
        else:
            is_clients = parsed.src == entry.signature.src_ipaddr and (
                parsed.ports[0] == entry.signature.src_port
                and parsed.dst == entry.signature.dst_ipaddr
            )
            self._bridger.send(peer, octets, 0 if is_clients else _OUTBOUND, entry.serial)
            self._counters["bridged_packets"] += 1

    def handed_over(self, entry: FlowEntry, now: float) -> None:
        """The target carries it from now on; the CS still gets packets that came before."""
        known = self._handed_over
        known[entry.group_id, entry.serial] = (now, entry)
        while known and (len(known) > HANDED_OVER_MAX or self._oldest() <= now - RECENT_S):
            known.popitem(last=False)

    def _oldest(self) -> float:
        return next(iter(self._handed_over.values()))[0]

    def bridged_back(self, peer: Peer, octets: bytes, serial: int) -> None:
        """A packet that a CS sends: as it is, unless its flow was handed over."""
        found = self._handed_over.get((peer.group_id, serial)) if serial else None
        if found is not None:
            octets = _translated(octets, found[1])
        self._outbox.commands.append(TransmitPacket(octets))


def _translated(octets: bytes, entry: FlowEntry) -> bytes:
    """What the entry makes of a packet of its flow; of another one nothing."""
    try:
        packet = parse_ip(octets)
    except MalformedPacket:
        return octets
    if packet.kind != Kind.TRANSPORT or packet.later_fragment:
        return octets
    key = (packet.src, packet.dst, *packet.ports, packet.protocol)
    there = inbound(entry)
    if key == entry.signature.session:
        translate(packet, there)
    elif key == reverse_key(entry.signature, there):
        translate(packet, returning(entry))
    return bytes(packet.data)
