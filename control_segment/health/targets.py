# SPDX-License-Identifier: Apache-2.0
"""What monitors look at: one target for each monitor, address and port, whoever uses it."""

from __future__ import annotations

from typing import NamedTuple

from control_segment.methods.hashing import hash64


class Target(NamedTuple):
    """One monitor's view of one place."""

    monitor: str  # its name
    address: str
    port: int  # 0: none is asked, and the node has none


def fingerprint(target: Target) -> int:
    """64 bits, the same at every CS of a group: monitors have names, and nodes addresses."""
    return hash64(f"{target.monitor} {target.address} {target.port}".encode())
