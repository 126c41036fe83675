# SPDX-License-Identifier: Apache-2.0
"""The section `p4runtime` of a DFS's configuration: the switch, and what cannot be read from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from data_flow_segment.config.values import (
    FilePath,
    HostAddress,
    InterfaceName,
    MacText,
    NetworkText,
    PrefixedAddress,
    Section,
    Truth,
    Whole,
    mac_octets,
)
from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S
from data_flow_segment.targets.interfaces import Interface, ReversePath, Route
from data_flow_segment.targets.p4runtime.constants import FLOWS, PORT_AGENT
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions, TlsOptions
from ssmb.addresses import from_text

PORT_MAX: Final = 511  # nine bits
PORT_DROPS: Final = 511
"""v1model's mark_to_drop sends packets there: nothing that leaves by it arrives."""

FLOWS_RESERVED: Final = 16
FLOW_CAPACITY_MAX: Final = FLOWS - FLOWS_RESERVED
"""One place is for fences (FENCE_INDEX); the others are reserved, so that a target that needs more
of them does not have to refuse a configuration that was valid before."""
_ID_MAX: Final = (1 << 64) - 1
_HOST_NAME: Final = re.compile(r"[0-9A-Za-z._:-]{1,253}")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([1-9][0-9]{0,4})")


def grpc_address(text: str) -> str:
    """Where a switch's gRPC server listens; ValueError for what cannot be one."""
    if text.startswith("unix:/") and text.isprintable():
        return text
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(
            f"{text!r} is not the address of a gRPC server; give HOST:PORT (IPv6 in brackets)"
            " or unix:/path"
        )
    return text


def _switch_port(number: int) -> int:
    if number == PORT_AGENT:
        raise ValueError(f"port {PORT_AGENT} leads to the agent; give the number of another port")
    if number == PORT_DROPS:
        raise ValueError(
            f"port {PORT_DROPS} is where BMv2 drops packets; give the number of another port"
        )
    return number


def _host_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} cannot be a name in a certificate; give one")
    return text


GrpcAddress = Annotated[str, AfterValidator(grpc_address)]
HostName = Annotated[str, AfterValidator(_host_name)]
SwitchPort = Annotated[Whole, Field(ge=1, le=PORT_MAX), AfterValidator(_switch_port)]
Network = IPv4Network | IPv6Network


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path; give one")
    return path


PemFile = Annotated[FilePath, AfterValidator(_absolute)]


class TlsSection(Section):
    """How the connection to the switch is encrypted."""

    ca_file: PemFile | None = None
    certificate_file: PemFile | None = None
    key_file: PemFile | None = None
    server_name: HostName | None = None

    def options(self) -> TlsOptions:
        """The same as the target wants it."""
        return TlsOptions(self.ca_file, self.certificate_file, self.key_file, self.server_name)

    @model_validator(mode="after")
    def _is_a_pair(self) -> TlsSection:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a certificate needs its key; give both certificate_file and key_file")
        return self


class SwitchInterface(Section):
    """One port of the switch."""

    port: SwitchPort
    name: InterfaceName
    mac: MacText
    addresses: tuple[PrefixedAddress, ...] = ()
    external: Truth = False
    internal: Truth = False
    mtu: Annotated[Whole, Field(ge=1280, le=65535)] = 1500  # IPv6 needs 1280
    reverse_path: Literal["off", "loose", "strict"] = "strict"  # for external ones

    def networks(self) -> Iterator[Network]:
        """Those that it is connected to."""
        return (ip_interface(address).network for address in self.addresses)

    def table_entry(self) -> Interface:
        """The same in the target's terms."""
        return Interface(
            self.port,
            self.name,
            mac_octets(self.mac),
            tuple(from_text(address.partition("/")[0]) for address in self.addresses),
            external=self.external,
            internal=self.internal,
            mtu=self.mtu,
            reverse_path=ReversePath(self.reverse_path),
        )


class SwitchRoute(Section):
    """Where packets to a network that is not connected go next."""

    to: NetworkText
    via: HostAddress

    @model_validator(mode="after")
    def _is_of_one_family(self) -> SwitchRoute:
        if ip_network(self.to).version != ip_address(self.via).version:
            raise ValueError(
                f"{self.to} and {self.via} have different address families; give two of the same"
            )
        return self


