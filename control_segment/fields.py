# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that a CS's configuration has, each with its rule.

Addresses stay text here and become octets in the model.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from admin.limits import PRIORITY_MAX, WEIGHT_MAX
from control_segment.methods import METHODS
from ssmb.addresses import is_link_local, is_martian, is_next_hop, names_a_host, octets_of
from ssmb.constants import MULTICAST_GROUP, MULTICAST_GROUP6


def _parsed(text: str) -> tuple[str, bytes]:
    """One host's address, as it is written and as octets."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address; give one") from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise ValueError(f"{text!r} is an IPv4-mapped address or has a zone; give a plain one")
    octets = octets_of(address)
    if not names_a_host(octets):
        raise ValueError(f"{text!r} is not the address of a single host; give one")
    return str(address), octets


def _address_that(fits: Callable[[bytes], bool], complaint: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        address, octets = _parsed(text)
        if not fits(octets):
            raise ValueError(f"{text!r} {complaint}")
        return address

    return check


_segment_address = _address_that(  # where a segment is reached, perhaps from its own machine
    lambda octets: not is_link_local(octets), "is valid on one link only; give one that is routed"
)
_hop_address = _address_that(  # where packets are sent over a link: a node, a next hop
    is_next_hop, "never leaves its host; give an address that others reach"
)
_packet_address = _address_that(  # the destination of clients' packets, the source of nodes'
    lambda octets: not is_martian(octets),
    "is not an address that packets are forwarded to or from; give another one",
)


def _listening_address(text: str) -> str:
    """An address of this machine; `0.0.0.0` and `::` stand for all of them."""
    return text if text in ("0.0.0.0", "::") else _parsed(text)[0]


def _multicast_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address; give one") from None
    if not address.is_multicast or (address.version == 6 and address.scope_id):
        raise ValueError(
            f"{text!r} is not the address of a multicast group; give one like {MULTICAST_GROUP} or"
            f" {MULTICAST_GROUP6}"
        )
    return str(address)


def _address_or_any(text: str) -> str:
    return text if text == "*" else _packet_address(text)


def _file(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be a file path; give one")
    return text


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"unknown balancing method {name!r}; use one of {', '.join(METHODS)}")
    return name


def _port_range(text: str) -> str:
    first, dash, last = text.partition("-")
    if text != "keep":
        if not (dash and first.isdecimal() and last.isdecimal()):
            raise ValueError(f"{text!r} is not a range of ports; give one like 1024-65535, or keep")
        if not 1 <= int(first) <= int(last) <= 65535:
            raise ValueError(f"{text!r}: the ports must ascend and be within 1 to 65535")
    return text


# strict: YAML's `true` is no 1, and text in quotes no number
Whole = Annotated[int, Field(strict=True)]
SegmentAddress = Annotated[str, AfterValidator(_segment_address)]
ListeningAddress = Annotated[str, AfterValidator(_listening_address)]
MulticastAddress = Annotated[str, AfterValidator(_multicast_address)]
InterfaceName = Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[^/:\s]+$")]
HopAddress = Annotated[str, AfterValidator(_hop_address)]
PacketAddress = Annotated[str, AfterValidator(_packet_address)]
AddressOrAny = Annotated[str, AfterValidator(_address_or_any)]
MethodName = Annotated[str, AfterValidator(_method)]
FilePath = Annotated[str, AfterValidator(_file)]
PortRange = Annotated[str, AfterValidator(_port_range)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Seconds = Annotated[Whole, Field(ge=1, le=65535)]
PersistenceSeconds = Annotated[Whole, Field(ge=1, le=86400)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
Weight = Annotated[Whole, Field(ge=0, le=WEIGHT_MAX)]
Priority = Annotated[Whole, Field(ge=0, le=PRIORITY_MAX)]
MinimumActive = Annotated[Whole, Field(ge=1, le=65535)]  # no pool has more nodes


class Section(BaseModel):
    """A part of the file: what it does not know is refused, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
