# SPDX-License-Identifier: Apache-2.0
"""The section `p4runtime` of a DFS's configuration: the switch, and what cannot be read from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
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
from data_flow_segment.targets.p4runtime.options import (
    P4RuntimeOptions,
    ProgramOptions,
    TlsOptions,
)
from ssmb.addresses import from_text

PORT_MAX: Final = 65535  # what the program's actions hold
PORT_LAST: Final = 509
"""Of splitplane's own program, whose ports have nine bits: 510 leads to the agent, and what leaves
by 511 is dropped (v1model's mark_to_drop)."""

FLOWS_RESERVED: Final = 16
FLOW_CAPACITY_MAX: Final = FLOWS - FLOWS_RESERVED
"""One place is for fences (FENCE_INDEX); the others are reserved, so that a target that needs more
of them does not have to refuse a configuration that was valid before."""
_ID_MAX: Final = (1 << 64) - 1
_PORT_NAME: Final = re.compile(r"[A-Za-z][0-9A-Za-z._:/-]{0,63}")
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


def _is_port_number(value: object) -> bool:
    return type(value) is int and 1 <= value <= PORT_MAX


def _port_number(value: object) -> object:
    if not _is_port_number(value):
        raise ValueError(f"{value!r} is not the number of a port; give 1 to {PORT_MAX}")
    return value


def _port(value: object) -> object:
    if isinstance(value, str) and _PORT_NAME.fullmatch(value) is not None:
        return value
    if _is_port_number(value):
        return value
    raise ValueError(
        f"{value!r} is not a port; give its number, 1 to {PORT_MAX}, or a name of `port_names`"
    )


def _port_name(text: str) -> str:
    if _PORT_NAME.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} cannot name a port; begin with a letter, and use letters, digits and ._:/-"
        )
    return text


def _host_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} cannot be a name in a certificate; give one")
    return text


GrpcAddress = Annotated[str, AfterValidator(grpc_address)]
HostName = Annotated[str, AfterValidator(_host_name)]
PortNumber = Annotated[int, BeforeValidator(_port_number)]
PortName = Annotated[str, AfterValidator(_port_name)]
SwitchPort = Annotated[int | str, BeforeValidator(_port)]
Network = IPv4Network | IPv6Network


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path; give one")
    return path


AbsoluteFile = Annotated[FilePath, AfterValidator(_absolute)]


class TlsSection(Section):
    """How the connection to the switch is encrypted."""

    ca_file: AbsoluteFile | None = None
    certificate_file: AbsoluteFile | None = None
    key_file: AbsoluteFile | None = None
    server_name: HostName | None = None

    def options(self) -> TlsOptions:
        """The same as the target wants it."""
        return TlsOptions(self.ca_file, self.certificate_file, self.key_file, self.server_name)

    @model_validator(mode="after")
    def _is_a_pair(self) -> TlsSection:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a certificate needs its key; give both certificate_file and key_file")
        return self


class ProgramSection(Section):
    """The compiled program of a switch that is not BMv2."""

    p4info_file: AbsoluteFile
    device_config_file: AbsoluteFile | None = None
    loaded: Truth = False
    agent_port: PortNumber = PORT_AGENT

    def options(self) -> ProgramOptions:
        """The same as the target wants it."""
        return ProgramOptions(self.p4info_file, self.device_config_file, self.agent_port)

    @model_validator(mode="after")
    def _is_pushed_or_loaded(self) -> ProgramSection:
        if self.loaded == (self.device_config_file is not None):
            raise ValueError(
                "give device_config_file, for a program that the agent installs, or `loaded: true`,"
                " for one that the switch has"
            )
        return self