class P4RuntimeSection(Section):
    """The switch.  P4Runtime cannot query its ports, addresses and routes."""

    address: GrpcAddress
    device_id: Annotated[Whole, Field(ge=0, le=_ID_MAX)] = 1
    election_id: Annotated[Whole, Field(ge=1, le=_ID_MAX)] = 1
    replace_program: Truth = False
    tls: TlsSection | None = None
    interfaces: Annotated[tuple[SwitchInterface, ...], Field(min_length=1)]
    routes: tuple[SwitchRoute, ...] = ()
    neighbours: dict[HostAddress, MacText] = Field(default_factory=dict)

    def interface_towards(self, address: str) -> SwitchInterface | None:
        """The interface whose network has the address; of several, the one with the narrowest
        network."""
        towards = ip_address(address)
        found = [
            (network.prefixlen, -position)
            for position, interface in enumerate(self.interfaces)
            for network in interface.networks()
            if network.version == towards.version and towards in network
        ]
        return self.interfaces[-max(found)[1]] if found else None

    def options(
        self, flow_capacity: int, half_open_timeout_s: int = HALF_OPEN_TIMEOUT_S
    ) -> P4RuntimeOptions:
        """The switch's network as tables; what its interfaces are connected to are routes too."""
        routes = [
            Route.to(str(network), interface.port)
            for interface in self.interfaces
            for network in dict.fromkeys(interface.networks())
        ]
        for route in self.routes:
            towards = self.interface_towards(route.via)
            assert towards is not None  # `_is_whole` has checked it
            routes.append(Route.to(route.to, towards.port, route.via))
        return P4RuntimeOptions(
            address=self.address,
            interfaces=tuple(interface.table_entry() for interface in self.interfaces),
            routes=tuple(routes),
            neighbours={
                from_text(address): mac_octets(mac) for address, mac in self.neighbours.items()
            },
            device_id=self.device_id,
            election_id=self.election_id,
            replace_program=self.replace_program,
            tls=None if self.tls is None else self.tls.options(),
            flow_capacity=flow_capacity,
            half_open_timeout_s=half_open_timeout_s,
        )

    @model_validator(mode="after")
    def _is_whole(self) -> P4RuntimeSection:
        for side in ("external", "internal"):
            if not any(getattr(interface, side) for interface in self.interfaces):
                raise _error(
                    ("interfaces",),
                    f"no interface is {side}; set `{side}: true` on at least one (a one-armed DFS"
                    " has one that is both)",
                )
        self._has_no_doubles()
        for position, route in enumerate(self.routes):
            if self.interface_towards(route.via) is None:
                raise _error(
                    ("routes", position, "via"),
                    f"{route.via} is in no interface's network; give a gateway that is, or the"
                    " interface an address in the gateway's network",
                )
        for address in self.neighbours:
            if self.interface_towards(address) is None:
                raise _error(
                    ("neighbours", address),
                    f"{address} is in no interface's network; a neighbour has such an address",
                )
        return self

    def _has_no_doubles(self) -> None:
        seen: dict[tuple[str, object], str] = {}
        for what, value, path in self._unique():
            if (what, value) in seen:
                raise _error(
                    path,
                    f"{what} {value} is that of {seen[what, value]}; give each its own",
                )
            seen[what, value] = _said(path)

    def _unique(self) -> Iterator[tuple[str, object, tuple[str | int, ...]]]:
        """(what it is, value, where it is) of everything that must not occur twice."""
        for position, interface in enumerate(self.interfaces):
            place = ("interfaces", position)
            yield "port", interface.port, (*place, "port")
            yield "name", interface.name, (*place, "name")
            for number, address in enumerate(interface.addresses):
                yield "address", ip_interface(address).ip, (*place, "addresses", number)
            for number, network in enumerate(interface.networks()):
                if network not in list(interface.networks())[:number]:
                    yield "network", network, (*place, "addresses", number)
        for position, route in enumerate(self.routes):
            yield "network", ip_network(route.to), ("routes", position, "to")


def _said(path: tuple[str | int, ...]) -> str:
    return f"{path[0]}[{path[1]}]"


def _error(path: tuple[str | int, ...], sentence: str) -> PydanticCustomError:
    """An error that is reported at *path*, relative to this section."""
    context: dict[str, Any] = {"at": path, "said": sentence}
    return PydanticCustomError("p4runtime", "{said}", context)
