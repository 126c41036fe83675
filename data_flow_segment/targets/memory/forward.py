# SPDX-License-Identifier: Apache-2.0
"""Where a packet leaves: routes, next hops, neighbours, and the link header that it gets."""

from __future__ import annotations

from typing import NamedTuple

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.memory.options import MemoryOptions
from packets.parse import Packet
from ssmb.addresses import UNSPECIFIED, is_ipv4
from ssmb.constants import Flag, ForwardMode


class NoRoute(Exception):
    """Nothing says where the packet should go."""


class NoNeighbour(Exception):
    """The next hop's MAC address is not known."""


class Exit(NamedTuple):
    """An interface and the neighbour on it."""

    interface: Interface
    mac: bytes


class Router:
    """The static route and neighbour tables."""

    def __init__(self, options: MemoryOptions) -> None:
        self.interfaces = {interface.number: interface for interface in options.interfaces}
        self.own_addresses = frozenset(
            address for interface in options.interfaces for address in interface.addresses
        )
        self._routes = sorted(options.routes, key=lambda route: -route.prefix_length)
        self._neighbours = dict(options.neighbours)

    def exit_towards(self, address: bytes) -> Exit:
        """By the longest prefix that covers the address."""
        route = self.route_to(address)
        if route is None:
            raise NoRoute
        next_hop = address if route.gateway is None else route.gateway
        mac = self._neighbours.get(next_hop)
        if mac is None:
            raise NoNeighbour
        return Exit(self.interfaces[route.interface], mac)

    def route_to(self, address: bytes) -> Route | None:
        """The one with the longest prefix that covers the address."""
        return next((route for route in self._routes if route.covers(address)), None)

    def source_address(self, interface: Interface, *, ipv4: bool) -> bytes | None:
        """The address that the target's own packets on this interface come from."""
        for address in interface.addresses:
            if is_ipv4(address) == ipv4:
                return address
        return None


def inbound_next_hop(entry: FlowEntry, packet: Packet) -> bytes:
    """What the route lookup of an inbound packet, already translated, is made for."""
    if not entry.flags & Flag.ROUTE_BY_DST_IP and entry.next_hop_ipaddr != UNSPECIFIED:
        return entry.next_hop_ipaddr
    return packet.dst if entry.forward_mode == ForwardMode.NAT else entry.node_ipaddr


def with_link_header(packet: Packet, route: Exit) -> bytes:
    """The frame with new MAC addresses; VLAN tags and padding stay."""
    return route.mac + route.interface.mac + bytes(packet.data[12:])


def framed(octets: bytes, packet: Packet, route: Exit) -> bytes:
    """What carries the packet, of its family, as a frame; VLAN tags stay."""
    return route.mac + route.interface.mac + bytes(packet.data[12 : packet.l3]) + octets
