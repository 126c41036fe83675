# SPDX-License-Identifier: Apache-2.0
"""Addresses that became this DFS's own while flows were installed.

A target refuses a flow whose client, node or next hop is this DFS (`translation.check_ends`).  One
that was entered before its node became a virtual address would send packets round until their time
to live ends, so the next pass over all flows looks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.translation import ends_of
from data_flow_segment.targets.virtual_addresses import VirtualAddresses


class BecameOurs:
    """What a pass over all flows is to look for.  To whom nothing was said before, all is new: an
    earlier agent may have died in the middle of its pass."""

    def __init__(self, virtual: VirtualAddresses, own: Callable[[], frozenset[bytes]]) -> None:
        """`own`: the addresses of this DFS's interfaces, whenever it is asked."""
        self._virtual = virtual
        self._own = own
        self._known: frozenset[bytes] = frozenset()

    def take(self) -> frozenset[bytes]:
        """Those since the last call; call it once, when a pass begins."""
        own = self._own()
        came = own - self._known | self._virtual.take_new()
        self._known = own
        return came


def leads_to(entry: FlowEntry, addresses: Container[bytes]) -> bool:
    """Whether packets of this flow would come back to this DFS, which has these addresses."""
    return any(address in addresses for _, address in ends_of(entry))
