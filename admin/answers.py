# SPDX-License-Identifier: Apache-2.0
"""What segments answer at their admin sockets: one model for each thing, the same from a CS and a
DFS, for the command line, the API and its page.

* A field that only one kind of segment knows is None in the other kind's answers.
* A name ends in its unit.  `opened_ms` and `idle_ms` count back from the moment of the answer.
* An address is text, "10.1.1.2" or "fd00::1"; with its port "10.1.1.2:80" or "[fd00::1]:80".
* `in` is from the client to the node, `out` is back.  `bytes` are octets of IP packets.
* Counts begin with the process that answers.

`admin.client` decodes answers into these models, and ignores fields that it does not know.  Give a
new field a default, so that the answers of earlier releases still fit.  They are dataclasses and
not pydantic's models because segments make a million of them at once; pydantic reads them all the
same, and so does FastAPI.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers at this socket."""

    role: Literal["cs", "dfs"]
    segment_id: int
    release: str  # of splitplane
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flow, as the segment that answers sees it.

    state, in a DFS:  pending (waits for the CS's REPLY), established, closing (after a FIN);
                      of a content-aware virtual server before that: collecting (the client's
                      data), deciding (waits for the CS), connecting (to the node), joining (what
                      the client said goes to the node), relayed (packet by packet); assisted (a CS
                      carries it), held (nobody's: it is about to end)
    state, in a CS:   active, asked (TIMEOUT or REAP is under way), session (no DFS carries it, but
                      its session may come back)

    A CS hears of packets from STATS, so its counts and its idle time are older than the DFS's.
    """

    client: str  # address and port
    vip: str  # the address and port that the client sends to
    protocol: str  # tcp, udp, or the protocol's number
    serial: int  # tells it apart from earlier flows with the same ends
    data_flow_segment: int  # segment id of the DFS that carries it
    group_id: int  # of the CS that decides about it
    node: str | None  # address and port; None while it is pending
    forward_mode: str | None  # nat, l2, tunnel; None while it is pending
    state: str
    opened_ms: int
    idle_ms: int | None  # since its latest packet; None while it is pending
    idle_timeout_s: int | None  # it ends after so long without a packet; 0: never
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    virtual_server: str | None = None  # a CS's: the names in its configuration
    pool: str | None = None
    node_name: str | None = None
    packets_held: int | None = None  # a DFS's, while the flow is pending
    query_repeats: int | None = None
    octets_held: int | None = None  # a DFS's: of a client's data, until the flow is spliced
    kind: str | None = None  # a CS's: of its virtual server
    # Whether its packets get offsets, as far as the segment knows; None: a plain flow
    spliced: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a CS's pool."""

    pool: str
    name: str
    address: str
    port: int  # 0: the port that the client sends to
    weight: int
    state: str  # enabled, draining, down; removed: gone from the configuration, sessions remain
    connection_limit: int  # of `active`; 0: no limit
    active: int  # sessions that a DFS carries now
    total: int  # sessions so far
    connections_per_second: float  # new sessions, smoothed
    response_ms: float | None  # to accept a connection, smoothed; None: not measured, or it failed
    idle_ms: int | None  # since a session began or moved; None: it had no session yet
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    failed: int = 0  # connections that the node refused, or did not answer, so far
    failing: float = 0.0  # of these the recent ones; each counts half after ten seconds
    sessions_without_flow: int = 0  # silent for so long that no DFS carries them; may come back
    priority: int = 0  # the highest ones of the pool take new sessions
    in_reserve: bool = False  # enough nodes of higher priorities take new sessions
    # Until it may have new sessions again, by `outliers` of its pool; None: it is not ejected
    ejected_for_ms: int | None = None
    ejection_reason: str = ""
    # By monitors: up, down, unknown (nothing yet; it counts as up); None: no monitor looks at it.
    # A node takes new sessions if it is enabled and not down
    health: str | None = None
    health_reason: str = ""  # which monitor says so, and why; empty if there is nothing to say
    health_since_ms: int | None = None
    effective_weight: float | None = None  # that counts now; 0: it gets no new sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of a CS's virtual server that reads what clients say."""

    name: str
    pool: str | None  # None: it refuses
    matched: int  # connections that it decided


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServer:
    """A virtual server: of a CS's configuration, or as announced to a DFS."""

    address: str  # "*": any
    port: int | Literal["*"]
    protocol: str
    group_id: int  # of the CS that it belongs to
    forward_mode: str
    answer_arp: bool  # the DFS answers for the address on the link (ARP, neighbour discovery)
    name: str | None = None  # a CS's from here on
    pool: str | None = None
    method: str | None = None
    maintenance: bool | None = None
    connection_limit: int | None = None  # of `active`; 0: no limit
    persistence: int | None = None  # clients remembered; None: it has no persistence
    active: int | None = None  # sessions that a DFS carries now
    total: int | None = None  # sessions so far
    refused: int | None = None  # flows
    sessions_without_flow: int | None = None  # silent ones that no DFS carries; may come back
    granted: int | None = None  # decisions made ahead, which no flow has taken yet
    # new flows that needed no question, of both kinds of segment; and those that were asked about
    answered_ahead: int | None = None
    asked: int | None = None
    why_asked: str | None = None  # why flows are asked about, now (a CS's) or so far (a DFS's)
    asked_because: dict[str, int] | None = None  # a DFS's: the same in numbers, by reason
    bridged: bool | None = None  # a DFS's: class CS_ASSIST, every packet goes to the CS
    active_cs: int | None = None  # a DFS's: segment id; None: no CS of the group is active
    fallback_pool: str | None = None  # a CS's: new sessions go there while no node of `pool` can
    serving_pool: str | None = None  # where they go now; None: there is no fallback pool
    kind: str | None = None  # a CS's: plain, or what its clients say that decides
    rules: list[Rule] | None = None  # a CS's, in their order; None: it is plain
    unmatched: int | None = None  # connections for which none held; None: it is plain
    unreadable: int | None = None  # connections refused for what they said; None: nothing is read


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePage:
    """Some of a CS's nodes, in the order of its configuration."""

    total: int
    items: list[Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServerPage:
    """Some of a CS's virtual servers, in the order of its configuration."""

    total: int
    items: list[VirtualServer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over nodes or virtual servers; all of a CS's are the sum of these."""

    virtual_servers: int = 0
    connections: int = 0  # sessions of virtual servers so far
    refused: int = 0  # flows
    active: int = 0  # sessions that a DFS carries now
    nodes: int = 0
    nodes_down: int = 0  # they take no new sessions
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRate:
    """How busy a pool is."""

    pool: str
    connections_per_second: float
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What to look at among some pools; all of a CS's are the sum of these."""

    pools: int = 0
    connections_per_second: float = 0.0
    failing: int = 0  # nodes that are enabled and that a monitor finds down
    failing_nodes: list[str] = field(default_factory=list)  # pool/node, the first SHOWN_FIRST
    unserved: int = 0  # pools that have nodes, and none that takes new sessions
    unserved_pools: list[str] = field(default_factory=list)  # the first SHOWN_FIRST
    busiest: list[PoolRate] = field(default_factory=list)  # SHOWN_BUSIEST, in their order


def busiest(rates: Sequence[PoolRate]) -> list[PoolRate]:
    """SHOWN_BUSIEST of them, in the order in which they are."""
    order = sorted(range(len(rates)), key=lambda at: -rates[at].connections_per_second)
    return [rates[at] for at in sorted(order[:SHOWN_BUSIEST])]


def attention(parts: Iterable[Attention]) -> Attention:
    """Their sum."""
    each = list(parts)
    return Attention(
        pools=sum(it.pools for it in each),
        connections_per_second=round(sum(it.connections_per_second for it in each), 2),
        failing=sum(it.failing for it in each),
        failing_nodes=[name for it in each for name in it.failing_nodes][:SHOWN_FIRST],
        unserved=sum(it.unserved for it in each),
        unserved_pools=[name for it in each for name in it.unserved_pools][:SHOWN_FIRST],
        busiest=busiest([pool for it in each for pool in it.busiest]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A counter."""

    value: int
    normal: bool  # it may rise without anything being wrong
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """SSMB messages, each count by the name of the message (QUERY) or of the counter."""

    sent: dict[str, int]
    received: dict[str, int]
    dropped: dict[str, Counter]  # datagrams and messages that were not processed
    refused: dict[str, int] | None = None  # a CS's: REPLYs with an error, by the error's name
    datagrams_sent: int | None = None  # a DFS's
    datagrams_received: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEntry:
    """Something that happened to a flow."""

    time: float  # s on the machine's monotonic clock: comparable between segments on one machine
    ago_ms: int
    what: str
    at: float | None = None  # Unix time, s; None: asked at the admin socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A segment at the other end of both buses."""

    segment_id: int | None  # None: not connected
    ssmb_address: str | None
    ssmb_version: int | None  # the major one agreed on
    ssmb_authenticated: bool
    active: bool  # the CS of the two is the active one of its group


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """How far a DFS has come with reporting its flows to a CS (SYNC)."""

    running: bool
    flows_reported: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """How good a CS's copy of one DFS's flows is."""

    flows: int
    complete: bool  # the DFS has reported all, and nothing has been missed since
    differs: bool  # from that of the active CS, at the last heartbeat; what is on its way differs
    equal_ms: int | None  # since it was found to be equal; None: never, or this CS is active
    datagrams_missed: int
    by_multicast: bool = False  # what is shared goes, or comes, by multicast; else the DFS copies


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """Another CS of the group, by its heartbeats; what was never heard is None."""

    segment_id: int
    address: str
    role: str | None  # standby, claiming, active
    role_epoch: int | None
    reach: int | None  # DFSs that it reaches
    heard_ms: int | None  # since its last heartbeat
    same_configuration: bool | None  # virtual servers and pools; None: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSegmentId:
    """A CS."""

    segment_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlowSegmentPeer(Peer):
    """A DFS in a CS's configuration."""

    address: str  # of CSMB, as configured
    port: int
    ready: bool  # CSMB is connected and authenticated
    reason: str  # why not
    csmb_version: int | None
    sync: Sync | None
    flow_capacity: int | None  # flows that fit into its table
    group_role: str | None = None  # of this CS at it: active, claiming, standby; None: unconnected
    role_epoch: int | None = None  # that this CS has at it
    copy: Copy | None = None  # of its flows; None: this CS is the only one of its group
    virtual_servers_withheld: int = 0  # with IPv6, which the versions agreed on do not carry
    team: str | None = None  # the pair or multipath that it belongs to
    team_state: str | None = None  # away, reporting, filling, complete


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSegmentPeer(Peer):
    """A CS that is connected to a DFS."""

    role_epoch: int  # take-overs of its group that it knows of
    takes_queries: bool  # authenticated on SSMB, and no RESET is under way
    synced: bool  # it knows every flow, or never had to be told
    connections: int  # of CSMB
    heartbeat_ms: int | None = None  # since its last; None: it has sent none (as what it is now)
    silent: bool = False  # it is active and has missed three: new flows wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The CSs of a group that are connected to a DFS."""

    group_id: int
    asks: str  # who asks about new flows: "data path", or "agent: " and why
    active: ControlSegmentPeer | None
    standbys: list[ControlSegmentPeer]
    role_epoch: int = 0  # the highest that this DFS has obeyed: lower claims are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLinkStatus:
    """A segment's link to the API."""

    url: str
    linked: bool
    linked_ms: int | None  # since when
    reason: str  # why there is no link
    generation: int | None = None  # of the configuration in force at a CS; None: none of the API


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What both kinds of segment say of themselves."""

    role: Literal["cs", "dfs"]
    segment_id: int
    boot_id: int  # lives as long as the process of a CS, or the flow table of a DFS
    uptime_s: float  # of the process
    laboratory: bool  # nothing is authenticated
    flows: int  # in its table
    flow_capacity: int  # flows that fit
    api: ApiLinkStatus | None = None  # None: it has none in its configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSegmentStatus(Status):
    """A CS.  Its `flows` include the sessions that no DFS carries now."""

    role: Literal["cs"] = "cs"
    group_id: int
    active: bool  # configured as the active CS of its group
    native: bool  # its datagrams are opened and sealed by native code, not by Python
    sessions_without_flow: int
    data_flow_segments: list[DataFlowSegmentPeer]
    group_role: str = ""  # standby, claiming, active
    role_epoch: int = 0  # of its claims
    successor: int | None = None  # the CS that it was ordered to hand over to, and has not yet
    control_segments: list[GroupMember] = field(default_factory=list)  # the others of the group
    # It may lack persistent clients or idle sessions that another CS of the group knows
    waits_for_records: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlowSegmentStatus(Status):
    """A DFS.  Its `flows` are those installed in the target."""

    role: Literal["dfs"] = "dfs"
    adopted: bool  # the flow table was there before this agent
    pending: int  # flows that wait for a CS
    negative: int  # flows that a CS refused less than a second ago
    lingering: int  # flows that have ended and whose late packets are still translated
    held_octets: int  # of packets of pending flows, and of clients' data of those not spliced
    collecting: int = 0  # connections to content-aware virtual servers that are not spliced yet
    groups: list[Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Which DFSs a CS has sent an order to."""

    data_flow_segments: list[int]  # segment ids


# --- commands --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command(Generic[AnswerT]):
    """A command of the admin socket, and what it is answered with."""

    name: str
    answer: type[AnswerT]
    roles: tuple[Literal["cs", "dfs"], ...] = ("cs", "dfs")  # the segments that have it
    shows: str = ""  # `splitplane show` has it, with this sentence, and asks all these segments


FLOWS_MAX: Final = {"cs": 10_000, "dfs": 1_000_000}
"""The most that FLOWS answers: a CS has QUERYs waiting meanwhile."""
PAGE_MAX: Final = 1000
"""The most that a page has."""

METRICS_SERIES_MAX: Final = 10_000
"""Things of a kind that have metrics of their own, unless a file says otherwise; with more there
are only sums."""

SHOWN_FIRST: Final = 5
"""Names in `Attention`; the rest is a number."""
SHOWN_BUSIEST: Final = 6
"""Pools in `Attention`."""

HELLO: Final = Command("hello", Identity)
CS_STATUS: Final = Command(
    "status", ControlSegmentStatus, ("cs",), "The state of each segment, and its peers."
)
DFS_STATUS: Final = Command("status", DataFlowSegmentStatus, ("dfs",), CS_STATUS.shows)
# client, vip, protocol, node (address, or a CS's name of it), limit; at a CS virtual_server, pool
FLOWS: Final = Command("flows", list[Flow])
REAP_FLOW: Final = Command("reap_flow", Flow, ("cs",))  # client, vip, protocol; as it was before
NODES: Final = Command(
    "nodes", list[Node], ("cs",), "Nodes of each pool: state, weight, connections, rates."
)
# pool, or pools: names, and per_pool: the first nodes of each pool only; offset, limit
NODE_PAGE: Final = Command("node_page", NodePage, ("cs",))
VIRTUAL_SERVERS: Final = Command("virtual_servers", list[VirtualServer])
# name, or names; pool, offset, limit
VIRTUAL_SERVER_PAGE: Final = Command("virtual_server_page", VirtualServerPage, ("cs",))
TOTALS: Final = Command("totals", list[Totals], ("cs",))
ATTENTION: Final = Command("attention", list[Attention], ("cs",))
MESSAGES: Final = Command(
    "messages", Messages, shows="SSMB messages by type, and what was dropped."
)
COUNTERS: Final = Command(  # by name
    "counters",
    dict[str, Counter],
    ("dfs",),
    "Counters of the DFS, and whether a rise is normal.\n\n--json includes counters at 0.",
)
TRACE: Final = Command("trace", list[TraceEntry])  # client, vip, protocol; the oldest first
SET_NODE: Final = Command("set_node", Node, ("cs",))  # pool, node, weight, state
SET_NODES: Final = Command("set_nodes", list[Node], ("cs",))  # pool, nodes (names), weight, state
RESET: Final = Command("reset", Ordered, ("cs",))
SYNC: Final = Command("sync", Ordered, ("cs",))
SWITCHOVER: Final = Command("switchover", ControlSegmentId, ("cs",))  # to, force
RELOAD: Final = Command("reload", type(None), ("cs",))

COMMANDS: Final[tuple[Command[Any], ...]] = tuple(
    it for it in tuple(globals().values()) if isinstance(it, Command)
)
