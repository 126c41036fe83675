# SPDX-License-Identifier: Apache-2.0
"""The contract between the agent and what moves packets.

One contract, several targets (`bpf`, `p4runtime`, `memory`), one suite that every target
passes (tests/contract).  The rules:

* The agent decides and never touches a packet of an established flow; a target matches, rewrites,
  counts and sends, and never decides which node a flow goes to.
* Commands go down, events come up.  `apply` carries commands out in order: what `InjectPacket`
  puts back is matched against every `InstallFlow` before it.  A target whose switch is far away
  (P4Runtime) may carry them out later, in that order, and reports failures as events.
* The target's table is the only copy of an established flow: a new agent reads it with `lookup`
  and `scan`, which is how flows survive the agent.
* Every packet that a target drops raises a counter named in `counters`.
* A flow whose signature, or whose return direction, is another flow's key is refused.
* A later fragment goes where its first one went.  One that comes before its first one is never
  routed as a stranger's if it is addressed to a virtual server or comes from the internal side: it
  comes up as EarlyFragment, and is dropped if its first one is still unknown when it is put back.
* ICMP errors about a flow's packets are carried to the end that they concern.  A client gets them
  from the virtual server; a router on the client's side keeps its own address.  They never count as
  the flow's packets, never refresh it and never end it.
* A virtual address that ARP is answered for is the target's own: echo requests to it are answered,
  TCP and UDP to ports without a virtual server come up to be refused, nothing to it is routed.
* What a flow's packet says of the flow counts, whether the packet can be sent on or its next hop is
  gone.
* A flow that ended and lingers is reported once more to an agent that adopts the table.
* To a `proxied` virtual server a target that makes cookies answers SYNs itself, and keeps nothing;
  the client's first segment with data and a valid cookie comes up (docs/design/0012-content.md).
  The agent then enters the flow `held`, so that its packets come up too, and splices it by the same
  entry with offsets and without `held`.
* Where a target asks about new flows by itself it may do all of that by itself
  (`VirtualServerEntry.app_type`): it asks about the client's first segment by an APP_QUERY with
  PARKED, and the REPLY with PROXY_SERVER has it enter the flow held, with PARKED, and send the SYN
  to the node.  The node's SYN-ACK splices the flow if the node agrees to all that the client did.
  Whatever else comes of the flow meanwhile hands it to the agent: the client's request as KEPT,
  then what came as HELD.
* A target that takes grants gives decisions that the CS made ahead to new flows by itself
  (`data_flow_segment.targets.grants`); the others get no command about them.

Addresses are 16 octets, IPv4 as ``::ffff:a.b.c.d`` (see `ssmb.addresses`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol, cast

from data_flow_segment.targets.grants import GrantCommand, GrantEvent, GrantState
from data_flow_segment.targets.virtual_server_key import VirtualServerKey as VirtualServerKey
from ssmb.messages import FlowSignature, Session, Translation


class TargetError(Exception):
    """A target cannot do what was asked; the text says what, where and what to do."""


class TargetTaken(TargetError):
    """Another agent has the target now, or had it meanwhile: open it again."""


class TargetLost(TargetError):
    """The target cannot be had now, which may pass by itself."""


class Waiting(NamedTuple):
    """What an agent that opens its target waits for."""

    reason: str
    """A sentence: what is in the way, where, and what to do if it is not meant to be."""

    for_another: bool
    """Another agent has the target: this one stands by for it."""


class FlowEntry(NamedTuple):
    """What the CS decided for a flow (wire protocol 9.1 and 9.4).

    `flags` holds the SSMB flags TRANSLATE_ADDR, TRANSLATE_PORT, TRANSLATE_SRC, ROUTE_BY_DST_IP,
    ADD_TCP_OFFSETS and OUTBOUND.  Both directions are installed from this one value: the return
    direction is the inverse translation, found by the packet that the node sends back.
    `next_hop_ipaddr` is already resolved (REPLY's, otherwise the virtual server's, otherwise the
    default gateway) and is used for the inbound direction when ROUTE_BY_DST_IP is clear.

    A `held` one has PROXY_SERVER while a handshake with the node is under way, and PARKED too if
    the target completes that by itself.  An entry that the agent installs never has PARKED.
    """

    signature: FlowSignature
    serial: int
    group_id: int
    flags: int
    # the fields of ssmb.messages.Translation, in its order
    node_ipaddr: bytes
    snat_ipaddr: bytes
    node_port: int
    snat_port: int
    next_hop_ipaddr: bytes
    seq_offset: int
    ack_offset: int
    ts_offset: int
    idle_timeout_s: int  # 0: never idle
    wscale_shift: int
    forward_mode: int
    opened_ms: int
    held: bool = False
    """Both directions' packets, and ICMP errors about them, come up as HELD instead of going on.
    Such a flow is half-open whatever its packets say, and does not end by them."""

    @property
    def translation(self) -> Translation:
        """The decision as the CS's messages have it."""
        return Translation._make(cast("Sequence[Any]", self)[_TRANSLATION])


