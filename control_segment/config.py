# SPDX-License-Identifier: Apache-2.0
"""The configuration of a CS as it is in YAML; every rule that a file can break is checked here.

Messages name what is wrong and what would be right.  `splitplane.config` adds the place in the
file, from the error's location, and from `at` where a rule spans several places.  Addresses stay
text here and become octets in the model.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from admin.answers import WEIGHT_MAX
from control_segment.methods import METHODS
from control_segment.references import check_persistence_groups, check_references, family, wrong
from control_segment.team_rules import check_teams
from csmb.constants import CS_ID_MAX, VS_TOTAL_MAX
from ssmb.addresses import from_text, is_link_local, is_martian, is_next_hop, names_a_host
from ssmb.constants import (
    FLOW_BUFFER_MAX,
    MULTICAST_GROUP,
    MULTICAST_GROUP6,
    QUERY_RETRY_MS,
    SSMB_PORT,
    STATS_INTERVAL_S,
    TCP_IDLE_TIMEOUT_S,
    UDP_IDLE_TIMEOUT_S,
)


def _parsed(text: str) -> tuple[str, bytes]:
    """One host's address, as it is written and as octets."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address; give one") from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise ValueError(f"{text!r} is an IPv4-mapped address or has a zone; give a plain one")
    octets = from_text(text)
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
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
Weight = Annotated[Whole, Field(ge=0, le=WEIGHT_MAX)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MulticastConfig(_Model):
    """The multicast group with which the CSs of a group share their state (11.2)."""

    address: MulticastAddress
    port: Port = SSMB_PORT
    interface: InterfaceName | None = None  # None: the one with this CS's SSMB address
    ttl: Annotated[Whole, Field(ge=1, le=255)] = 1  # routers on the way, and one more


class SsmbConfig(_Model):
    """Where this CS takes SSMB datagrams."""

    address: SegmentAddress
    port: Port = SSMB_PORT
    multicast: MulticastConfig | None = None  # None: the DFSs copy for the standbys

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        group = self.multicast
        if group is not None and family(group.address) != family(self.address):
            raise wrong(
                f"the multicast group {group.address} is not of the address family of"
                f" {self.address}; give an IPv{family(self.address)} group",
                "multicast", "address",
            )  # fmt: skip
        return self


class DataFlowSegmentAddress(_Model):
    """Where a DFS listens for CSMB, and the DFSs that it belongs to."""

    address: SegmentAddress
    port: Port = SSMB_PORT
    # DFSs of one name hold each other's flows.  Of a pair one member at a time has the virtual
    # addresses; with multipath routers send to all of them
    pair: Name | None = None
    multipath: Name | None = None

    @model_validator(mode="after")
    def _check_team(self) -> Self:
        if self.pair is not None and self.multipath is not None:
            raise wrong("give pair or multipath, not both", "multipath")
        return self


class ControlSegmentAddress(_Model):
    """Another CS of the group: its id, and where it takes SSMB datagrams."""

    segment_id: Annotated[Whole, Field(ge=1, le=CS_ID_MAX)]
    address: SegmentAddress
    port: Port = SSMB_PORT


class RedundancyConfig(_Model):
    """When a CS takes over from another one of its group (docs/design/0009)."""

    heartbeat_ms: Annotated[Whole, Field(ge=5, le=10_000)] = 50
    # Since when no CS is active, by the word of every DFS, before a standby claims
    vacant_ms: Annotated[Whole, Field(ge=10, le=60_000)] = 150
    # Without a heartbeat, before a CS is taken for dead although its connections stand
    silent_ms: Annotated[Whole, Field(ge=20, le=60_000)] = 500
    # As a complete standby, before the CS with `active: true` takes the role back; None: never
    preempt_s: Annotated[Whole, Field(ge=1, le=86400)] | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for field in ("vacant_ms", "silent_ms"):
            least = 3 * self.heartbeat_ms
            if getattr(self, field) < least:
                raise wrong(
                    f"redundancy: {field} {getattr(self, field)} is less than three heartbeats of"
                    f" {self.heartbeat_ms} ms; give at least {least}",
                    field,
                )
        return self


class SettingsConfig(_Model):
    """Times and sizes."""

    hello_interval_s: Annotated[Whole, Field(ge=1, le=3600)] = 5
    tcp_idle_timeout_s: Seconds = TCP_IDLE_TIMEOUT_S
    udp_idle_timeout_s: Seconds = UDP_IDLE_TIMEOUT_S
    query_timeout_ms: Annotated[Whole, Field(ge=1, le=60000)] = QUERY_RETRY_MS[0]
    stats_interval_s: Annotated[Whole, Field(ge=0, le=65535)] = STATS_INTERVAL_S
    flow_buffer_max: Annotated[Whole, Field(ge=1500, le=1 << 24)] = FLOW_BUFFER_MAX
    # How long a TCP session without a DFS flow is remembered: RFC 5382's least for established ones
    session_timeout_s: Annotated[Whole, Field(ge=1, le=86400 * 7)] = 7440
    flow_capacity: Annotated[Whole, Field(ge=1, le=1 << 26)] = 1 << 20
    # How long a draining node keeps its UDP flows, which have no end of their own; 0: for ever
    drain_timeout_s: Annotated[Whole, Field(ge=0, le=86400)] = 300
    grants: bool = True  # DFSs that can get decisions ahead


class NodeConfig(_Model):
    """One server."""

    name: Name
    address: HopAddress
    port: Port | None = None
    weight: Weight = 1
    connection_limit: Annotated[Whole, Field(ge=0)] = 0
    state: Literal["enabled", "draining", "down"] = "enabled"


class PoolConfig(_Model):
    """Servers that are balanced together."""

    name: Name
    method: MethodName = "round_robin"
    # Clients also talk to the nodes themselves, on ways that pass the DFS in one direction only
    reached_directly: bool = False
    reset_when_down: bool = False  # living TCP connections of a node that is set down are reset
    nodes: tuple[NodeConfig, ...] = ()

    @model_validator(mode="after")
    def _check_nodes(self) -> Self:
        names = [node.name for node in self.nodes]
        places = [f"{node.address} port {node.port or 'kept'}" for node in self.nodes]
        _unique(f"pool {self.name}: node name", names, "nodes", "name")
        _unique(f"pool {self.name}: node address and port", places, "nodes", "address")
        return self


class SourceTranslationConfig(_Model):
    """Sessions reach the node from this address."""

    address: PacketAddress
    ports: PortRange = "1024-65535"


class PersistenceConfig(_Model):
    """Clients come back to their node."""

    kind: Literal["source_address"]
    timeout_s: Annotated[Whole, Field(ge=1, le=86400)] = 300
    group: Name | None = None  # virtual servers of one group share what they remember


class VirtualServerConfig(_Model):
    """What clients connect to."""

    name: Name
    address: AddressOrAny
    port: Port | Literal["*"]
    protocol: Literal["tcp", "udp"]
    pool: Name
    forward_mode: Literal["nat", "l2", "tunnel"] = "nat"
    translate_address: bool | None = None  # None: nat yes, l2 and tunnel no
    translate_port: bool | None = None
    source_translation: SourceTranslationConfig | PacketAddress | None = None
    next_hop: HopAddress | None = None  # None: by the routing table
    connection_limit: Annotated[Whole, Field(ge=0)] = 0
    # What a client meets where this limit, the nodes' or that of source ports leaves no place
    at_limit: Literal["drop", "reset", "wait"] = "reset"
    limit_wait_s: Annotated[Whole, Field(ge=1, le=60)] = 5
    maintenance: bool = False
    persistence: PersistenceConfig | None = None
    idle_timeout_s: Annotated[Whole, Field(ge=0, le=65535)] = 0
    answer_arp: bool = True

    @property
    def key(self) -> tuple[str, int | str, str]:
        """What no two virtual servers may share."""
        return self.address, self.port, self.protocol

    @property
    def translates_address(self) -> bool:
        """Whether packets get the node's address."""
        return (
            self.forward_mode == "nat" if self.translate_address is None else self.translate_address
        )

    @property
    def translates_port(self) -> bool:
        """Whether packets get the node's port."""
        return self.forward_mode == "nat" if self.translate_port is None else self.translate_port

    @property
    def source(self) -> SourceTranslationConfig | None:
        """The source translation, in its long form."""
        if isinstance(self.source_translation, str):
            return SourceTranslationConfig(address=self.source_translation)
        return self.source_translation

    @model_validator(mode="after")
    def _check_modes(self) -> Self:
        where = f"virtual server {self.name}"
        if self.forward_mode != "nat":
            for field in ("translate_address", "translate_port"):
                if getattr(self, field):
                    raise wrong(
                        f"{where}: {field} needs forward_mode nat; with {self.forward_mode} "
                        "the packet reaches the node unchanged",
                        field,
                    )
            if self.source_translation is not None:
                raise wrong(
                    f"{where}: source_translation needs forward_mode nat", "source_translation"
                )
        for field, text in (
            ("next_hop", self.next_hop),
            ("source_translation", self.source.address if self.source else None),
        ):
            if text is not None and self.address != "*" and family(text) != family(self.address):
                raise wrong(
                    f"{where}: {field} {text} is not of the address family of {self.address}", field
                )
        return self


class ControlSegmentConfig(_Model):
    """The whole file."""

    segment_id: Annotated[Whole, Field(ge=1, le=CS_ID_MAX)]
    group_id: Annotated[Whole, Field(ge=0, le=65535)] = 1
    active: bool = True
    ssmb: SsmbConfig
    key_file: FilePath | None = None
    laboratory_no_authentication: bool = False
    admin_socket: FilePath | None = None
    state_file: FilePath | None = None  # None: in $STATE_DIRECTORY, or no file
    data_flow_segments: Annotated[tuple[DataFlowSegmentAddress, ...], Field(min_length=1)]
    control_segments: Annotated[tuple[ControlSegmentAddress, ...], Field(max_length=16)] = ()
    redundancy: RedundancyConfig = RedundancyConfig()
    settings: SettingsConfig = SettingsConfig()
    pools: tuple[PoolConfig, ...] = ()
    virtual_servers: Annotated[tuple[VirtualServerConfig, ...], Field(max_length=VS_TOTAL_MAX)] = ()

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.laboratory_no_authentication and self.key_file is not None:
            raise wrong("give key_file or laboratory_no_authentication, not both", "key_file")
        if not self.laboratory_no_authentication and self.key_file is None:
            raise ValueError(
                "key_file is missing; add it (or laboratory_no_authentication: true, in a lab)"
            )
        return self

    @model_validator(mode="after")
    def _check_multicast(self) -> Self:
        if self.ssmb.multicast is None:
            return self
        if self.laboratory_no_authentication:
            raise wrong(
                "multicast needs key_file: its datagrams are always sealed; give a key, or remove"
                " multicast",
                "ssmb", "multicast",
            )  # fmt: skip
        if not self.control_segments:
            raise wrong(
                "multicast is for several CSs; name the others in control_segments, or remove it",
                "ssmb", "multicast",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        servers = self.virtual_servers
        _unique("pool", [pool.name for pool in self.pools], "pools", "name")
        _unique("virtual server", [server.name for server in servers], "virtual_servers", "name")
        keys = [" ".join(map(str, server.key)) for server in servers]
        what = "virtual server address, port and protocol"
        _unique(what, keys, "virtual_servers", "address")
        segments = [f"{dfs.address} {dfs.port}" for dfs in self.data_flow_segments]
        _unique("data flow segment", segments, "data_flow_segments", "address")
        others = self.control_segments
        ids = [str(each.segment_id) for each in others]
        _unique("control segment", ids, "control_segments", "segment_id")
        places = [f"{each.address} {each.port}" for each in others]
        _unique("control segment address", places, "control_segments", "address")
        for index, each in enumerate(others):
            if each.segment_id == self.segment_id:
                raise wrong(
                    f"control segment {each.segment_id} is this one; name the others of the group",
                    "control_segments", index, "segment_id",
                )  # fmt: skip
            if (each.address, each.port) == (self.ssmb.address, self.ssmb.port):
                raise wrong(
                    f"control segment {each.segment_id} has the address of this one"
                    f" ({each.address} port {each.port}); give its own",
                    "control_segments", index, "address",
                )  # fmt: skip
            if family(each.address) != family(self.ssmb.address):
                raise wrong(
                    f"control segment {each.segment_id} has an IPv{family(each.address)} address,"
                    f" and this one an IPv{family(self.ssmb.address)} one (ssmb.address); give both"
                    " the same family",
                    "control_segments", index, "address",
                )  # fmt: skip
        check_teams(self.data_flow_segments)
        return self

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        check_references(self.virtual_servers, self.pools)
        check_persistence_groups(self.virtual_servers)
        return self


def _unique(what: str, names: list[str], *at: str) -> None:
    """*at*: the list that the names are of, and the field of its items to point at."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise wrong(f"{what} {name!r} is given twice", at[0], index, *at[1:])
        seen.add(name)
