# SPDX-License-Identifier: Apache-2.0
"""Every number of SSMB: message types, flags, codes, sizes and times (wire protocol 5 and 6).

Names are the protocol's, units come last.  Only sizes are computed from anything else here.
"""

from enum import IntEnum, IntFlag
from typing import Final

SSMB_PORT: Final = 61019
MULTICAST_GROUP: Final = "239.191.0.19"
MULTICAST_GROUP6: Final = "ff12::191:19"
VERSIONS: Final = (1, 2)

TCP: Final = 6  # of a flow signature: IANA's protocol numbers
UDP: Final = 17
PROTOCOL_NAMES: Final = {TCP: "tcp", UDP: "udp"}
PROTOCOLS: Final = {name: number for number, name in PROTOCOL_NAMES.items()}

SEAL_SIZE: Final = 16  # counter 8, tag 8
SSMB_DGRAM_MAX: Final = 1452  # 1500 less IPv6 and UDP headers: one MAC frame (checklist C6)
SSMB_MSG_MAX: Final = SSMB_DGRAM_MAX - SEAL_SIZE
APP_DATA_MAX: Final = 1376
PARKED_FRAME_MAX: Final = 512
BRIDGE_DATA_MAX: Final = 1416  # a multiple of 8, as fragment offsets of IP are
SINGLE_MBUF_MAX: Final = 128
GRANT_DATA_MAX: Final = SSMB_MSG_MAX - 48  # behind the fixed part of a GRANT
GRANT_NODES_MAX: Final = 64  # of a virtual server at one DFS, so that an index is an octet
GRANTED_MAX: Final = 1024  # decisions of a virtual server that a DFS holds and has not taken
GRANT_TABLE_MAX: Final = 16384
TAKEN_FLOWS_MAX: Final = 27  # in one TAKEN

QUERY_RETRY_MS: Final = (50, 100, 200)  # a CS may set the first of them
QUERY_REPEATS: Final = len(QUERY_RETRY_MS)
NO_CS_HOLD_MS: Final = 3000
REAP_RETRY_MS: Final = 1000
REAP_TRIES: Final = 3
RESET_RETRY_MS: Final = 200
RESET_TRIES: Final = 5
NEG_HOLD_MS: Final = 1000
LIMIT_HOLD_MS: Final = 200
LINGER_MS: Final = 2000
BATCH_DELAY_MS: Final = 10
TCP_IDLE_TIMEOUT_S: Final = 300
UDP_IDLE_TIMEOUT_S: Final = 60
CLOSE_TIMEOUT_S: Final = 240  # RFC 5382 5 asks for four minutes at least
CLOSE_TIMEOUT_ONE_WAY_S: Final = 60  # where the node's packets do not pass the DFS
STATS_INTERVAL_S: Final = 60
FLOW_BUFFER_MAX: Final = 16384
AUTH_WAIT_S: Final = 5
RECHALLENGE_S: Final = 600
BRIDGE_REASSEMBLY_S: Final = 1.0
GRANT_VALID_MS: Final = 50
LEASE_INTERVAL_MS: Final = 10
LEASE_RETRY_MS: Final = 50
GRANT_RETRY_MS: Final = 10
TAKEN_RETRY_MS: Final = 30

DSCP_HIGH: Final = 48  # CS6
DSCP_LOW: Final = 16  # CS2


class MessageType(IntEnum):
    """Table I (FIG. 4); 64 and above are this project's."""

    QUERY = 1
    REPLY = 2
    APP_QUERY = 3
    NEWFLOW = 4
    DELETE = 5
    REAP = 6
    TIMEOUT = 7
    STATS = 8
    RESET = 9
    AUTH_CHALLENGE = 10
    AUTH_RESPONSE = 11
    SYNC = 64
    FLOW_STATE = 65
    SYNC_DONE = 66
    APP_NOTIFY = 67
    BRIDGE = 68
    GRANT = 69
    TAKEN = 70
    LEASE = 71
    HEARTBEAT = 72


FIRST_EXPERIMENTAL_TYPE: Final = 128  # unknown from here on: ignored silently

