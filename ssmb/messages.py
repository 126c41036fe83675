# SPDX-License-Identifier: Apache-2.0
"""One named tuple a message; fields by wire name, in wire order (FIGS. 5, 6 and 9).

The message type and the reserved fields are the codec's.  Named tuples, because QUERY and REPLY are
the hot path of the product and `_make` on the unpacked octets is the cheapest value that Python has
(docs/design/0001).  Fields are plain integers; `ssmb.constants` names their values.
Addresses are 16 octets.  `frame` is what PARKED appends.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ssmb.addresses import UNSPECIFIED


class Session(NamedTuple):
    """A flow signature without its type of service, which no table looks up (docs/design/0001)."""

    src_ipaddr: bytes
    dst_ipaddr: bytes
    src_port: int
    dst_port: int
    protocol: int


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


class _QueryFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    timestamp: int = 0
    frame: bytes = b""


class Query(_QueryFields, _FlowMessage):
    """QUERY: the DFS asks what to do with a new flow."""

    __slots__ = ()


class _ReplyFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    node_ipaddr: bytes = UNSPECIFIED
    snat_ipaddr: bytes = UNSPECIFIED
    node_port: int = 0
    snat_port: int = 0
    next_hop_ipaddr: bytes = UNSPECIFIED
    seq_offset: int = 0
    ack_offset: int = 0
    ts_offset: int = 0
    idle_timeout: int = 0
    wscale_shift: int = 0
    forward_mode: int = 0
    frame: bytes = b""


class Reply(_ReplyFields, _FlowMessage):
    """REPLY: what to do; carries the whole signature, also with an error (10.3)."""

    __slots__ = ()


class _AppQueryFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    timestamp: int = 0
    app_data: bytes = b""


class AppQuery(_AppQueryFields, _FlowMessage):
    """APP_QUERY: QUERY with the application data that the DFS took from the client."""

    __slots__ = ()


class _NewFlowFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    node_ipaddr: bytes = UNSPECIFIED
    snat_ipaddr: bytes = UNSPECIFIED
    node_port: int = 0
    snat_port: int = 0
    next_hop_ipaddr: bytes = UNSPECIFIED
    seq_offset: int = 0
    ack_offset: int = 0
    ts_offset: int = 0
    idle_timeout: int = 0
    wscale_shift: int = 0
    forward_mode: int = 0


class NewFlow(_NewFlowFields, _FlowMessage):
    """NEWFLOW: what to do with a flow that the CS originated."""

    __slots__ = ()


class _DeleteFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    timestamp: int = 0
    idle_ms: int = 0
    pkts_in: int = 0
    bytes_in: int = 0
    pkts_out: int = 0
    bytes_out: int = 0
    seq_offset: int = 0
    ack_offset: int = 0
    ts_offset: int = 0
    wscale_shift: int = 0


class Delete(_DeleteFields, _FlowMessage):
    """DELETE: a flow ended at the DFS, with its counters."""

    __slots__ = ()


class _ReapFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    idle_limit: int = 0


class Reap(_ReapFields, _FlowMessage):
    """REAP: the CS wants a flow gone unless it moved within `idle_limit` ms."""

    __slots__ = ()


class _TimeoutFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    idle_limit: int = 0


class Timeout(_TimeoutFields, _FlowMessage):
    """TIMEOUT: the CS believes that a flow's idle time has run out."""

    __slots__ = ()


class _StatsFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    timestamp: int = 0
    idle_ms: int = 0
    pkts_in: int = 0
    bytes_in: int = 0
    pkts_out: int = 0
    bytes_out: int = 0
    seq_offset: int = 0
    ack_offset: int = 0
    ts_offset: int = 0
    wscale_shift: int = 0


class Stats(_StatsFields, _FlowMessage):
    """STATS: cumulative counters; with CONNALIVE the answer to REAP and TIMEOUT."""

    __slots__ = ()


class Reset(NamedTuple):
    """RESET: delete all flows (of the scope); with ACK its acknowledgement."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    reset_id: int = 0
    reset_scope: int = 0
    detail: int = 0


class AuthChallenge(NamedTuple):
    """AUTH_CHALLENGE: prove that you have the key (section 12)."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    auth_alg: int = 1
    auth_length: int = 32
    challenge_id: int = 0
    auth_data: bytes = bytes(32)


class AuthResponse(NamedTuple):
    """AUTH_RESPONSE: the proof."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    auth_alg: int = 1
    auth_length: int = 64
    challenge_id: int = 0
    auth_data: bytes = bytes(32)
    auth_nonce: bytes = bytes(32)


class Sync(NamedTuple):
    """SYNC: tell me every flow of my group."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    sync_id: int = 0
    flow_count: int = 0


class _FlowStateFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    node_ipaddr: bytes = UNSPECIFIED
    snat_ipaddr: bytes = UNSPECIFIED
    node_port: int = 0
    snat_port: int = 0
    next_hop_ipaddr: bytes = UNSPECIFIED
    seq_offset: int = 0
    ack_offset: int = 0
    ts_offset: int = 0
    idle_timeout: int = 0
    wscale_shift: int = 0
    forward_mode: int = 0
    timestamp: int = 0
    idle_ms: int = 0


class FlowState(_FlowStateFields, _FlowMessage):
    """FLOW_STATE: one installed flow."""

    __slots__ = ()


class SyncDone(NamedTuple):
    """SYNC_DONE: that was all, so many."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    sync_id: int = 0
    flow_count: int = 0


class _AppNotifyFields(NamedTuple):
    error_code: int = 0
    flags: int = 0
    serial: int = 0
    src_ipaddr: bytes = UNSPECIFIED
    dst_ipaddr: bytes = UNSPECIFIED
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    tos: int = 0
    tcp_flags: int = 0
    detail: int = 0
    timestamp: int = 0
    app_data: bytes = b""


class AppNotify(_AppNotifyFields, _FlowMessage):
    """APP_NOTIFY: application data of an established flow."""

    __slots__ = ()


class Bridge(NamedTuple):
    """BRIDGE: a piece of an IP packet (8.4)."""

    error_code: int = 0
    flags: int = 0
    serial: int = 0
    packet_id: int = 0
    frag_offset: int = 0
    frag_data: bytes = b""


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
)
