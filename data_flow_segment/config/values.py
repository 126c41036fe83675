# SPDX-License-Identifier: Apache-2.0
"""What the values of a DFS's configuration may be."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ssmb.addresses import from_text, is_link_local, is_next_hop, is_unset, names_a_host

INTERFACE_NAME_MAX = 15  # IFNAMSIZ less its terminating zero
_MAC_OCTETS = 6


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address; give one") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4-mapped address; give {address.ipv4_mapped}")
    return text


def _listening(text: str) -> str:
    """What a socket of this machine is bound to; `0.0.0.0` and `::` stand for all of its
    addresses."""
    octets = from_text(_address(text).partition("%")[0])
    if not (is_unset(octets) or names_a_host(octets)):
        raise ValueError(f"{text!r} is not an address of this machine; give one, or 0.0.0.0 or ::")
    return text


def _announced(text: str) -> str:
    """Where others send to, who are perhaps on this machine."""
    octets = from_text(_address(text).partition("%")[0])
    if not names_a_host(octets) or is_link_local(octets):
        raise ValueError(f"{text!r} is announced to the CSs: give one address of this machine")
    return text


def _host(text: str) -> str:
    if "%" in _address(text) or not is_next_hop(from_text(text)):
        raise ValueError(f"{text!r} is not the address of a single host; give one")
    return text


def _prefixed(text: str) -> str:
    """An interface's address, which must include its prefix length."""
    try:
        if "/" not in text:
            raise ValueError
        _host(str(ipaddress.ip_interface(text).ip))
    except ValueError:
        raise ValueError(
            f"{text!r} is not the address of a host with its prefix length; give one like"
            " 10.1.1.1/24 or 2001:db8::1/64"
        ) from None
    return text


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        wrong = "has bits set after its prefix" if "host bits" in str(error) else "is no network"
        raise ValueError(f"{text!r} {wrong}; give one like 10.1.0.0/16 or ::/0") from None
    return text


def mac_octets(text: str) -> bytes:
    """The octets of a MAC address; ValueError if it is not one."""
    octets = bytes.fromhex(text.replace(":", ""))
    if len(octets) != _MAC_OCTETS or octets.hex(":") != text.lower():
        raise ValueError
    return octets


def _mac(text: str) -> str:
    try:
        octets = mac_octets(text)
        if octets[0] & 1 or not any(octets):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'{text!r} is not the MAC address of one interface; give one like "02:00:00:00:00:01"'
        ) from None
    return text


def _file(path: Path) -> Path:
    if path == Path() or not str(path).isprintable():
        raise ValueError(f"{str(path)!r} cannot be a file path; give one")
    return path


def _interface(name: str) -> str:
    if not 0 < len(name) <= INTERFACE_NAME_MAX or "/" in name or name.split() != [name]:
        raise ValueError(f"{name!r} cannot be the name of an interface")
    return name


ListeningAddress = Annotated[str, AfterValidator(_listening)]
AnnouncedAddress = Annotated[str, AfterValidator(_announced)]
HostAddress = Annotated[str, AfterValidator(_host)]
PrefixedAddress = Annotated[str, AfterValidator(_prefixed)]
NetworkText = Annotated[str, AfterValidator(_network)]
MacText = Annotated[str, AfterValidator(_mac)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
FilePath = Annotated[Path, AfterValidator(_file)]
# strict: YAML's `true` is not 1, and quoted text is not a number
Whole = Annotated[int, Field(strict=True)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Truth = Annotated[bool, Field(strict=True)]


class Section(BaseModel):
    """A mapping in the file; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
