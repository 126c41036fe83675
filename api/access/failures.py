# SPDX-License-Identifier: Apache-2.0
"""How often strangers from one address have failed (pure).

Each address has a bucket of ALLOWED failures that fills up again, one per REFILL_S.  There are
buckets for ADDRESSES_MAX addresses: who has a bucket least emptied loses it to a new one, so that
nobody who is refused is forgotten for those who come once.
"""

from __future__ import annotations

import ipaddress
from typing import Final

ALLOWED: Final = 10
REFILL_S: Final = 6.0
ADDRESSES_MAX: Final = 4096
_LOOKED_AT: Final = 8  # buckets that one new address may displace one of: constant cost


class Failures:
    """`now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}  # when the bucket is full again; oldest entry first

    def wait_s(self, address: str, now: float) -> float:
        """How long that address is refused; 0: it is not."""
        full_at = self._full_at.get(_network(address), now)
        return max(0.0, full_at - now - (ALLOWED - 1) * REFILL_S)

    def add(self, address: str, now: float) -> None:
        """It failed."""
        key = _network(address)
        full_at = max(self._full_at.pop(key, now), now) + REFILL_S
        if len(self._full_at) >= ADDRESSES_MAX:
            self._displace()
        self._full_at[key] = min(full_at, now + ALLOWED * REFILL_S)

    def _displace(self) -> None:
        oldest = [key for key, _ in zip(self._full_at, range(_LOOKED_AT), strict=False)]
        del self._full_at[min(oldest, key=self._full_at.__getitem__)]

    def __len__(self) -> int:
        return len(self._full_at)


def _network(address: str) -> str:
    """An IPv6 host has a /64 of its own, as a rule."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((parsed.packed[:8] + bytes(8), 64)))
    return address
