# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071) and its incremental change (RFC 1624).

A sum of 16-bit words with end-around carry is a number modulo 65535, and so is the whole field
read as one big integer: Python's own arithmetic does the loop.  Octets of odd length are padded
at their end, so what is passed in must begin at an even offset of what the checksum covers.
"""

from __future__ import annotations

from typing import Final

_MODULUS: Final = 0xFFFF


def word_sum(octets: bytes | bytearray | memoryview) -> int:
    """The one's complement sum of the 16-bit words, 0 to 65534."""
    value = int.from_bytes(octets, "big")
    return ((value << 8) if len(octets) & 1 else value) % _MODULUS


def compute(*pieces: bytes | bytearray | memoryview) -> int:
    """The checksum over pieces of even length (the last may be odd)."""
    return _MODULUS - sum(map(word_sum, pieces)) % _MODULUS & 0xFFFF


def is_right(*pieces: bytes | bytearray | memoryview) -> bool:
    """Whether what contains its own checksum sums to zero (65535 is the other zero)."""
    return sum(map(word_sum, pieces)) % _MODULUS == 0


def adjusted(checksum: int, old: bytes | bytearray, new: bytes | bytearray) -> int:
    """What `checksum` becomes when `old` turns into `new`; a wrong one stays wrong."""
    if old == new:
        return checksum
    total = (~checksum & 0xFFFF) + (_MODULUS - word_sum(old)) + word_sum(new)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(src: bytes, dst: bytes, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 checksums cover in addition to their own octets (RFC 9293 3.1, RFC
    8200 8.1), in a form that sums alike for both families; addresses of 4 or 16 octets."""
    return src + dst + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")
