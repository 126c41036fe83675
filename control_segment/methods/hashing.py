# SPDX-License-Identifier: Apache-2.0
"""The hash of the consistent methods: the same in every process and after every restart."""

from __future__ import annotations

from siphash24 import siphash24

# Not secret: several CSs must agree.  Python's hash() has another seed in every process.
_KEY = b"splitplane nodes"


def hash64(octets: bytes) -> int:
    """Return 64 well-mixed bits."""
    return int.from_bytes(siphash24(octets, key=_KEY).digest(), "little")
