# SPDX-License-Identifier: Apache-2.0
"""One named tuple a message; fields by wire name, in wire order (FIGS. 11, 12 and 14).

The header (msg_type, serials, msg_length), reserved fields and derived lengths and counts are the
codec's.  Addresses are 16 octets.  Fields are plain integers; `csmb.constants` names their values.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ssmb.addresses import UNSPECIFIED

_NO_OCTETS = bytes(32)


class Hello(NamedTuple):
    """HELLO: identity, capabilities and offered versions; its first 48 octets never change."""

    flags: int = 0
    error_code: int = 0
    hello_interval: int = 5
    vers_major: int = 1
    vers_minor: int = 0
    ssmb_vers_major: int = 1
    ssmb_vers_minor: int = 0
    segment_id: int = 0
    group_id: int = 0
    boot_id: int = 0
    role_epoch: int = 0
    flow_capacity: int = 0
    ssmb_ipaddr: bytes = UNSPECIFIED  # IPv4 or unset, whatever the version
    ssmb_standby_ipaddr: bytes = UNSPECIFIED
    ssmb_port: int = 0
    ssmb_standby_port: int = 0
    ssmb_ipaddr6: bytes | None = None  # None: sent without the version-2 tail
    ssmb_standby_ipaddr6: bytes | None = None

    def ssmb_address(self, ssmb_version: int) -> bytes:
        """Return where the sender takes pointcast SSMB of this (major) version."""
        if ssmb_version >= 2 and self.ssmb_ipaddr6 not in (None, UNSPECIFIED):
            return self.ssmb_ipaddr6 or UNSPECIFIED
        return self.ssmb_ipaddr

    def ssmb_standby_address(self, ssmb_version: int) -> bytes:
        """Return where state sharing goes in this (major) version, if REDUNDANT."""
        if ssmb_version >= 2 and self.ssmb_standby_ipaddr6 not in (None, UNSPECIFIED):
            return self.ssmb_standby_ipaddr6 or UNSPECIFIED
        return self.ssmb_standby_ipaddr


class AuthChallenge(NamedTuple):
    """AUTH_CHALLENGE: prove that you have the key (section 12)."""

    flags: int = 0
    auth_alg: int = 1
    auth_length: int = 32
    challenge_id: int = 0
    auth_data: bytes = _NO_OCTETS


class AuthResponse(NamedTuple):
    """AUTH_RESPONSE: the DFS's proof."""

    flags: int = 0
    auth_alg: int = 1
    auth_length: int = 64
    challenge_id: int = 0
    auth_data: bytes = _NO_OCTETS
    auth_nonce: bytes = _NO_OCTETS


class AuthResult(NamedTuple):
    """AUTH_RESULT: the verdict, with the CS's proof."""

    flags: int = 0
    error_code: int = 0
    auth_length: int = 32
    challenge_id: int = 0
    auth_data: bytes = _NO_OCTETS


class Config(NamedTuple):
    """CONFIG: addresses and times."""

    flags: int = 0
    default_gw_ipaddr: bytes = UNSPECIFIED
    ext_admin_ipaddr: bytes = UNSPECIFIED
    int_admin_ipaddr: bytes = UNSPECIFIED
    ext_shared_ipaddr: bytes = UNSPECIFIED
    int_shared_ipaddr: bytes = UNSPECIFIED
    tcp_idle_timeout: int = 300  # seconds
    udp_idle_timeout: int = 60  # seconds
    query_timeout: int = 50  # milliseconds
    stats_interval: int = 60  # seconds; 0: no periodic STATS
    flow_buffer_max: int = 16384  # octets per flow


class VsEntry(NamedTuple):
    """One virtual server, as it is in ADD_VS and VS_LIST."""

    flags: int = 0
    virt_ipaddr: bytes = UNSPECIFIED
    virt_port: int = 0
    protocol: int = 6
    next_hop_ipaddr: bytes = UNSPECIFIED
    idle_timeout: int = 0  # seconds; 0: CONFIG's
    app_limit: int = 0  # octets; 0: APP_DATA_MAX
    vs_mode: int = 0  # the forward_mode of its flows
    app_data: bytes = b""


class AddVs(NamedTuple):
    """ADD_VS: one more virtual server, or a replacement of the one with its key."""

    flags: int = 0
    virt_ipaddr: bytes = UNSPECIFIED
    virt_port: int = 0
    protocol: int = 6
    next_hop_ipaddr: bytes = UNSPECIFIED
    idle_timeout: int = 0
    app_limit: int = 0
    vs_mode: int = 0
    app_data: bytes = b""

    @property
    def entry(self) -> VsEntry:
        """The same as an element of VS_LIST."""
        return VsEntry._make(self)


class DelVs(NamedTuple):
    """DEL_VS: no new flows for this virtual server."""

    flags: int = 0
    virt_ipaddr: bytes = UNSPECIFIED
    virt_port: int = 0
    protocol: int = 6


class VsList(NamedTuple):
    """VS_LIST: (a part of) all virtual servers; complete, it replaces the group's set."""

    flags: int = 0
    vs_total: int = 0
    entries: tuple[VsEntry, ...] = ()


class GetVsList(NamedTuple):
    """GET_VS_LIST: send all virtual servers again."""

    flags: int = 0


class Ack(NamedTuple):
    """ACK: the message with these serials was obeyed, or why not."""

    flags: int = 0
    error_code: int = 0
    ack_msg_type: int = 0
    ack_serial_global: int = 0
    ack_serial_bytype: int = 0


class NodePlace(NamedTuple):
    """Where a node takes translated packets: its answers come from there."""

    address: bytes  # 16 octets
    port: int  # 0: whatever port its virtual server has
    protocol: int


class Nodes(NamedTuple):
    """NODES: (a part of) where the nodes' answers come from; complete, it replaces the group's
    set."""

    flags: int = 0
    nodes: tuple[NodePlace, ...] = ()


Message: TypeAlias = (
    Hello
    | AuthChallenge
    | AuthResponse
    | AuthResult
    | Config
    | AddVs
    | DelVs
    | VsList
    | GetVsList
    | Ack
    | Nodes
)
