# SPDX-License-Identifier: Apache-2.0
"""One named tuple per message; fields by wire name, in wire order (FIGS. 5, 6 and 9).

The message type is the codec's.  Named tuples, because QUERY and REPLY are
the hot path of the product and `_make` on the unpacked octets is the cheapest value that Python has
(docs/design/0001).  Fields are plain integers; `ssmb.constants` names their values.
Addresses are 16 octets.  `frame` is what PARKED appends.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias

from ssmb.addresses import UNSPECIFIED

# A field's type and its format on the wire, as `struct` has it, with the reserved octets behind the
# field (`x`).  `a` is an address, 4 octets in version 1 and 16 in version 2.
Address: TypeAlias = Annotated[bytes, "a"]
Octets32: TypeAlias = Annotated[bytes, "32s"]
U8: TypeAlias = Annotated[int, "B"]
U16: TypeAlias = Annotated[int, "H"]
U32: TypeAlias = Annotated[int, "I"]
U64: TypeAlias = Annotated[int, "Q"]
S8: TypeAlias = Annotated[int, "b"]
Data: TypeAlias = Annotated[bytes, "H"]
"""At the end of a message, padded to four octets; its length stands among the fields."""
Rest: TypeAlias = Annotated[bytes, ""]
"""What is left of the datagram (PARKED)."""


class Session(NamedTuple):
    """A flow signature without its type of service, which no table looks up (docs/design/0001)."""

    src_ipaddr: bytes
    dst_ipaddr: bytes
    src_port: int
    dst_port: int
    protocol: int

    @property
    def opposite(self) -> Session:
        """The ends of packets of the other direction."""
        src, dst, src_port, dst_port, protocol = self
        return Session(dst, src, dst_port, src_port, protocol)


class FlowSignature(NamedTuple):
    """The sextuple of checklist B2 and B3; `tos` is the first packet's, ECN cleared."""

    src_ipaddr: bytes
    dst_ipaddr: bytes
    src_port: int
    dst_port: int
    protocol: int
    tos: int = 0

    @property
    def session(self) -> Session:
        """What both flow tables look up: the signature without its type of service."""
        return Session._make(self[:5])


class _FlowMessage:
    """What every message about one flow has."""

    __slots__ = ()

    @property
    def signature(self) -> FlowSignature:
        """The flow that the message is about."""
        return FlowSignature._make(self[3:9])  # type: ignore[index]

    @property
    def session(self) -> Session:
        """The signature without its type of service."""
        return Session._make(self[3:8])  # type: ignore[index]


class Translation(NamedTuple):
    """What a REPLY says to do with a flow's packets, in wire order."""

    node_ipaddr: Address = UNSPECIFIED
    snat_ipaddr: Address = UNSPECIFIED
    node_port: U16 = 0
    snat_port: U16 = 0
    next_hop_ipaddr: Address = UNSPECIFIED
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    idle_timeout: U16 = 0
    wscale_shift: S8 = 0
    forward_mode: U8 = 0


TRANSLATION_FIELDS: Final = slice(11, 11 + len(Translation._fields))
"""Where REPLY, NEWFLOW and FLOW_STATE have the fields of a Translation."""


class _TranslationMessage(_FlowMessage):
    """What every message that carries a decision has."""

    __slots__ = ()

    @property
    def translation(self) -> Translation:
        """What to do with the flow's packets."""
        return Translation._make(self[TRANSLATION_FIELDS])  # type: ignore[index]


class _QueryFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    timestamp: U32 = 0
    frame: Rest = b""


class Query(_QueryFields, _FlowMessage):
    """QUERY: the DFS asks what to do with a new flow."""

    __slots__ = ()


class _ReplyFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    node_ipaddr: Address = UNSPECIFIED
    snat_ipaddr: Address = UNSPECIFIED
    node_port: U16 = 0
    snat_port: U16 = 0
    next_hop_ipaddr: Address = UNSPECIFIED
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    idle_timeout: U16 = 0
    wscale_shift: S8 = 0
    forward_mode: U8 = 0
    frame: Rest = b""


class Reply(_ReplyFields, _TranslationMessage):
    """REPLY: what to do; carries the whole signature, also with an error (10.3)."""

    __slots__ = ()


class _AppQueryFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    timestamp: U32 = 0
    app_data: Annotated[bytes, "Hxx"] = b""
    frame: Rest = b""


class AppQuery(_AppQueryFields, _FlowMessage):
    """APP_QUERY: QUERY with the application data that the DFS took from the client.

    With PARKED there are none, and the payload of `frame` has what the client said (15.2).
    """

    __slots__ = ()


class _NewFlowFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    node_ipaddr: Address = UNSPECIFIED
    snat_ipaddr: Address = UNSPECIFIED
    node_port: U16 = 0
    snat_port: U16 = 0
    next_hop_ipaddr: Address = UNSPECIFIED
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    idle_timeout: U16 = 0
    wscale_shift: S8 = 0
    forward_mode: U8 = 0


class NewFlow(_NewFlowFields, _TranslationMessage):
    """NEWFLOW: what to do with a flow that the CS originated."""

    __slots__ = ()


class _DeleteFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    timestamp: U32 = 0
    idle_ms: U32 = 0
    pkts_in: U64 = 0
    bytes_in: U64 = 0
    pkts_out: U64 = 0
    bytes_out: U64 = 0
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    wscale_shift: Annotated[int, "b3x"] = 0


class Delete(_DeleteFields, _FlowMessage):
    """DELETE: a flow ended at the DFS, with its counters."""

    __slots__ = ()


class _ReapFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    idle_limit: U32 = 0


