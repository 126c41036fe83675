# SPDX-License-Identifier: Apache-2.0
"""What a virtual server is found by (wire protocol 8.3)."""

from __future__ import annotations

from typing import NamedTuple

from ssmb.addresses import UNSPECIFIED


class VirtualServerKey(NamedTuple):
    """What a packet's destination is matched against; None is the wildcard (8.3)."""

    virt_ipaddr: bytes | None
    virt_port: int | None
    protocol: int

    @classmethod
    def from_wire(cls, virt_ipaddr: bytes, virt_port: int, protocol: int) -> VirtualServerKey:
        """Of fields in which zero is the wildcard, as in GRANT (13.3) and in a target's tables."""
        address = None if virt_ipaddr == UNSPECIFIED else virt_ipaddr
        return cls(address, virt_port or None, protocol)

    def to_wire(self) -> tuple[bytes, int, int]:
        """The same fields."""
        return self.virt_ipaddr or UNSPECIFIED, self.virt_port or 0, self.protocol