_TRANSLATION: Final = slice(4, 4 + len(Translation._fields))


HALF_OPEN_TIMEOUT_S: Final = 5
"""For how long a half-open flow waits for its client, unless the configuration says otherwise:
longer than a client's first two repeats of its SYN are apart (1 s and 2 s, RFC 6298 2)."""


ASKED_S: Final = 5.0
"""A client whose first segment is not answered by then has said it several times."""


class FlowCounters(NamedTuple):
    """Cumulative since the flow began; in = client to node; octets are IP total length."""

    pkts_in: int = 0
    bytes_in: int = 0
    pkts_out: int = 0
    bytes_out: int = 0


class FlowState(NamedTuple):
    """An installed flow and what the target saw of it."""

    entry: FlowEntry
    counters: FlowCounters
    idle_ms: int
    # OR of those of all segments that count (9.7), both directions; SYN of a flow that one begins
    tcp_flags: int
    closing: bool  # after the first FIN, before the fourth step (9.7)
    # what the client and the node want next of TCP, in the client side's numbers; None: unknown
    client_wants: int | None = None
    node_wants: int | None = None
    half_open: bool = False  # the client sent SYN and has not acknowledged an answer, or it is held
    closed: bool = False  # it ended, and its entry lingers


@dataclass(frozen=True, slots=True)
class VirtualServerEntry:
    """A virtual server as a target needs it; the rest of its settings stays in the agent."""

    key: VirtualServerKey
    group_id: int
    answer_arp: bool  # ARP and neighbour solicitations (8.5); never for wildcard addresses
    bridged: bool = False  # class CS_ASSIST: every packet goes to the agent
    proxied: bool = False
    """Clients' handshakes are completed for it; TCP only, and only where a target makes cookies."""
    app_type: int = 0
    """What an APP_QUERY of the target's own has as `detail` (15.2): it may ask about a client's
    first segment by itself, and complete the handshake with the node.  0: the agent does."""


class PacketReason(IntEnum):
    """Why a packet came up to the agent."""

    NEW_FLOW = 1  # a virtual server matches and no flow entry, or a SYN meets a closed entry
    BRIDGED = 2  # its virtual server is of class CS_ASSIST
    OUTBOUND = 3  # internal side, no flow, OUTBOUND_QUERY is on
    # A client's SYN, 0.2 s or more after its last packet, on a living flow whose node has never
    # answered, or has said nothing for a second: until now if the flow is half-open, otherwise when
    # the client's last packet came, which was a SYN too.  Without an agent it is forwarded like any
    # other.
    UNANSWERED = 10
    # A node's TCP packet of a flow that fell asleep (FallAsleep); the signature is the client's
    ASLEEP = 12
    # A client's SYN to a node's own address and port, from the port that a flow to that node has:
    # the node's answers would be taken for the flow's; the signature is the flow's
    COLLISION = 13
    # A TCP packet from where a node takes translated packets (SetNodes), in mid-session, that no
    # flow knows: routed on it would show a client the node's own address
    OF_NODE = 15
    # A client's first segment with a valid cookie, and with data or FIN, to a proxied virtual
    # server: its sequence number less one is the client's ISN, its acknowledgement less one the
    # cookie.  There is no flow, or one that ended and lingers
    PROXIED = 20
    # A TCP packet of either direction of a held flow, or an ICMP error about one of its packets, as
    # it came; the signature is the client's.  Of several segments in one (GRO) that are too long
    # the first octets come up, as a packet of their own, without FIN
    HELD = 21
    # What a client said first, of a flow for which the target was completing the handshake with the
    # node (`FlowEntry.flags`, PARKED): something came of the flow that the agent has to see, which
    # follows as HELD; the SYN is with the node.  The flow is the agent's from now on
    KEPT = 22
    UNSERVED = 11  # TCP or UDP to a virtual address that is answered for, without a virtual server


