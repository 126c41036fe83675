# SPDX-License-Identifier: Apache-2.0
"""Which of our routes an address takes: the switch's own look-up, for what the agent must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_flow_segment.targets.p4runtime.options import Route


class Routes:
    """Found by the longest prefix, with one look for each length that there is."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, dict[int, Route]] = {}
        for route in sorted(routes, key=lambda route: -route.prefix_length):
            of_length = self._by_length.setdefault(route.prefix_length, {})
            network = int.from_bytes(route.network, "big") >> (128 - route.prefix_length)
            of_length.setdefault(network, route)  # the first one named counts, as in a table

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
