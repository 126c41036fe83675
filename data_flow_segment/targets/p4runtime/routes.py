# SPDX-License-Identifier: Apache-2.0
"""Which route an address takes: the switch's own look-up, for what the agent must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_flow_segment.targets.interfaces import Interface, Route
from ssmb.addresses import IPV4_PREFIX, IPV4_UNSPECIFIED, is_ipv4

Place = tuple[bytes, int]
"""An address and the port that it is behind."""


class Routes:
    """Found by the longest prefix, with one look for each length that there is."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, dict[int, Route]] = {}
        for route in sorted(routes, key=lambda route: -route.prefix_length):
            of_length = self._by_length.setdefault(route.prefix_length, {})
            network = int.from_bytes(route.network, "big") >> (128 - route.prefix_length)
            of_length.setdefault(network, route)  # the first one named counts, as in a table
        self.through: dict[Place, list[Route]] = {}
        """The routes of each gateway."""
        for route in self:
            if route.gateway is not None:
                self.through.setdefault((route.gateway, route.interface), []).append(route)

    def __iter__(self) -> Iterator[Route]:
        """The longest first; one for each prefix."""
        for of_length in self._by_length.values():
            yield from of_length.values()

    def find(self, address: bytes) -> Route | None:
        """The route of packets to this address."""
        number = int.from_bytes(address, "big")
        for length, of_length in self._by_length.items():
            route = of_length.get(number >> (128 - length))
            if route is not None:
                return route
        return None

    def leads_to(self, place: Place) -> bool:
        """Whether something is handed there: it is a gateway, or in a connected network."""
        return place in self.through or self.is_connected(place)

    def is_connected(self, place: Place) -> bool:
        """Whether the address is in the network that its port is connected to."""
        route = self.find(place[0])
        return route is not None and route.gateway is None and route.interface == place[1]

    def own_address(self, interface: Interface, address: bytes) -> bytes:
        """The address that `address` should answer to: in the same network, or any of its
        family."""
        family = [own for own in interface.addresses if is_ipv4(own) == is_ipv4(address)]
        network = self.find(address)
        for own in family:
            if self.find(own) is network:
                return own
        if family:
            return family[0]
        return IPV4_PREFIX + IPV4_UNSPECIFIED if is_ipv4(address) else link_local(interface.mac)


def link_local(mac: bytes) -> bytes:
    """The address that an interface has by itself (RFC 4291 appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