class CloseCause(IntEnum):
    """How a target saw a flow end (values of the wire's close reason)."""

    FIN = 1
    RST = 2


# --- commands: agent -> target -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddVirtualServer:
    """Add, or replace the one with the same key."""

    entry: VirtualServerEntry


@dataclass(frozen=True, slots=True)
class RemoveVirtualServer:
    """No new flows from now on; installed flows run until they end."""

    key: VirtualServerKey


@dataclass(frozen=True, slots=True)
class SetLocalAddresses:
    """Addresses that wildcard virtual servers never catch, beside the target's own (8.3)."""

    addresses: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SetOutboundQuery:
    """Report packets of the internal side that match nothing (OUTBOUND_QUERY of CONFIG)."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class SetNodes:
    """Where nodes take translated packets, and so send their answers from; no port: any.

    A TCP packet of the internal side from there that neither a flow knows nor begins a connection
    comes up as OF_NODE, at a limited rate; RSTs are dropped.  Spared are packets to the target's
    own addresses, and connections of which the other end's packets passed the target, addressed to
    the node itself: as many are remembered as fit, the oldest yields.
    """

    places: frozenset[VirtualServerKey]


@dataclass(frozen=True, slots=True)
class SetAnswers:
    """What a target answers for the virtual addresses that it owns: those that ARP is answered for
    and that are not addresses of the machine.  A target begins with both."""

    echo: bool = True
    unserved: bool = True  # ports without a virtual server come up, at a limited rate


@dataclass(frozen=True, slots=True)
class SetCookies:
    """What the cookies of a group's proxied virtual servers are made with from now on.

    `secrets`: four, of 16 octets each, by their number modulo 4; b"" makes no cookie valid.  New
    cookies are made with the one at `current`, modulo 4.  Until this came, SYNs to the group's
    proxied virtual servers are dropped (`drop_cookie`).
    """

    group_id: int
    current: int
    secrets: tuple[bytes, bytes, bytes, bytes]
    mss_less: int = 0  # octets; the MSS announced is so much less than Ethernet's
    ecn: bool = True  # agreed with clients that ask for it


class InstallFlow(NamedTuple):
    """Enter both directions, or replace the entry with this signature.

    The same serial is an update and keeps the counters; another serial is another flow and
    starts them at zero (a closed entry that lingers is replaced this way).  Another flow is
    `half_open` from now on if its first packet is a SYN (9.7), whatever becomes of that packet.
    Where the update ends `held`, the connection is established and nothing is known of its numbers
    yet.

    The agent `begins` a connection that it has from its client's first segment: a flow with the
    same serial is then one that the target has entered meanwhile by an answer to a question of its
    own.  That one stays as it is, and FlowIsThere says so.
    """

    entry: FlowEntry
    half_open: bool = False
    begins: bool = False


class RemoveFlow(NamedTuple):
    """Take both directions out; nothing happens if there is none.

    With `silent_ms` only an entry that lingers, and only if no packet came for as long; otherwise
    it stays, and FlowReopened says whether it still lingers.  A switch is not asked about silence.

    With `serial` only the flow that has it: another one may have taken a grant meanwhile.  Targets
    that take no grants may ignore it.
    """

    signature: FlowSignature
    silent_ms: int = 0
    serial: int = 0


class FallAsleep(NamedTuple):
    """This TCP flow was taken out although its connection may go on: its node's next packet comes
    up as ASLEEP and is not routed with the node's own address; ICMP errors from there about it are
    dropped.  InstallFlow wakes it.  As many are remembered as fit, the oldest yields."""

    entry: FlowEntry


class InjectPacket(NamedTuple):
    """Process a packet that came up before as if it arrived now, on the interface it came from.

    A packet that matches no flow entry then is dropped and counted; it does not come up again.
    """

    packet: PacketIn


class PutBackFragment(NamedTuple):
    """Process an early fragment as if it arrived now, whether a flow matches or not.

    It is dropped and counted if its first fragment is still unknown.
    """

    fragment: EarlyFragment


class AskingPath(NamedTuple):
    """Whom a target asks by itself about new flows, and how (PARKED, 6.8; seals, 12.4)."""

    cs_ipaddr: bytes
    cs_port: int
    own_ipaddr: bytes
    own_port: int
    sealing_key: bytes
    opening_key: bytes


@dataclass(frozen=True, slots=True)
class Offload:
    """What the target does by itself from now on for the flows of a group; nothing at first.

    With `ends` it writes the DELETE of a flow that closed, or that stayed half-open for too long,
    and takes the entry out once it has lingered (9.2, 9.8): FinishedMessages instead of FlowClosed
    and FlowIdle.  With `path` it asks the CS about a packet that begins a flow and carries the
    REPLY out, where it can (`asking`); the rest comes up as ever.  With `shared` it gives each such
    REPLY as a FinishedMessages too, for the standbys (11.3).
    """

    group_id: int
    ends: bool = False
    path: AskingPath | None = None
    shared: bool = False


class LeaveToAgent(NamedTuple):
    """A CS refused this flow: for so long its packets come up although the target asks."""

    signature: FlowSignature
    hold_ms: int


class TransmitPacket(NamedTuple):
    """Send an IP packet of the agent's own (RST, ICMP error, a bridged packet) by route lookup."""

    octets: bytes