# Table I's columns (checklist D)
HIGH_PRIORITY: Final = frozenset(
    {
        MessageType.QUERY,
        MessageType.REPLY,
        MessageType.APP_QUERY,
        MessageType.NEWFLOW,
        MessageType.RESET,
        MessageType.BRIDGE,
        MessageType.GRANT,
        MessageType.LEASE,
        MessageType.HEARTBEAT,
    }
)
BATCHABLE: Final = frozenset(
    {
        MessageType.DELETE,
        MessageType.REAP,
        MessageType.TIMEOUT,
        MessageType.STATS,
        MessageType.FLOW_STATE,
    }
)
STATE_SHARING: Final = frozenset(
    {
        MessageType.REPLY,
        MessageType.NEWFLOW,
        MessageType.DELETE,
        MessageType.RESET,
        MessageType.APP_NOTIFY,
        MessageType.GRANT,
        MessageType.TAKEN,
        MessageType.HEARTBEAT,
    }
)
DFS_SENDS: Final = frozenset(
    {
        MessageType.QUERY,
        MessageType.APP_QUERY,
        MessageType.DELETE,
        MessageType.STATS,
        MessageType.RESET,
        MessageType.AUTH_RESPONSE,
        MessageType.FLOW_STATE,
        MessageType.SYNC_DONE,
        MessageType.APP_NOTIFY,
        MessageType.BRIDGE,
        MessageType.GRANT,
        MessageType.TAKEN,
        MessageType.LEASE,
        MessageType.HEARTBEAT,
    }
)
CS_SENDS: Final = frozenset(
    {
        MessageType.REPLY,
        MessageType.NEWFLOW,
        MessageType.REAP,
        MessageType.TIMEOUT,
        MessageType.RESET,
        MessageType.AUTH_CHALLENGE,
        MessageType.SYNC,
        MessageType.BRIDGE,
        MessageType.GRANT,
        MessageType.LEASE,
        MessageType.HEARTBEAT,
    }
)


class Flag(IntFlag):
    """FIG. 7; 16 bits."""

    OUTBOUND = 0x0001
    ADD_TCP_OFFSETS = 0x0002
    TRANSLATE_ADDR = 0x0004
    TRANSLATE_PORT = 0x0008
    ROUTE_BY_DST_IP = 0x0010
    TRANSLATE_SRC = 0x0020
    PROXY_SERVER = 0x0040
    HAS_STATS = 0x0080
    RETRY = 0x0100
    TRUNCATED = 0x0200
    ACK = 0x0400
    MORE_FRAGS = 0x0800
    PARKED = 0x1000
    INSIDE = 0x2000
    ADDR16 = 0x4000
    REPLICA = 0x8000


NODE_FLAGS: Final = int(
    Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.TRANSLATE_SRC | Flag.ROUTE_BY_DST_IP
)
"""What a decision for a node says about the packets of its flow: of a GRANT's nodes (13.3), and of
a REPLY that a target carries out by itself."""

FLOW_FLAGS: Final = NODE_FLAGS | int(Flag.OUTBOUND | Flag.ADD_TCP_OFFSETS)
"""What a REPLY says about them in all (9.4)."""


class ErrorCode(IntEnum):
    """FIG. 8; 16 and above are this project's."""

    OK = 0
    UNKNOWN = 1
    NOTAVAIL = 2
    CONNLIMIT = 3
    CONNALIVE = 4
    NOFLOW = 16
    NODEFAIL = 17
    NORESOURCE = 18
    BADMSG = 19
    NOTAUTH = 20
    BUSY = 21
    WAIT = 22
    MORE = 23


class AppType(IntEnum):
    """`detail` of APP_QUERY and APP_NOTIFY."""

    SSL_SESSION_ID = 1
    COOKIE = 2
    HTTP_REQUEST = 3


class Asking(IntEnum):
    """`detail` of QUERY: about a new flow, or again about one that is installed."""

    NEW = 0
    UNANSWERED = 1  # its node has never answered
    SILENT = 2  # its node has answered, but not what the client sent last
    HALF_OPEN = 3  # likewise, and the client has not acknowledged any answer (9.7)


class Carrier(IntEnum):
    """`detail` of NEWFLOW: who carries the flow's packets (15.4)."""

    DFS = 0
    CS = 1


class CloseReason(IntEnum):
    """`detail` of DELETE, and of a REAP that ends a flow at once."""

    UNSPECIFIED = 0
    FIN = 1
    RST = 2
    IDLE = 3
    OVERFLOW = 4
    REAPED = 5
    NODE_FAIL = 6
    CLIENT_ABORT = 7
    ADMIN = 8


class ResetReason(IntEnum):
    """`detail` of RESET."""

    UNSPECIFIED = 0
    BOOT = 1
    ADMIN = 2
    TAKEOVER_FAILED = 3


class ResetScope(IntEnum):
    """`reset_scope`: every flow, or those of the sender's group."""

    ALL = 0
    GROUP = 1


class ForwardMode(IntEnum):
    """How a packet gets to its node."""

    NAT = 0
    L2 = 1
    TUNNEL = 2
    HOP = 3


class GrantKind(IntEnum):
    """`kind` of GRANT: how a DFS finds the node of a decision (13.3)."""

    NODES = 0  # the decision names it
    HASH = 1  # by the table, from the hash of the session's key
    HASH_SOURCE = 2  # likewise, from that of the client's address
    CLIENTS = 3  # the one that this client has


class GrantContent(IntEnum):
    """`content` of GRANT: what stands behind its nodes (13.3)."""

    DECISIONS = 0
    TABLE = 1
    CLIENTS = 2


class HeartbeatRole(IntEnum):
    """`role` of HEARTBEAT: what its CS is for its group (11.8)."""

    STANDBY = 0
    CLAIMING = 1
    ACTIVE = 2


class AuthAlgorithm(IntEnum):
    """`auth_alg`; 0 is for laboratories only."""

    NONE = 0
    HMAC_SHA_256 = 1
