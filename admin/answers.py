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

    state, in a DFS:  pending (waits for the CS's REPLY), established, closing (after a FIN)
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
class Status:
    """What both kinds of segment say of themselves."""

    role: Literal["cs", "dfs"]
    segment_id: int
    boot_id: int  # lives as long as the process of a CS, or the flow table of a DFS
    uptime_s: float  # of the process
    laboratory: bool  # nothing is authenticated
    flows: int  # in its table
    flow_capacity: int  # flows that fit


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
    control_segments: list[GroupMember] = field(default_factory=list)  # the others of the group


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlowSegmentStatus(Status):
    """A DFS.  Its `flows` are those installed in the target."""

    role: Literal["dfs"] = "dfs"
    adopted: bool  # the flow table was there before this agent
    pending: int  # flows that wait for a CS
    negative: int  # flows that a CS refused less than a second ago
    lingering: int  # flows that have ended and whose late packets are still translated
    held_octets: int  # of packets of pending flows
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
WEIGHT_MAX: Final = 1000
"""Of a node, in a file and in SET_NODE."""

HELLO: Final = Command("hello", Identity)
CS_STATUS: Final = Command(
    "status", ControlSegmentStatus, ("cs",), "The state of each segment, and its peers."
)
DFS_STATUS: Final = Command("status", DataFlowSegmentStatus, ("dfs",), CS_STATUS.shows)
FLOWS: Final = Command("flows", list[Flow])  # client, limit
NODES: Final = Command(
    "nodes", list[Node], ("cs",), "Nodes of each pool: state, weight, connections, rates."
)
VIRTUAL_SERVERS: Final = Command("virtual_servers", list[VirtualServer])
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
