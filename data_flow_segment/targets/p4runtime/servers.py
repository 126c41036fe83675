# SPDX-License-Identifier: Apache-2.0
"""Virtual servers, their addresses, the addresses that wildcards never catch, and the interfaces:
what the agent says of them as rows of the switch's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_flow_segment.targets.contract import VirtualServerEntry, VirtualServerKey
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.schema import Row
from data_flow_segment.targets.virtual_addresses import VirtualAddresses


class Servers:
    """The virtual servers with the numbers by which the switch names them in what comes up."""

    def __init__(self) -> None:
        self.entries: dict[VirtualServerKey, VirtualServerEntry] = {}
        self._numbers: dict[VirtualServerKey, int] = {}
        self._keys: dict[int, VirtualServerKey] = {}
        self.addresses = VirtualAddresses()
        self._last = 0  # numbers are not reused: a packet of an earlier one may be on its way

    def add(self, entry: VirtualServerEntry) -> None:
        """Add, or replace the one with this key."""
        if entry.key not in self._numbers:
            self._last += 1
            self._number(entry.key, self._last)
        self._enter(entry)

    def adopt(self, entry: VirtualServerEntry, number: int) -> None:
        """One that the switch has."""
        self._number(entry.key, number)
        self._last = max(self._last, number)
        self._enter(entry)

    def remove(self, key: VirtualServerKey) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            del self._keys[self._numbers.pop(key)]
            self.addresses.replace(entry, None)

    def key_of(self, number: int) -> VirtualServerKey | None:
        """Whose number it is."""
        return self._keys.get(number)

    def match(self, address: bytes, port: int, protocol: int) -> VirtualServerEntry | None:
        """The one that takes packets to there (8.3)."""
        for its_address in (address, None):
            for its_port in (port, None):
                entry = self.entries.get(VirtualServerKey(its_address, its_port, protocol))
                if entry is not None:
                    return entry
        return None

    def rows_of(self, keys: Iterable[VirtualServerKey]) -> Iterator[tuple[bool, Row]]:
        """The rows of virtual_servers, virtual_addresses and virtual_sources that these keys
        concern, and whether each is to be there.  An address is answered for if one of its servers
        wants it (8.5)."""
        addresses: set[bytes] = set()
        for key in keys:
            entry = self.entries.get(key)
            if entry is None:
                yield False, entries.server_row_key(key)
            else:
                yield True, entries.server_row(entry, self._numbers[key])
            if key.virt_ipaddr is not None:
                addresses.add(key.virt_ipaddr)
        for address in addresses:
            answered = self.addresses.answers_for(address)
            is_there = address in self.addresses
            yield is_there, entries.virtual_address_row(address, answered=answered)
            yield is_there, entries.virtual_source_row(address)

    def _enter(self, entry: VirtualServerEntry) -> None:
        self.addresses.replace(self.entries.get(entry.key), entry)
        self.entries[entry.key] = entry

    def _number(self, key: VirtualServerKey, number: int) -> None:
        self._numbers[key] = number
        self._keys[number] = key


def place_rows(
    interfaces: Iterable[Interface], reserved: frozenset[bytes], *, outbound_query: bool
) -> Iterator[Row]:
    """The tables interfaces, tunnel_sources, local_addresses and own_sources."""
    own: set[bytes] = set()
    for interface in interfaces:
        for port in interface.ports:
            yield entries.interface_row(interface, port, outbound_query=outbound_query)
            yield entries.tunnel_source_row(interface, port)
        own.update(interface.addresses)
    for address in own:
        yield entries.local_address_row(address, own=True)
        yield entries.own_source_row(address)
    for address in reserved - own:
        yield entries.local_address_row(address, own=False)
