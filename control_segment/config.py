# SPDX-License-Identifier: Apache-2.0
"""The configuration of a CS as it is in YAML; every rule that a file can break is checked here.

Messages name what is wrong and what would be right.  `splitplane.config` adds the place in the
file, from the error's location, and from `at` where a rule spans several places.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from admin.alerts.config import AlertList
from admin.answers import METRICS_SERIES_MAX
from admin.link.config import ApiLinkConfig
from control_segment.content.config import (
    APP_LIMIT_MAX,
    PLAIN,
    RULES_MAX,
    Application,
    Kind,
    PersistenceConfig,
    check_content,
)
from control_segment.content.rule_config import RuleConfig
from control_segment.fields import (
    AddressOrAny,
    FilePath,
    HopAddress,
    InterfaceName,
    ListeningAddress,
    MethodName,
    MinimumActive,
    MulticastAddress,
    Name,
    PacketAddress,
    Port,
    PortRange,
    Priority,
    Seconds,
    Section,
    SegmentAddress,
    Weight,
    Whole,
)
from control_segment.health.config import MonitorConfig
from control_segment.outlier_config import OutlierConfig
from control_segment.references import check_folders, check_group, family, unique, wrong
from control_segment.team_rules import check_teams
from csmb.constants import CS_ID_MAX, VS_TOTAL_MAX
from ssmb.constants import (
    FLOW_BUFFER_MAX,
    QUERY_RETRY_MS,
    SSMB_PORT,
    STATS_INTERVAL_S,
    TCP_IDLE_TIMEOUT_S,
    UDP_IDLE_TIMEOUT_S,
)


class MulticastConfig(Section):
    """The multicast group with which the CSs of a group share their state (11.2)."""

    address: MulticastAddress
    port: Port = SSMB_PORT
    interface: InterfaceName | None = None  # None: the one with this CS's SSMB address
    ttl: Annotated[Whole, Field(ge=1, le=255)] = 1  # routers on the way, and one more


class SsmbConfig(Section):
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


class MetricsConfig(Section):
    """Where Prometheus reads; whoever reaches it may."""

    address: ListeningAddress = "127.0.0.1"
    port: Port
    series_max: Annotated[Whole, Field(ge=0)] = METRICS_SERIES_MAX


class DataFlowSegmentAddress(Section):
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


class ControlSegmentAddress(Section):
    """Another CS of the group: its id, and where it takes SSMB datagrams."""

    segment_id: Annotated[Whole, Field(ge=1, le=CS_ID_MAX)]
    address: SegmentAddress
    port: Port = SSMB_PORT


class RedundancyConfig(Section):
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


class SettingsConfig(Section):
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


class NodeConfig(Section):
    """One server."""

    name: Name
    address: HopAddress
    port: Port | None = None
    weight: Weight = 1
    connection_limit: Annotated[Whole, Field(ge=0)] = 0
    state: Literal["enabled", "draining", "down"] = "enabled"
    priority: Priority = 0  # the highest ones are preferred


class PoolConfig(Section):
    """Servers that are balanced together."""

    name: Name
    method: MethodName = "round_robin"
    # Clients also talk to the nodes themselves, on ways that pass the DFS in one direction only
    reached_directly: bool = False
    reset_when_down: bool = False  # living TCP connections of a node that is set down are reset
    # Nodes that must be able to take sessions before lower priorities are left in reserve
    minimum_active: MinimumActive = 1
    monitors: tuple[Name, ...] = ()  # all of which a node must pass; none: it is taken for up
    reset_when_dead: bool = False  # as reset_when_down, for a node that a monitor finds down
    # Over which the share of a node that came back up rises to all of it; 0: it has all at once
    slow_start_s: Annotated[Whole, Field(ge=0, le=3600)] = 0
    outliers: OutlierConfig | None = None  # None: no node is ejected
    nodes: tuple[NodeConfig, ...] = ()

    @model_validator(mode="after")
    def _check_nodes(self) -> Self:
        if self.outliers is not None:
            self.outliers.check_method(self.name, self.method)
        names = [node.name for node in self.nodes]
        places = [f"{node.address} port {node.port or 'kept'}" for node in self.nodes]
        unique(f"pool {self.name}: node name", names, "nodes", "name")
        unique(f"pool {self.name}: node address and port", places, "nodes", "address")
        for index, name in enumerate(self.monitors):
            if name in self.monitors[:index]:
                raise wrong(f"pool {self.name}: monitor {name!r} is given twice", "monitors", index)
        return self


class SourceTranslationConfig(Section):
    """Sessions reach the node from this address."""

    address: PacketAddress
    ports: PortRange = "1024-65535"


class VirtualServerConfig(Section):
    """What clients connect to."""

    name: Name
    address: AddressOrAny
    port: Port | Literal["*"]
    protocol: Literal["tcp", "udp"]
    kind: Kind = PLAIN  # otherwise the node is chosen by what the client says first
    pool: Name
    fallback_pool: Name | None = None  # new sessions go there while no node of `pool` takes any
    # The first that holds decides; of kind http.  `pool` is for requests for which none does
    rules: Annotated[tuple[RuleConfig, ...], Field(max_length=RULES_MAX)] = ()
    hash: Literal["url", "said"] | None = None  # by it, and not by the pool's method
    application: Application | None = None  # whose plug-in reads what clients say
    app_limit: Annotated[Whole, Field(ge=0, le=APP_LIMIT_MAX)] = 0  # octets; 0: 16384
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
    def pool_names(self) -> tuple[str, ...]:
        """The pools that it names, each once: its own first."""
        if not self.rules:
            return (self.pool,) if self.fallback_pool is None else (self.pool, self.fallback_pool)
        return tuple(dict.fromkeys(name for name, _ in self.pool_places))

    @property
    def pool_places(self) -> tuple[tuple[str, tuple[str | int, ...]], ...]:
        """The pools that it names, each with where it does."""
        own: tuple[tuple[str, tuple[str | int, ...]], ...] = ((self.pool, ("pool",)),)
        if self.fallback_pool is not None:
            own += ((self.fallback_pool, ("fallback_pool",)),)
        if not self.rules:
            return own
        return own + tuple(
            (pool, ("rules", index, place))
            for index, rule in enumerate(self.rules)
            for pool, place in ((rule.pool, "pool"), (rule.fallback_pool, "fallback_pool"))
            if pool is not None
        )

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
    def _check_kind(self) -> Self:
        check_content(self)
        return self

    @model_validator(mode="after")
    def _check_modes(self) -> Self:
        where = f"virtual server {self.name}"
        if self.fallback_pool == self.pool:
            raise wrong(
                f"{where}: fallback_pool is its pool {self.pool}; name another one", "fallback_pool"
            )
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


class GroupConfig(Section):
    """What all CSs of a group have in common: in their files, or in the API's database."""

    settings: SettingsConfig = SettingsConfig()
    monitors: tuple[MonitorConfig, ...] = ()
    pools: tuple[PoolConfig, ...] = ()
    virtual_servers: Annotated[tuple[VirtualServerConfig, ...], Field(max_length=VS_TOTAL_MAX)] = ()

    @model_validator(mode="after")
    def _check_group(self) -> Self:
        check_group(self.virtual_servers, self.pools, self.monitors)
        return self


