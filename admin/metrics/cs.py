# SPDX-License-Identifier: Apache-2.0
"""The metrics of a CS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from admin.answers import (
    CS_STATUS,
    MESSAGES,
    NODES,
    VIRTUAL_SERVERS,
    ApiLinkStatus,
    ControlSegmentStatus,
    DataFlowSegmentPeer,
    GroupMember,
    Identity,
    Messages,
    Node,
    VirtualServer,
)
from admin.metrics.collecting import (
    Asking,
    Count,
    Event,
    LeftOut,
    build_info,
    counted,
    events,
    left_out,
    link_to_api,
    sliced,
)
from admin.metrics.rules import RULE, RuleCount, of_servers
from admin.metrics.tables import AnyGroup, AnyReading, Group, Metric, Reading, unlabelled

_ROLES: Final = ("standby", "claiming", "active")
_STATES: Final = ("enabled", "draining", "down", "removed")
_ENABLED, _REMOVED = _STATES[0], _STATES[-1]
_FOUND: Final = ("up", "down", "unknown")
_DOWN: Final = _FOUND[1]


class Role(NamedTuple):
    """A role, and whether this CS has it."""

    name: str
    is_now: bool


class NodesIn(NamedTuple):
    """How many nodes are in a state."""

    state: str
    number: int


class PoolNodesIn(NamedTuple):
    """How many nodes of a pool are in a state."""

    pool: str
    state: str
    number: int


class PoolSums(NamedTuple):
    """What the nodes of a pool carry, and how many may get more."""

    pool: str
    active: int
    available: int


BUILD: Final = build_info("cs")
LINK: Final = link_to_api("cs")
LEFT_OUT: Final = left_out("cs")
CS: Final[Group[ControlSegmentStatus]] = Group(
    "the CS",
    ("segment_id", "group_id", "native"),
    lambda it: (str(it.segment_id), str(it.group_id), _truth(it.native)),
    (
        Metric(
            "splitplane_cs", "info",
            "Which CS it is, and whether native code opens and seals its datagrams.", lambda _: 1,
        ),
    ),
)  # fmt: skip
STATUS: Final[Group[ControlSegmentStatus]] = unlabelled(
    "the CS",
    Metric(
        "splitplane_cs_flows", "gauge",
        "Flows in its table, with the sessions that no DFS carries now.", lambda it: it.flows,
    ),
    Metric(
        "splitplane_cs_flow_capacity", "gauge",
        "Flows that fit into its table.", lambda it: it.flow_capacity,
    ),
    Metric(
        "splitplane_cs_sessions_without_flow", "gauge",
        "Sessions that no DFS carries now, and that may come back.",
        lambda it: it.sessions_without_flow,
    ),
    Metric(
        "splitplane_cs_role_epoch", "gauge",
        "The role epoch of its claims: it rises with every take-over of the group.",
        lambda it: it.role_epoch,
    ),
    Metric(
        "splitplane_cs_waits_for_records", "gauge",
        "1: it may lack persistent clients or idle sessions that another CS of the group knows.",
        lambda it: it.waits_for_records,
    ),
    Metric(
        "splitplane_cs_laboratory", "gauge",
        "1: nothing is authenticated; never outside a laboratory.", lambda it: it.laboratory,
    ),
)  # fmt: skip
GENERATION: Final[Group[ApiLinkStatus]] = unlabelled(
    "the CS, if it follows an API",
    Metric(
        "splitplane_cs_generation", "gauge",
        "The generation of the configuration in force; none: none of the API yet.",
        lambda it: it.generation,
    ),
)  # fmt: skip
ROLE: Final[Group[Role]] = Group(
    "each role",
    ("role",),
    lambda it: (it.name,),
    (
        Metric(
            "splitplane_cs_role", "gauge",
            "1 for the role that the CS has in its group now, 0 for the others.",
            lambda it: it.is_now,
        ),
    ),
)  # fmt: skip
DFS: Final[Group[DataFlowSegmentPeer]] = Group(
    "each DFS in the configuration",
    ("dfs",),
    lambda it: (f"[{it.address}]:{it.port}" if ":" in it.address else f"{it.address}:{it.port}",),
    (
        Metric(
            "splitplane_cs_dfs_ready", "gauge",
            "1: CSMB is connected and authenticated.", lambda it: it.ready,
        ),
        Metric(
            "splitplane_cs_dfs_ssmb_authenticated", "gauge",
            "1: SSMB is authenticated, so its QUERYs are answered.",
            lambda it: it.ssmb_authenticated,
        ),
        Metric(
            "splitplane_cs_dfs_active", "gauge",
            "1: this CS is the active one at the DFS.", lambda it: it.active,
        ),
        Metric(
            "splitplane_cs_dfs_flow_capacity", "gauge",
            "Flows that fit into its table.", lambda it: it.flow_capacity,
        ),
        Metric(
            "splitplane_cs_dfs_sync_running", "gauge",
            "1: it is reporting its flows to this CS.",
            lambda it: None if it.sync is None else it.sync.running,
        ),
        Metric(
            "splitplane_cs_dfs_virtual_servers_withheld", "gauge",
            "Virtual servers that it does not get: they have IPv6, which it does not speak.",
            lambda it: it.virtual_servers_withheld,
        ),
        Metric(
            "splitplane_cs_dfs_copy_flows", "gauge",
            "Flows of the DFS that this CS has, if it is one of several.",
            lambda it: None if it.copy is None else it.copy.flows,
        ),
        Metric(
            "splitplane_cs_dfs_copy_complete", "gauge",
            "1: this CS lacks none of the DFS's flows.",
            lambda it: None if it.copy is None else it.copy.complete,
        ),
        Metric(
            "splitplane_cs_dfs_copy_missed_datagrams_total", "counter",
            "Datagrams with which the copy would have been kept equal, and that did not arrive.",
            lambda it: None if it.copy is None else it.copy.datagrams_missed,
        ),
    ),
)  # fmt: skip
MEMBER: Final[Group[GroupMember]] = Group(
    "each other CS of the group",
    ("cs",),
    lambda it: (f"cs-{it.segment_id}",),
    (
        Metric(
            "splitplane_cs_member_heard_seconds", "gauge",
            "Time since its last heartbeat; none: it was never heard.",
            lambda it: None if it.heard_ms is None else it.heard_ms / 1000,
        ),
        Metric(
            "splitplane_cs_member_reach", "gauge",
            "DFSs that it reaches.", lambda it: it.reach,
        ),
        Metric(
            "splitplane_cs_member_same_configuration", "gauge",
            "1: its virtual servers and pools are those of this CS.",
            lambda it: it.same_configuration,
        ),
    ),
)  # fmt: skip
SENT: Final = counted("splitplane_cs_messages_sent_total", "type", "SSMB messages sent.")
RECEIVED: Final = counted(
    "splitplane_cs_messages_received_total", "type", "SSMB messages received."
)
REFUSED: Final = counted(
    "splitplane_cs_refusals_total", "reason",
    "REPLYs with an error, by its name: new flows that got no node.",
)  # fmt: skip
DROPPED: Final = events(
    "splitplane_cs_dropped_total", "reason",
    "Datagrams and messages that were not processed; `normal` is `false` where a rise means that"
    " something is wrong. `splitplane show messages` explains each reason.",
)  # fmt: skip
NODES_IN: Final[Group[NodesIn]] = Group(
    "each state of nodes",
    ("state",),
    lambda it: (it.state,),
    (
        Metric(
            "splitplane_cs_nodes", "gauge",
            "Nodes of all pools, by what the configuration or `set-node` says; `removed` ones are"
            " gone from it and have sessions left.", lambda it: it.number,
        ),
    ),
)  # fmt: skip
POOL_NODES_IN: Final[Group[PoolNodesIn]] = Group(
    "each pool and state of nodes",
    ("pool", "state"),
    lambda it: (it.pool, it.state),
    (
        Metric(
            "splitplane_cs_pool_nodes", "gauge", "Nodes of the pool.", lambda it: it.number,
        ),
    ),
)  # fmt: skip
NODES_FOUND: Final[Group[NodesIn]] = Group(
    "each finding of monitors",
    ("health",),
    lambda it: (it.state,),
    (
        Metric(
            "splitplane_cs_monitored_nodes", "gauge",
            "Nodes of all pools, by what their monitors find; `unknown` ones count as up.",
            lambda it: it.number,
        ),
    ),
)  # fmt: skip
POOL: Final[Group[PoolSums]] = Group(
    "each pool",
    ("pool",),
    lambda it: (it.pool,),
    (
        Metric(
            "splitplane_cs_pool_active_sessions", "gauge",
            "Sessions at the nodes of the pool that a DFS carries now.", lambda it: it.active,
        ),
        Metric(
            "splitplane_cs_pool_available_nodes", "gauge",
            "Nodes that get new sessions: enabled, not down, not in reserve, with a weight.",
            lambda it: it.available,
        ),
    ),
)  # fmt: skip
NODE: Final[Group[Node]] = Group(
    "each node that is not removed",
    ("pool", "node", "address"),
    lambda it: (it.pool, it.name, f"[{it.address}]:{it.port}" if ":" in it.address
                else f"{it.address}:{it.port}"),
    (
        Metric(
            "splitplane_cs_node_enabled", "gauge",
            "1: its state is enabled; 0: draining or down.", lambda it: it.state == _ENABLED,
        ),
        Metric(
            "splitplane_cs_node_up", "gauge",
            "0: its monitors find it down; 1: they do not, or do not know yet; none: no monitor"
            " looks at it.", lambda it: None if it.health is None else it.health != _DOWN,
        ),
        Metric(
            "splitplane_cs_node_ejected", "gauge",
            "1: it is ejected for a while, by `outliers` of its pool.",
            lambda it: it.ejected_for_ms is not None,
        ),
        Metric("splitplane_cs_node_weight", "gauge", "Its weight.", lambda it: it.weight),
        Metric(
            "splitplane_cs_node_effective_weight", "gauge",
            "The weight that counts now: 0 for a node that is not enabled, down or in reserve, less"
            " than its weight during a slow start.", lambda it: it.effective_weight,
        ),
        Metric(
            "splitplane_cs_node_connection_limit", "gauge",
            "The most active sessions; 0: no limit.", lambda it: it.connection_limit,
        ),
        Metric(
            "splitplane_cs_node_active_sessions", "gauge",
            "Sessions that a DFS carries now.", lambda it: it.active,
        ),
        Metric(
            "splitplane_cs_node_sessions_without_flow", "gauge",
            "Silent sessions that no DFS carries; they may come back.",
            lambda it: it.sessions_without_flow,
        ),
        Metric(
            "splitplane_cs_node_sessions_total", "counter", "Sessions so far.",
            lambda it: it.total,
        ),
        Metric(
            "splitplane_cs_node_failed_connections_total", "counter",
            "Connections that it refused, or did not answer.", lambda it: it.failed,
        ),
        Metric(
            "splitplane_cs_node_response_seconds", "gauge",
            "Time that it takes to accept a connection, smoothed; none: not measured, or it"
            " failed.", lambda it: None if it.response_ms is None else it.response_ms / 1000,
        ),
        Metric(
            "splitplane_cs_node_in_packets_total", "counter",
            "Packets from clients to it, as DFSs reported (STATS).", lambda it: it.packets_in,
        ),
        Metric(
            "splitplane_cs_node_in_bytes_total", "counter",
            "Octets of these, as IP packets.", lambda it: it.bytes_in,
        ),
        Metric(
            "splitplane_cs_node_out_packets_total", "counter",
            "Packets from it to clients.", lambda it: it.packets_out,
        ),
        Metric(
            "splitplane_cs_node_out_bytes_total", "counter",
            "Octets of these, as IP packets.", lambda it: it.bytes_out,
        ),
    ),
)  # fmt: skip
SERVER: Final[Group[VirtualServer]] = Group(
    "each virtual server",
    ("virtual_server", "pool"),
    lambda it: (it.name or "", it.pool or ""),
    (
        Metric(
            "splitplane_cs_virtual_server_maintenance", "gauge",
            "1: it is in maintenance, and refuses new flows.", lambda it: it.maintenance,
        ),
        Metric(
            "splitplane_cs_virtual_server_connection_limit", "gauge",
            "The most active sessions; 0: no limit.", lambda it: it.connection_limit,
        ),
        Metric(
            "splitplane_cs_virtual_server_active_sessions", "gauge",
            "Sessions that a DFS carries now.", lambda it: it.active,
        ),
        Metric(
            "splitplane_cs_virtual_server_sessions_without_flow", "gauge",
            "Silent sessions that no DFS carries; they may come back.",
            lambda it: it.sessions_without_flow,
        ),
        Metric(
            "splitplane_cs_virtual_server_sessions_total", "counter", "Sessions so far.",
            lambda it: it.total,
        ),
        Metric(
            "splitplane_cs_virtual_server_refused_total", "counter",
            "Flows that were refused.", lambda it: it.refused,
        ),
        Metric(
            "splitplane_cs_virtual_server_grants", "gauge",
            "Decisions made ahead, which no flow has taken yet.", lambda it: it.granted,
        ),
        Metric(
            "splitplane_cs_virtual_server_answered_ahead_total", "counter",
            "Sessions that took a grant: the DFS did not have to ask.",
            lambda it: it.answered_ahead,
        ),
        Metric(
            "splitplane_cs_virtual_server_asked_total", "counter",
            "Sessions about which a DFS asked.", lambda it: it.asked,
        ),
        Metric(
            "splitplane_cs_virtual_server_uses_fallback_pool", "gauge",
            "1: new sessions go to its fallback pool; none: it has none.",
            lambda it: None if it.serving_pool is None else it.serving_pool != it.pool,
        ),
        Metric(
            "splitplane_cs_virtual_server_persistent_clients", "gauge",
            "Clients whose node persistence remembers; none: it has no persistence.",
            lambda it: it.persistence,
        ),
        Metric(
            "splitplane_cs_virtual_server_unmatched_total", "counter",
            "Connections for which no rule held; none: it reads nothing.",
            lambda it: it.unmatched,
        ),
        Metric(
            "splitplane_cs_virtual_server_unreadable_total", "counter",
            "Connections refused because what the client said could not be read; none: it reads"
            " nothing.", lambda it: it.unreadable,
        ),
    ),
)  # fmt: skip

GROUPS: Final[tuple[AnyGroup, ...]] = (
    BUILD, CS, STATUS, LINK, GENERATION, ROLE, DFS, MEMBER, SENT, RECEIVED, REFUSED, DROPPED,
    NODES_IN, NODES_FOUND, SERVER, RULE, POOL_NODES_IN, POOL, NODE, LEFT_OUT,
)  # fmt: skip
"""All, in the order of docs/metrics.md."""


async def collect(identity: Identity, ask: Asking, series_max: int) -> list[AnyReading]:
    """Everything there is now.  With more nodes, pools, virtual servers or rules than `series_max`
    these have no series of their own."""
    nodes = await ask(NODES)
    servers = await ask(VIRTUAL_SERVERS)
    sums = _Sums()
    async for some_nodes in sliced(nodes):
        sums.add(some_nodes)
    pools, pool_nodes = list[PoolSums](), list[PoolNodesIn]()
    async for some_pools in sliced(sums.pool_names()):
        pools += sums.pools(some_pools)
        pool_nodes += sums.pool_nodes(some_pools)
    rules = list[RuleCount]()
    async for some_servers in sliced(servers):
        rules += of_servers(some_servers)
    several: list[tuple[str, list[AnyReading]]] = [
        ("virtual_servers", [Reading(SERVER, servers)]),
        ("rules", [Reading(RULE, rules)]),
        ("pools", [Reading(POOL, pools), Reading(POOL_NODES_IN, pool_nodes)]),
        ("nodes", [Reading(NODE, sums.present)]),
    ]
    found = [
        Reading(BUILD, [identity.release]),
        *_of_status(await ask(CS_STATUS)),
        *_of_messages(await ask(MESSAGES)),
        Reading(NODES_IN, sums.nodes()),
        Reading(NODES_FOUND, sums.found()),
    ]
    without = list[LeftOut]()
    for of, readings in several:
        number = len(readings[0].items)
        is_too_much = number > series_max
        without.append(LeftOut(of, number if is_too_much else 0))
        if not is_too_much:
            found += readings
    return [*found, Reading(LEFT_OUT, without)]


def _of_status(status: ControlSegmentStatus) -> list[AnyReading]:
    return [
        Reading(CS, [status]),
        Reading(STATUS, [status]),
        Reading(LINK, [status.api] if status.api else []),
        Reading(GENERATION, [status.api] if status.api else []),
        Reading(ROLE, [Role(name, name == status.group_role) for name in _ROLES]),
        Reading(DFS, status.data_flow_segments),
        Reading(MEMBER, status.control_segments),
    ]


def _of_messages(messages: Messages) -> list[AnyReading]:
    return [
        Reading(SENT, [Count(*each) for each in messages.sent.items()]),
        Reading(RECEIVED, [Count(*each) for each in messages.received.items()]),
        Reading(REFUSED, [Count(*each) for each in (messages.refused or {}).items()]),
        Reading(
            DROPPED,
            [Event(name, _truth(it.normal), it.value) for name, it in messages.dropped.items()],
        ),
    ]


class _Sums:
    """Nodes, counted."""

    def __init__(self) -> None:
        self.present: list[Node] = []  # without those that are removed
        self._states: Counter[str] = Counter()
        self._pool_states: Counter[tuple[str, str]] = Counter()
        self._pool_active: Counter[str] = Counter()
        self._pool_available: Counter[str] = Counter()
        self._found: Counter[str] = Counter()

    def add(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._states[node.state] += 1
            self._pool_states[node.pool, node.state] += 1
            self._pool_active[node.pool] += node.active
            self._pool_available[node.pool] += bool(node.effective_weight)
            if node.health is not None and node.state != _REMOVED:
                self._found[node.health] += 1
        self.present += [node for node in nodes if node.state != _REMOVED]

    def nodes(self) -> list[NodesIn]:
        return [NodesIn(state, self._states[state]) for state in _STATES]

    def found(self) -> list[NodesIn]:
        return [NodesIn(health, self._found[health]) for health in _FOUND]

    def pool_names(self) -> list[str]:
        return list(self._pool_active)

    def pools(self, names: Sequence[str]) -> list[PoolSums]:
        return [
            PoolSums(name, self._pool_active[name], self._pool_available[name]) for name in names
        ]

    def pool_nodes(self, names: Sequence[str]) -> list[PoolNodesIn]:
        return [
            PoolNodesIn(name, state, self._pool_states[name, state])
            for name in names
            for state in _STATES
        ]


def _truth(value: bool) -> str:
    return "true" if value else "false"