class Reap(_ReapFields, _FlowMessage):
    """REAP: the CS wants a flow to end unless it had a packet within `idle_limit` ms; with a
    `detail`, at once."""

    __slots__ = ()


class _TimeoutFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    idle_limit: U32 = 0


class Timeout(_TimeoutFields, _FlowMessage):
    """TIMEOUT: the CS believes that a flow's idle time has run out."""

    __slots__ = ()


class _StatsFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    timestamp: U32 = 0
    idle_ms: U32 = 0
    pkts_in: U64 = 0
    bytes_in: U64 = 0
    pkts_out: U64 = 0
    bytes_out: U64 = 0
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    wscale_shift: Annotated[int, "b3x"] = 0


class Stats(_StatsFields, _FlowMessage):
    """STATS: cumulative counters; with CONNALIVE the answer to REAP and TIMEOUT."""

    __slots__ = ()


class Reset(NamedTuple):
    """RESET: delete all flows (of the scope); with ACK its acknowledgement."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    reset_id: U32 = 0
    reset_scope: U8 = 0
    detail: Annotated[int, "Bxx"] = 0


class AuthChallenge(NamedTuple):
    """AUTH_CHALLENGE: prove that you have the key (section 12)."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    auth_alg: Annotated[int, "Bx"] = 1
    auth_length: U16 = 32
    challenge_id: U32 = 0
    auth_data: Octets32 = bytes(32)


class AuthResponse(NamedTuple):
    """AUTH_RESPONSE: the proof."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    auth_alg: Annotated[int, "Bx"] = 1
    auth_length: U16 = 64
    challenge_id: U32 = 0
    auth_data: Octets32 = bytes(32)
    auth_nonce: Octets32 = bytes(32)


class Sync(NamedTuple):
    """SYNC: report every flow of the sender's group."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    sync_id: U32 = 0
    flow_count: U32 = 0


class _FlowStateFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    node_ipaddr: Address = UNSPECIFIED
    snat_ipaddr: Address = UNSPECIFIED
    node_port: U16 = 0
    snat_port: U16 = 0
    next_hop_ipaddr: Address = UNSPECIFIED
    seq_offset: U32 = 0
    ack_offset: U32 = 0
    ts_offset: U32 = 0
    idle_timeout: U16 = 0
    wscale_shift: S8 = 0
    forward_mode: U8 = 0
    timestamp: U32 = 0
    idle_ms: U32 = 0


class FlowState(_FlowStateFields, _TranslationMessage):
    """FLOW_STATE: one installed flow."""

    __slots__ = ()


class SyncDone(NamedTuple):
    """SYNC_DONE: the report is complete; the number of flows."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    sync_id: U32 = 0
    flow_count: U32 = 0


class _AppNotifyFields(NamedTuple):
    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    src_ipaddr: Address = UNSPECIFIED
    dst_ipaddr: Address = UNSPECIFIED
    src_port: U16 = 0
    dst_port: U16 = 0
    protocol: U8 = 0
    tos: U8 = 0
    tcp_flags: U8 = 0
    detail: U8 = 0
    timestamp: U32 = 0
    app_data: Annotated[bytes, "Hxx"] = b""


class AppNotify(_AppNotifyFields, _FlowMessage):
    """APP_NOTIFY: application data of an established flow."""

    __slots__ = ()


class Bridge(NamedTuple):
    """BRIDGE: a piece of an IP packet (8.4)."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    packet_id: U32 = 0
    frag_offset: U16 = 0
    frag_data: Data = b""


class Grant(NamedTuple):
    """GRANT: decisions ahead for flows of a virtual server, or none any more; with ACK its
    confirmation (13.3)."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    virt_ipaddr: Address = UNSPECIFIED
    virt_port: U16 = 0
    protocol: U8 = 0
    kind: U8 = 0
    generation: U32 = 0
    lease_id: U32 = 0
    part: U32 = 0
    first: U32 = 0
    content: U8 = 0
    node_count: U8 = 0
    grant_data: Data = b""


class Taken(NamedTuple):
    """TAKEN: which flows took which granted serials, and which serials come back (13.4)."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    lease_id: U32 = 0
    sequence: U32 = 0
    timestamp: U32 = 0
    taken_data: Annotated[bytes, "Hxx"] = b""


class Lease(NamedTuple):
    """LEASE: the DFS asks how long it may use grants; the CS answers, and confirms TAKEN (13.2)."""

    error_code: U8 = 0
    flags: U16 = 0
    serial: U32 = 0
    lease_id: U32 = 0
    timestamp: U32 = 0
    sequence: U32 = 0
    valid_ms: Annotated[int, "Hxx"] = 0


class Heartbeat(NamedTuple):
    """HEARTBEAT: a CS is alive: its role, what it reaches, and digests of what it holds (11.8)."""

    error_code: U8 = 0
    flags: U16 = 0
    role_epoch: U32 = 0
    segment_id: U16 = 0
    group_id: U16 = 0
    boot_id: U32 = 0
    reach: U8 = 0
    total: U8 = 0
    role: U8 = 0
    successor: U8 = 0
    interval_ms: Annotated[int, "Hxx"] = 0
    flow_count: U32 = 0
    config_digest: U32 = 0
    flow_digest: U64 = 0
    nonce: U64 = 0
    echo: U64 = 0


Message: TypeAlias = (
    Query
    | Reply
    | AppQuery
    | NewFlow
    | Delete
    | Reap
    | Timeout
    | Stats
    | Reset
    | AuthChallenge
    | AuthResponse
    | Sync
    | FlowState
    | SyncDone
    | AppNotify
    | Bridge
    | Grant
    | Taken
    | Lease
    | Heartbeat
)
