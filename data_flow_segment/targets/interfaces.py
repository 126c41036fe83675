# SPDX-License-Identifier: Apache-2.0
"""Interfaces and routes, for a target that cannot ask a kernel for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ssmb.addresses import IPV4_PREFIX, from_text


class ReversePath(StrEnum):
    """Which sources may begin a flow on an interface, as the kernel's rp_filter has it."""

    OFF = "off"
    LOOSE = "loose"  # those that have a route
    STRICT = "strict"  # those whose route leads back out here


@dataclass(frozen=True, slots=True)
class Interface:
    """One of the target's interfaces; it may face both sides (one arm)."""

    number: int
    name: str
    mac: bytes
    addresses: tuple[bytes, ...] = ()
    external: bool = False
    internal: bool = False
    mtu: int = 1500
    reverse_path: ReversePath = ReversePath.OFF
    more_ports: tuple[int, ...] = ()
    """Of a switch: the other ports in the same networks; `number` is the first port."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port."""
        return self.number, *self.more_ports


def by_port(interfaces: Iterable[Interface]) -> dict[int, Interface]:
    """Which interface a packet comes in by."""
    return {port: interface for interface in interfaces for port in interface.ports}


def is_from_elsewhere(
    interface: Interface, route: Route | None, interfaces: Mapping[int, Interface]
) -> bool:
    """Whether a packet that came in by `interface` is not from where `route`, the one to its
    source, leads (`interfaces` by number).  Several external interfaces may share the routes to the
    clients: they count as one."""
    if interface.reverse_path is ReversePath.OFF:
        return False
    if route is None:
        return True
    if interface.reverse_path is ReversePath.LOOSE or route.interface == interface.number:
        return False
    leads_to = interfaces.get(route.interface)
    return leads_to is None or not leads_to.external


def broadcasts(routes: Iterable[Route]) -> frozenset[bytes]:
    """Of all connected networks: no wildcard virtual server catches them."""
    return frozenset(filter(None, (route.broadcast for route in routes)))


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `network` leave on `interface`, to `gateway` or, without one, directly."""

    network: bytes
    prefix_length: int  # of 128: an IPv4 prefix counts 96 more
    interface: int
    gateway: bytes | None = None

    @classmethod
    def to(cls, network: str, interface: int, gateway: str | None = None) -> Route:
        """A route as text: ``Route.to("10.1.0.0/16", 2, "10.1.1.1")``."""
        parsed = ipaddress.ip_network(network)
        packed, length = parsed.network_address.packed, parsed.prefixlen
        if parsed.version == 4:
            packed, length = IPV4_PREFIX + packed, length + 96
        return cls(packed, length, interface, None if gateway is None else from_text(gateway))

    @property
    def broadcast(self) -> bytes | None:
        """The address of all hosts of a connected IPv4 network, which has one if it has more than
        two addresses (RFC 3021)."""
        if self.gateway is not None or not 96 <= self.prefix_length < 127:
            return None
        hosts = (1 << 128 - self.prefix_length) - 1
        return (int.from_bytes(self.network, "big") | hosts).to_bytes(16, "big")

    def covers(self, address: bytes) -> bool:
        """Whether `address` lies in the network."""
        shift = 128 - self.prefix_length
        return (int.from_bytes(address, "big") ^ int.from_bytes(self.network, "big")) >> shift == 0