Setting = SetLocalAddresses | SetOutboundQuery | SetNodes | SetAnswers | SetCookies
"""What there is one of, or one of a group."""

Configure = AddVirtualServer | RemoveVirtualServer | Offload | LeaveToAgent | Setting
"""What is changed rarely."""

Command = (
    Configure
    | InstallFlow
    | RemoveFlow
    | FallAsleep
    | InjectPacket
    | PutBackFragment
    | TransmitPacket
    | GrantCommand
)

PACKET_COMMANDS: Final = (InstallFlow, InjectPacket, PutBackFragment, TransmitPacket)
"""What lets packets go that have waited.  Nothing that is sent says that it was carried out; of
what is removed, or void, a CS is told, and may then count on it."""

# --- events: target -> agent ---------------------------------------------------------------


class PacketIn(NamedTuple):
    """A packet that only the agent can place.  Its checksums were verified by the target.

    `signature` is read from the packet (ports from the first fragment if it is a later one).
    `frame` is the whole frame with its link header.  `interface` is the target's own number.
    `virtual_server` is the key that matched, None for OUTBOUND.
    """

    reason: int
    signature: FlowSignature
    tcp_flags: int
    interface: int
    frame: bytes
    virtual_server: VirtualServerKey | None


class EarlyFragment(NamedTuple):
    """A later fragment whose first one, which has the ports, did not come yet."""

    interface: int
    frame: bytes


class FlowClosed(NamedTuple):
    """The fourth step of a TCP close, or a valid RST (9.7).  The entry stays until RemoveFlow,
    so that late packets are still translated (LINGER)."""

    state: FlowState
    cause: int


class FlowReopened(NamedTuple):
    """A flow that was reported as closed goes on (9.7); or, if its state says that it is closed, an
    entry that was to be taken out still has packets."""

    state: FlowState


class FlowIdle(NamedTuple):
    """No packet in either direction for the flow's idle timeout (CLOSE_TIMEOUT if closing), or none
    of the client's for the shorter timeout of half-open flows."""

    state: FlowState


class FlowLooping(NamedTuple):
    """The flow's client, node or next hop is an address of this DFS now, and was not when it was
    entered: its packets would come back."""

    state: FlowState


class FlowMoved(NamedTuple):
    """The flow had packets since the last `stats` sweep."""

    state: FlowState


class FlowHalf(NamedTuple):
    """An earlier agent died and left only the node's direction of a flow.  It goes on until
    InstallFlow completes it or RemoveFlow takes it out."""

    signature: FlowSignature


FINISHED_VERSION: Final = 2
"""Of what a target writes and reads by itself (Offload)."""


class FinishedMessages(NamedTuple):
    """What the target wrote for a group's CS in that version, back to back (Offload): DELETEs of
    flows that ended, or REPLYs that it carried out."""

    group_id: int
    msg_type: int
    octets: bytes


class FlowIsThere(NamedTuple):
    """What the agent was to begin (InstallFlow) the target has already; nothing was changed."""

    entry: FlowEntry  # that the agent wanted


class InstallFailed(NamedTuple):
    """A flow could not be entered; nothing of it is installed."""

    entry: FlowEntry
    table_full: bool
    reason: str
    half_open: bool = False  # as InstallFlow has it


