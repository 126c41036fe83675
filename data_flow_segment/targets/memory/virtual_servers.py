# SPDX-License-Identifier: Apache-2.0
"""Which virtual server a packet belongs to (wire protocol 8.3)."""

from __future__ import annotations

from collections.abc import Container, Sequence

from data_flow_segment.targets.contract import VirtualServerEntry, VirtualServerKey
from data_flow_segment.targets.virtual_addresses import VirtualAddresses


class VirtualServers:
    """The installed virtual servers by their keys."""

    def __init__(self) -> None:
        self._entries: dict[VirtualServerKey, VirtualServerEntry] = {}
        self.addresses = VirtualAddresses()

    def add(self, entry: VirtualServerEntry) -> None:
        """Add, or replace the one with the same key."""
        self.addresses.replace(self._entries.get(entry.key), entry)
        self._entries[entry.key] = entry

    def remove(self, key: VirtualServerKey) -> None:
        """Nothing happens if there is none."""
        self.addresses.replace(self._entries.pop(key, None), None)

    def get(self, key: VirtualServerKey) -> VirtualServerEntry | None:
        """The one with this key."""
        return self._entries.get(key)

    def entries(self) -> Sequence[VirtualServerEntry]:
        return tuple(self._entries.values())

    def match(
        self, address: bytes, port: int, protocol: int, local: Container[bytes]
    ) -> VirtualServerEntry | None:
        """First hit wins: exact, wildcard port, wildcard address, both; a wildcard address
        never catches a local one."""
        entries = self._entries
        found = entries.get(VirtualServerKey(address, port, protocol)) or entries.get(
            VirtualServerKey(address, None, protocol)
        )
        if found is not None or address in local:
            return found
        return entries.get(VirtualServerKey(None, port, protocol)) or entries.get(
            VirtualServerKey(None, None, protocol)
        )

    def is_address(self, address: bytes) -> bool:
        """Whether a virtual server has exactly this address."""
        return address in self.addresses

    def answers_for(self, address: bytes) -> bool:
        """Whether ARP and neighbour solicitations for it are answered (8.5)."""
        return self.addresses.answers_for(address)
