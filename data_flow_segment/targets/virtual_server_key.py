# SPDX-License-Identifier: Apache-2.0
"""What a virtual server is found by (wire protocol 8.3)."""

from __future__ import annotations

from typing import NamedTuple


class VirtualServerKey(NamedTuple):
    """What a packet's destination is matched against; None is the wildcard (8.3)."""

    virt_ipaddr: bytes | None
    virt_port: int | None
    protocol: int