class ControlSegmentConfig(GroupConfig):
    """The whole file."""

    segment_id: Annotated[Whole, Field(ge=1, le=CS_ID_MAX)]
    group_id: Annotated[Whole, Field(ge=0, le=65535)] = 1
    active: bool = True
    ssmb: SsmbConfig
    key_file: FilePath | None = None
    laboratory_no_authentication: bool = False
    admin_socket: FilePath | None = None
    state_file: FilePath | None = None  # None: in $STATE_DIRECTORY, or no file
    metrics: MetricsConfig | None = None  # None: it has none
    data_flow_segments: Annotated[tuple[DataFlowSegmentAddress, ...], Field(min_length=1)]
    control_segments: Annotated[tuple[ControlSegmentAddress, ...], Field(max_length=16)] = ()
    redundancy: RedundancyConfig = RedundancyConfig()
    alerts: AlertList = ()  # of what this CS sees; with `api`, the API's are as a rule enough
    api: ApiLinkConfig | None = None  # None: what the group has in common is in this file
    # The programs that monitors of kind script may run; None: they may run none
    monitor_scripts: FilePath | None = None
    # Secrets that monitors name, a file each; None: monitors may name none
    monitor_secrets: FilePath | None = None

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
    def _check_api(self) -> Self:
        for field in GroupConfig.model_fields if self.api is not None else ():
            if field in self.model_fields_set:
                raise wrong(
                    f"{field} of a CS with the section api come from the API; remove them here, and"
                    " `splitplane import` them there, or remove the section api",
                    field,
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
        segments = [f"{dfs.address} {dfs.port}" for dfs in self.data_flow_segments]
        unique("data flow segment", segments, "data_flow_segments", "address")
        others = self.control_segments
        ids = [str(each.segment_id) for each in others]
        unique("control segment", ids, "control_segments", "segment_id")
        places = [f"{each.address} {each.port}" for each in others]
        unique("control segment address", places, "control_segments", "address")
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
    def _check_folders(self) -> Self:
        check_folders(self.monitors, scripts=self.monitor_scripts, secrets=self.monitor_secrets)
        return self
