# SPDX-License-Identifier: Apache-2.0
"""The addresses that virtual servers have, counted: a change of one virtual server costs the same
however many there are, at one address or at as many."""

from __future__ import annotations

from data_flow_segment.targets.contract import VirtualServerEntry


class VirtualAddresses:
    """Which addresses virtual servers have, and which of them are answered for (8.5)."""

    def __init__(self) -> None:
        self.servers: dict[bytes, int] = {}  # address: how many have it
        self._answering: dict[bytes, int] = {}
        self._new: set[bytes] = set()

    def take_new(self) -> frozenset[bytes]:
        """Those that came since the last call."""
        new = frozenset(self._new)
        self._new.clear()
        return new

    def renew(self) -> None:
        """All of them count as new: somebody else is told."""
        self._new.update(self.servers)

    def __contains__(self, address: object) -> bool:
        """Whether a virtual server has exactly this address."""
        return address in self.servers

    def answers_for(self, address: bytes) -> bool:
        """Whether one of its virtual servers wants ARP and neighbour solicitations answered."""
        return address in self._answering

    def replace(
        self, before: VirtualServerEntry | None, after: VirtualServerEntry | None
    ) -> bytes | None:
        """One virtual server is added, replaced by one with the same key, or removed.  Returns its
        address if that came, went, or is answered for now and was not, or the other way round."""
        entry = after or before
        address = None if entry is None else entry.key.virt_ipaddr
        if address is None:
            return None
        was = address in self, self.answers_for(address)
        _count(self.servers, address, (after is not None) - (before is not None))
        if address in self and not was[0]:
            self._new.add(address)
        wanted, had = (entry is not None and entry.answer_arp for entry in (after, before))
        _count(self._answering, address, wanted - had)
        return address if was != (address in self, self.answers_for(address)) else None


def _count(counts: dict[bytes, int], address: bytes, change: int) -> None:
    if change:
        counts[address] = counts.get(address, 0) + change
        if not counts[address]:
            del counts[address]
