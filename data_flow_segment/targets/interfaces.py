# SPDX-License-Identifier: Apache-2.0
"""Interfaces and routes, for a target that cannot ask a kernel for them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ssmb.addresses import IPV4_PREFIX, from_text


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

    def covers(self, address: bytes) -> bool:
        """Whether `address` lies in the network."""
        shift = 128 - self.prefix_length
        return (int.from_bytes(address, "big") ^ int.from_bytes(self.network, "big")) >> shift == 0