class SwitchInterface(Section):
    """One port of the switch, or several that lead to one network."""

    port: SwitchPort | None = None
    ports: Annotated[tuple[SwitchPort, ...], Field(min_length=1)] | None = None
    name: InterfaceName
    mac: MacText
    addresses: tuple[PrefixedAddress, ...] = ()
    external: Truth = False
    internal: Truth = False
    mtu: Annotated[Whole, Field(ge=1280, le=65535)] = 1500  # IPv6 needs 1280
    reverse_path: Literal["off", "loose", "strict"] = "strict"  # for external ones

    @model_validator(mode="after")
    def _has_ports(self) -> SwitchInterface:
        if (self.port is None) == (self.ports is None):
            raise ValueError("give `port`, or `ports` for several that lead to one network")
        return self

    def places(self) -> Iterator[tuple[int | str, tuple[str | int, ...]]]:
        """Each port as it is given, and where."""
        if self.port is not None:
            yield self.port, ("port",)
        for position, port in enumerate(self.ports or ()):
            yield port, ("ports", position)

    def networks(self) -> Iterator[Network]:
        """Those that it is connected to."""
        return (ip_interface(address).network for address in self.addresses)

    def table_entry(self, numbers: Sequence[int]) -> Interface:
        """The same in the target's terms, with the numbers of its ports."""
        return Interface(
            numbers[0],
            self.name,
            mac_octets(self.mac),
            tuple(from_text(address.partition("/")[0]) for address in self.addresses),
            external=self.external,
            internal=self.internal,
            mtu=self.mtu,
            reverse_path=ReversePath(self.reverse_path),
            more_ports=tuple(numbers[1:]),
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
    program: ProgramSection | None = None
    port_names: dict[PortName, PortNumber] = Field(default_factory=dict)
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
            Route.to(str(network), self._numbers(interface)[0])
            for interface in self.interfaces
            for network in dict.fromkeys(interface.networks())
        ]
        for route in self.routes:
            towards = self.interface_towards(route.via)
            assert towards is not None  # `_is_whole` has checked it
            routes.append(Route.to(route.to, self._numbers(towards)[0], route.via))
        return P4RuntimeOptions(
            address=self.address,
            interfaces=tuple(
                interface.table_entry(self._numbers(interface)) for interface in self.interfaces
            ),
            routes=tuple(routes),
            neighbours={
                from_text(address): mac_octets(mac) for address, mac in self.neighbours.items()
            },
            device_id=self.device_id,
            election_id=self.election_id,
            replace_program=self.replace_program,
            tls=None if self.tls is None else self.tls.options(),
            program=None if self.program is None else self.program.options(),
            flow_capacity=flow_capacity,
            half_open_timeout_s=half_open_timeout_s,
        )

    def _number(self, port: int | str) -> int:
        return port if isinstance(port, int) else self.port_names[port]

    def _numbers(self, interface: SwitchInterface) -> list[int]:
        return [self._number(port) for port, _ in interface.places()]

    @model_validator(mode="after")
    def _is_whole(self) -> P4RuntimeSection:
        for side in ("external", "internal"):
            if not any(getattr(interface, side) for interface in self.interfaces):
                raise _error(
                    ("interfaces",),
                    f"no interface is {side}; set `{side}: true` on at least one (a one-armed DFS"
                    " has one that is both)",
                )
        self._has_ports()
        self._has_no_doubles()
        for position, route in enumerate(self.routes):
            if self.interface_towards(route.via) is None:
                raise _error(
                    ("routes", position, "via"),
                    f"{route.via} is in no interface's network; give a gateway that is, or the"
                    " interface an address in the gateway's network",
                )
        for address in self.neighbours:
            towards = self.interface_towards(address)
            if towards is None:
                raise _error(
                    ("neighbours", address),
                    f"{address} is in no interface's network; a neighbour has such an address",
                )
            if len(list(towards.places())) > 1:
                raise _error(
                    ("neighbours", address),
                    f"{address} may be behind each port of interface {towards.name}; remove it, so"
                    " that the agent finds it",
                )
        return self

    def _has_ports(self) -> None:
        """That there are and that may be used."""
        for position, interface in enumerate(self.interfaces):
            for port, place in interface.places():
                path = ("interfaces", position, *place)
                if isinstance(port, str) and port not in self.port_names:
                    raise _error(path, f"{port} is not in `port_names`; add it with its number")
                self._may_be_used(self._number(port), path)

    def _may_be_used(self, number: int, path: tuple[str | int, ...]) -> None:
        if number == (PORT_AGENT if self.program is None else self.program.agent_port):
            raise _error(path, f"port {number} leads to the agent; give another one")
        if self.program is None and number > PORT_LAST:
            raise _error(
                path,
                f"port {number} cannot be used with splitplane's program, whose ports have nine"
                f" bits; give 1 to {PORT_LAST}",
            )

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
            for port, of in interface.places():
                yield "port", self._number(port), (*place, *of)
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
