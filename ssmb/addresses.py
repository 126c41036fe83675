# SPDX-License-Identifier: Apache-2.0
"""An address is 16 octets; IPv4 is ``::ffff:a.b.c.d`` (docs/design/0001)."""

import ipaddress
from typing import Final

IPV4_PREFIX: Final = bytes(10) + b"\xff\xff"
UNSPECIFIED: Final = bytes(16)
IPV4_UNSPECIFIED: Final = bytes(4)
MULTICAST_V6: Final = 0xFF
_LOOPBACK_V6: Final = bytes(15) + b"\x01"
_LOOPBACK_V4, _MULTICAST_V4 = 127, 224  # from 224 on: multicast, reserved, broadcast
_LINK_LOCAL: Final = 0xFE80 >> 6  # fe80::/10
_TOP_V4: Final = len(IPV4_PREFIX)  # where an IPv4 address begins
V4_TOP: Final = slice(_TOP_V4 + 1)  # the octets that say which /8 it is in
NO_HOPS_V4: Final = frozenset(
    IPV4_PREFIX + bytes((top,)) for top in (0, _LOOPBACK_V4, *range(_MULTICAST_V4, 256))
)
NO_HOPS_V6: Final = frozenset((UNSPECIFIED, _LOOPBACK_V6))
IPV4_NOWHERE: Final = IPV4_PREFIX + IPV4_UNSPECIFIED  # no address: "none" is UNSPECIFIED (5)


def from_text(text: str) -> bytes:
    """Return the 16 octets of an IPv4 or IPv6 address; ValueError says what is wrong."""
    try:
        packed = bytes(map(int, text.split(".")))
    except ValueError:
        packed = b""
    # ipaddress takes four times as long; 100,000 nodes have addresses
    if len(packed) == 4 and ".".join(map(str, packed)) == text:
        return IPV4_PREFIX + packed
    return octets_of(ipaddress.ip_address(text))


def octets_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """Return its 16 octets."""
    packed = address.packed
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


def names_a_host(address: bytes) -> bool:
    """Whether a host may have it: not 0.0.0.0/8, 224/4, 240/4, ::, ff00::/8 (RFC 1122 3.2.1.3)."""
    if address.startswith(IPV4_PREFIX):
        return 0 < address[_TOP_V4] < _MULTICAST_V4
    return address[0] != MULTICAST_V6 and address != UNSPECIFIED


def is_loopback(address: bytes) -> bool:
    """Whether it never leaves its host: 127/8, ::1."""
    if address.startswith(IPV4_PREFIX):
        return address[_TOP_V4] == _LOOPBACK_V4
    return address == _LOOPBACK_V6


def is_link_local(address: bytes) -> bool:
    """Whether it names nobody without its link: fe80::/10.  IPv4's 169.254/16 needs no zone, and
    virtual servers and nodes may have such addresses."""
    return int.from_bytes(address[:2], "big") >> 6 == _LINK_LOCAL


def is_next_hop(address: bytes) -> bool:
    """Whether a packet can be sent to it over a link."""
    is_none = address[V4_TOP] in NO_HOPS_V4 or address in NO_HOPS_V6
    return not is_none and address[0] != MULTICAST_V6


def is_martian(address: bytes) -> bool:
    """Whether no router forwards from or to it: RFC 1812 5.3.7, RFC 4291 2.5."""
    return not names_a_host(address) or is_loopback(address) or is_link_local(address)