Event = (
    PacketIn
    | EarlyFragment
    | FlowClosed
    | FlowReopened
    | FlowIdle
    | FlowLooping
    | FlowMoved
    | FlowHalf
    | InstallFailed
    | FlowIsThere
    | FinishedMessages
    | GrantEvent
)

# --- the target ----------------------------------------------------------------------------


class Counter(NamedTuple):
    """A named counter; `normal` says whether an operator may see it rise without worry."""

    value: int
    normal: bool
    meaning: str


class Target(Protocol):
    """What every target offers.  Nothing here blocks for longer than a system call, except where a
    target has to ask a switch: what looks at flows then waits up to 0.1 s, `counters` up to 0.3 s,
    `close` up to some seconds (docs/design/0004-p4runtime.md)."""

    @property
    def flow_capacity(self) -> int:
        """How many flows fit (each with both directions)."""

    @property
    def adopted(self) -> bool:
        """Whether the table was there before this process: the agent keeps its boot_id then."""

    @property
    def boot_id(self) -> int:
        """Lives as long as the table does; never 0."""

    @property
    def knows_nodes(self) -> bool:
        """Whether SetNodes changes anything."""

    @property
    def makes_cookies(self) -> bool:
        """Whether it can serve `proxied` virtual servers and hold flows; the others are asked
        neither, and get no SetCookies."""

    @property
    def takes_grants(self) -> bool:
        """Whether it gives decisions that were made ahead to new flows by itself."""

    def apply(self, commands: Iterable[Command]) -> None:
        """Carry out the commands in order; failures of InstallFlow come as InstallFailed."""

    def events(self) -> Sequence[Event]:
        """What happened since the last call, at most a few hundred; empty when nothing did."""

    def fileno(self) -> int:
        """A descriptor that polls readable while `events` has something; -1 if there is none."""

    def late_fileno(self) -> int:
        """A descriptor that polls readable while `events` has something that may wait for
        companions (BATCH_DELAY, 6.8); -1 if there is none."""

    @property
    def offloads(self) -> bool:
        """Whether Offload changes anything."""

    def asking(self, group_id: int) -> str:
        """Who asks about new flows of a group: "" the target itself, or why it leaves that to the
        agent."""

    def serial_key(self) -> bytes:
        """The key of `ssmb.serials.derived`, by which a flow that both might ask about has one
        serial; b"" if the target never asks."""

    def renewed(self, session: Session) -> int:
        """What distinguishes the serial of a session's next UDP flow (xor with the slot of time, 32
        bits) from that of one that was taken out a moment ago; 0 if none was."""

    def has_asked(self, session: Session) -> bool:
        """Whether it has asked about a client's first segment of this session (`app_type`) within
        ASKED_S.  As many are remembered as fit, the oldest yields."""

    def parked(self, frame: bytes) -> tuple[int, bytes]:
        """The interface and the frame that a QUERY of the target's own carried."""

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        """The flow with this signature (its tos does not matter)."""

    def virtual_servers(self) -> Sequence[VirtualServerEntry]:
        """The installed virtual servers (a new agent reads what it adopts)."""

    def sweep(self, limit: int, *, stats: bool) -> bool:
        """Look at up to `limit` further entries of the table; True when a pass is complete.

        Emits FlowIdle for each idle flow, FlowClosed for one that closed while no agent ran,
        and with `stats` FlowMoved for each flow that had packets since the previous pass with
        `stats`.  A flow is reported at most once per pass, and one call of `events` takes what a
        call of `sweep` finds: what waits longer may not be true any more.
        """

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        """Up to `limit` flows after `cursor` (None: from the start) and the next cursor
        (None: that was all).  Flows present throughout a scan are returned exactly once."""

    def oldest(self, count: int) -> Sequence[FlowState]:
        """Candidates to evict, best first: closed, half-open, then longest idle, closing last
        (9.8)."""

    def grant_states(self) -> Sequence[GrantState]:
        """What it holds of grants; also a new agent reads it, and ends what it adopts."""

    def flow_count(self) -> int:
        """How many flows are installed now."""

    def counters(self) -> Mapping[str, Counter]:
        """Every counter of the target by its name."""

    def close(self, *, detach: bool) -> None:
        """Let go.  Without `detach` the data path goes on and a later process adopts it."""
