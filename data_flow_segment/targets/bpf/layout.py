# SPDX-License-Identifier: Apache-2.0
"""The structs of bpf/shared.h as Python packs them; a test holds them to the object's BTF.

Keys are in network order throughout; values hold integers in the machine's order, ports and
addresses in the network's.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

LAYOUT_VERSION: Final = 1

FLOW_KEY: Final = struct.Struct(">16s16sHHB3x")
VIRTUAL_SERVER_KEY: Final = struct.Struct(">16sHBx")
VIRTUAL_SERVER: Final = struct.Struct("=HHB3x")
INTERFACE: Final = struct.Struct("=I6s2x16s16s")
META: Final = struct.Struct("=QIIQQ16s")
CONTROL: Final = struct.Struct("=QQQQ16s16sHHHHQ")
COOKIE_SECRETS: Final = struct.Struct("=64sHBBB3x")
CONTROL_KEY: Final = struct.Struct("=16sHH")
WINDOW: Final = struct.Struct("=IIQ256s")
REPORT: Final = struct.Struct("=HB5s120s")
REQUEST: Final = struct.Struct("=IIIHHB7x512s")
CLIENT_NETWORK: Final = struct.Struct("=8s")
QUESTIONS: Final = struct.Struct("=Qq")
DUE: Final = struct.Struct("=40sIIQ")
GRANTS: Final = struct.Struct("=IIIHBBIIQ")
GRANT_SLOT: Final = struct.Struct("=II7Q")
GRANTED: Final = struct.Struct("=IHH")
GRANTED_NODE: Final = struct.Struct("=16s16s16sHHIB7x")
GRANTED_CLIENT_KEY: Final = struct.Struct("=16sQ")
GRANTED_CLIENT: Final = struct.Struct("=QII")
GRANT_SLOTS: Final = 256
GRANT_ENTRIES: Final = 64  # of a table, in one element
NEXT_HOP_KEY: Final = struct.Struct("=16sI")
NEXT_HOP: Final = struct.Struct("=QII")
EVENT_PACKET: Final = struct.Struct("=BBBBIHHHH40s20s")
MERGE_FLOW: Final = struct.Struct("=40sQQQQIIIIHBBI")
MERGE_COUNTER: Final = struct.Struct("=QQ")

FLOW_FIELDS: Final = (
    ("new_src", "16s"),
    ("new_dst", "16s"),
    ("new_sport", "H"),
    ("new_dport", "H"),
    ("address_delta", "H"),
    ("port_delta", "H"),
    ("bits", "B"),
    ("window_shift", "b"),
    ("forward_mode", "B"),
    ("tos", "B"),
    ("seq_add", "I"),
    ("ack_add", "I"),
    ("ts_value_add", "I"),
    ("ts_echo_add", "I"),
    ("fib_ifindex", "I"),
    ("fib_dmac", "6s"),
    ("fib_smac", "6s"),
    ("fib_mtu", "H"),
    ("fib_peer", "H"),
    ("fib_expires", "Q"),
    ("last_seen", "Q"),
    ("packets", "Q"),
    ("octets", "Q"),
    ("next_seq", "I"),
    ("ack", "I"),
    ("fin_end", "I"),
    ("close", "I"),
    ("window", "H"),
    ("scale", "B"),
    ("tcp_flags", "B"),
    ("serial", "I"),
    ("opened_ms", "Q"),
    ("idle_timeout_s", "I"),
    ("group_id", "H"),
    ("flags", "H"),
    ("node_port", "H"),
    ("snat_port", "H"),
    ("ts_offset", "I"),
    ("node", "16s"),
    ("snat", "16s"),
    ("next_hop", "16s"),
    ("gap_from", "I"),
    ("gap_to", "I"),
)
"""Name and `struct` code of each member of struct flow, in order, without holes."""

FLOW: Final = struct.Struct("=" + "".join(code for _, code in FLOW_FIELDS))
EVENT_CLOSED: Final = struct.Struct(f"=BBB5x{FLOW_KEY.size}s{FLOW.size}sQQQ")
FLOW_DECIDED: Final = 208
"""Where the last member ends that an entry of the flow is read from."""
FLOW_SEEN: Final = slice(88, 132)
"""The members that a decision does not change: last_seen to tcp_flags."""
FLOW_COUNTED: Final = slice(88, 112)
"""Of them last_seen, packets and octets."""

COUNTERS: Final = (
    "flow_packets",
    "passed",
    "local",
    "up_calls",
    "icmp_translated",
    "arp_answered",
    "drop_malformed",
    "drop_checksum",
    "drop_fragment",
    "drop_ttl",
    "drop_too_big",
    "drop_no_route",
    "drop_no_neighbour",
    "drop_forwarding_off",
    "drop_inject_unmatched",
    "drop_up_call_full",
    "drop_up_call_too_long",
    "drop_detached",
    "drop_no_room",
    "drop_martian",
    "drop_own_source",
    "drop_mapped",
    "drop_source_routed",
    "drop_reverse_path",
    "drop_unserved",
    "echo_answered",
    "drop_return_outside",
    "drop_tcp_flags",
    "drop_asleep",
    "drop_group_source",
    "tagged",
    "asked",
    "drop_crowded",
    "drop_node_unknown",
    "cookies_made",
    "cookie_acks",
    "drop_cookie",
    "drop_icmp_unreadable",
    "drop_bridged",
    "drop_held_rate",
    "reply_replayed",
    "reply_stale",
    "installed",
    "taken_out",
    "ended",
    "half_open_ended",
    "half_open_evicted",
    "lingering_replaced",
    "short_asked",
    "short_spliced",
    "short_left",
    "event_lost",
)
"""enum counter, in order."""

NOT_PACKETS: Final = frozenset(COUNTERS[COUNTERS.index("reply_replayed") :])
"""Those that count something else than a packet that came in."""


class FlowBit(IntFlag):
    """struct flow, bits."""

    RETURN = 1
    OFFSETS = 2
    TUNNEL = 4
    VIA_NEXT_HOP = 8
    VIA_NODE = 16
    FROM_INSIDE = 32
    SYN_LAST = 64
    HELD = 128


class CloseBit(IntFlag):
    """struct flow, close."""

    HAVE_SEQ = 1
    HAVE_ACK = 2
    OWN_FIN = 4
    OPPOSITE_FIN = 8
    OPPOSITE_FIN_ACKED = 16
    OWN_FIN_ACKED = 32
    CLOSED = 64
    BY_RST = 128
    REPORTED = 256
    OWN_RST = 512
    GAP = 1024
    GAP_FIN = 2048
    OPPOSITE_GAP = 4096


class EventKind(IntEnum):
    """First octet of a record in the ring."""

    PACKET = 1
    TTL = 2
    TOO_BIG = 3
    CLOSED = 4
    FRAGMENT = 5
    SPLIT = 6
    REOPENED = 7


class InterfaceFlag(IntFlag):
    """struct interface, flags."""

    EXTERNAL = 1
    INTERNAL = 2
    PEER = 4
    LOOSE = 8
    STRICT = 16
    TAP = 32


class Quiet(IntFlag):
    """struct meta, quiet."""

    ECHO = 1
    UNSERVED = 2


class ControlFlag(IntFlag):
    """struct control, flags."""

    ENDS = 1
    ASKS = 2
    SHARED = 4
    REFUSED = 8


class ReportKind(IntEnum):
    """struct report, kind."""

    DELETE = 1
    REPLY = 2
    TAKEN = 3
    NOTHING = 4


class VirtualServerFlag(IntFlag):
    """struct virtual_server, flags."""

    BRIDGED = 1
    ANSWER_ARP = 2
    PROXIED = 4


ADDRESS_ANSWER: Final = 1
ADDRESS_RESERVED: Final = 1
ADDRESS_OWN: Final = 2
ADDRESS_BROADCAST: Final = 4


class Key(NamedTuple):
    """struct flow_key, unpacked."""

    src: bytes
    dst: bytes
    sport: int
    dport: int
    protocol: int


class Direction(NamedTuple):
    """struct flow, unpacked; the members as FLOW_FIELDS names them."""

    new_src: bytes
    new_dst: bytes
    new_sport: int
    new_dport: int
    address_delta: int
    port_delta: int
    bits: int
    window_shift: int
    forward_mode: int
    tos: int
    seq_add: int
    ack_add: int
    ts_value_add: int
    ts_echo_add: int
    fib_ifindex: int
    fib_dmac: bytes
    fib_smac: bytes
    fib_mtu: int
    fib_peer: int
    fib_expires: int
    last_seen: int
    packets: int
    octets: int
    next_seq: int
    ack: int
    fin_end: int
    close: int
    window: int
    scale: int
    tcp_flags: int
    serial: int
    opened_ms: int
    idle_timeout_s: int
    group_id: int
    flags: int
    node_port: int
    snat_port: int
    ts_offset: int
    node: bytes
    snat: bytes
    next_hop: bytes
    gap_from: int
    gap_to: int
