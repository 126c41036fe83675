# SPDX-License-Identifier: Apache-2.0
"""An address is 16 octets; IPv4 is ``::ffff:a.b.c.d`` (docs/design/0001)."""

import ipaddress
from typing import Final

IPV4_PREFIX: Final = bytes(10) + b"\xff\xff"
UNSPECIFIED: Final = bytes(16)
IPV4_UNSPECIFIED: Final = bytes(4)
IPV4_NOWHERE: Final = IPV4_PREFIX + IPV4_UNSPECIFIED  # no address: "none" is UNSPECIFIED (5)


def from_text(text: str) -> bytes:
    """Return the 16 octets of an IPv4 or IPv6 address; ValueError says what is wrong."""
    packed = ipaddress.ip_address(text).packed
    return packed if len(packed) == 16 else IPV4_PREFIX + packed


def to_text(address: bytes) -> str:
    """Return the usual spelling: dotted for IPv4, RFC 5952 for IPv6."""
    if is_ipv4(address):
        return ".".join(map(str, address[12:]))  # ipaddress takes ten times as long
    return str(ipaddress.IPv6Address(address))


def endpoint_text(address: bytes, port: int) -> str:
    """Return ``10.0.0.1:80`` or ``[fd00::1]:80``."""
    text = to_text(address)
    return f"{text}:{port}" if is_ipv4(address) else f"[{text}]:{port}"


def is_ipv4(address: bytes) -> bool:
    """Whether these 16 octets stand for an IPv4 address."""
    return address.startswith(IPV4_PREFIX)


def is_unset(address: bytes) -> bool:
    """Whether a field says "none", in either family's spelling."""
    return address in (UNSPECIFIED, IPV4_NOWHERE)


def from_ipv4(packed: bytes) -> bytes:
    """Return what 4 octets of a version-1 field mean; 0.0.0.0 is "none"."""
    return UNSPECIFIED if packed == IPV4_UNSPECIFIED else IPV4_PREFIX + packed
