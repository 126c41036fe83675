# SPDX-License-Identifier: Apache-2.0
"""The ports of fragmented packets, which only their first fragment carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from packets.parse import Packet

FRAGMENT_LIFE_S: Final = 30.0
"""As long as Linux keeps fragments for reassembly (net.ipv4.ipfrag_time)."""

_Key = tuple[bytes, bytes, int, int]


class FragmentTable:
    """(addresses, protocol, identification) -> ports; the oldest is dropped when it is full."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._ports: dict[_Key, tuple[int, int, float]] = {}

    def note(self, packet: Packet, ports: tuple[int, int] | None = None) -> None:
        """Remember a first fragment; `ports`: not the packet's own."""
        key = _key(packet)
        self._ports.pop(key, None)
        if len(self._ports) >= self._capacity:
            del self._ports[next(iter(self._ports))]
        self._ports[key] = (*(ports or packet.ports), self._clock() + FRAGMENT_LIFE_S)

    def ports_of(self, packet: Packet) -> tuple[int, int] | None:
        """The ports of a later fragment, if its first one came by lately."""
        found = self._ports.get(_key(packet))
        if found is None or found[2] < self._clock():
            return None
        return found[:2]


def _key(packet: Packet) -> _Key:
    return packet.src, packet.dst, packet.protocol, packet.fragment_id
