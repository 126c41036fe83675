# SPDX-License-Identifier: Apache-2.0
"""Every number of CSMB: message types, flags, codes, sizes and times (wire protocol 5 and 7).

Names are the protocol's, units come last.
"""

from enum import Enum, IntEnum, IntFlag
from typing import Final

CSMB_PORT: Final = 61019

HEADER_SIZE: Final = 8  # msg_type, serial_global, serial_bytype, msg_length
SMALLEST_MESSAGE: Final = 12  # GET_VS_LIST: the header and flags, which every message has
CSMB_MSG_MAX: Final = 1440  # msg_length at most: one TCP segment on any usual path
VS_TOTAL_MAX: Final = 0xFFFF  # virtual servers of a group: VS_LIST counts them in 16 bits (7.4)
SEAL_SIZE: Final = 8  # behind each message once authenticated; not counted in msg_length
HELLO_SIZE: Final = 48  # frozen for all versions (7.4)
HELLO_SIZE_V2: Final = 80  # with the tail of 16-octet addresses
NODE_SIZE: Final = 20  # of a node in NODES: address (16), port, protocol, reserved
KNOCK_SIZE: Final = 32  # behind that tail, in a CS's unsealed HELLO (12.7)

HELLO_INTERVAL_S: Final = 5
DEAD_INTERVALS: Final = 3  # without traffic: either side closes
AUTH_WAIT_S: Final = 5.0
RETRY_MIN_S: Final = 1.0  # connect back-off, doubling
RETRY_DUPID_S: Final = 5.0  # a CS's, refused because its segment_id is connected
RETRY_MAX_S: Final = 30.0  # also after giving up a negotiation (7.8)

SERIAL_MODULUS: Final = 1 << 16
CS_ID_MAX: Final = 127  # seven bits of it go into SSMB serials (6.7)
DFS_ID_MIN: Final = 256
SEGMENT_ID_MAX: Final = 0xFFFF
ROLE_EPOCH_MAX: Final = 0xFFFF_FFFF


class Role(Enum):
    """Which end of the connection."""

    CS = "cs"
    DFS = "dfs"


class MessageType(IntEnum):
    """Table IV (FIG. 10)."""

    HELLO = 1
    AUTH_CHALLENGE = 2
    AUTH_RESPONSE = 3
    AUTH_RESULT = 4
    CONFIG = 5
    ADD_VS = 6
    DEL_VS = 7
    VS_LIST = 8
    GET_VS_LIST = 9
    ACK = 10
    NODES = 11


PROBE_TYPE: Final = 127  # never used for anything: every receiver answers UNSUPPORTED (7.1)
FIRST_IGNORED_TYPE: Final = 128  # unknown from here on: ignored silently; below: UNSUPPORTED

CS_SENDS: Final = frozenset(MessageType) - {MessageType.AUTH_RESPONSE, MessageType.GET_VS_LIST}
DFS_SENDS: Final = frozenset(
    {MessageType.HELLO, MessageType.AUTH_RESPONSE, MessageType.GET_VS_LIST, MessageType.ACK}
)
ACKNOWLEDGED: Final = frozenset(
    {
        MessageType.CONFIG,
        MessageType.ADD_VS,
        MessageType.DEL_VS,
        MessageType.VS_LIST,
        MessageType.NODES,
    }
)
# A skipped serial_bytype of these would mean a virtual server missed (7.7, rule 7)
VIRTUAL_SERVER_TYPES: Final = frozenset(
    {MessageType.ADD_VS, MessageType.DEL_VS, MessageType.VS_LIST}
)


class Flag(IntFlag):
    """FIG. 15; 32 bits, one space for all messages."""

    TRANSLATE_ADDR = 0x00000001
    TRANSLATE_PORT = 0x00000002
    ROUTE_BY_DST_IP = 0x00000004
    REDUNDANT = 0x00000008
    APP_PROXY = 0x00000010
    WILDCARD_ADDR = 0x00000020
    WILDCARD_PORT = 0x00000040
    NOARP_MODE = 0x00000080
    SSL_PROXY = 0x00000100
    COOKIE_PROXY = 0x00000200
    HTTP_PROXY = 0x00000400
    RAW_PROXY = 0x00000800
    CS_ASSIST = 0x00001000
    HYBRID = 0x00002000
    ACTIVE = 0x00004000
    MORE = 0x00008000
    SSMB_MAC = 0x00010000
    SYNC_CAP = 0x00020000
    BRIDGE_ENCAP = 0x00040000
    APP_NOTIFY_CAP = 0x00080000
    OUTBOUND_QUERY = 0x00100000
    TRANSCRIPT = 0x00200000
    GRANTS = 0x00400000
    HEARTBEATS = 0x00800000
    NODES = 0x01000000


class ErrorCode(IntEnum):
    """FIG. 16; 16 and above are this project's."""

    OK = 0
    VERS_NEW = 1
    VERS_OBSOLETE = 2
    AUTHFAIL = 16
    NOTAUTH = 17
    BADMSG = 18
    UNSUPPORTED = 19
    BADFLAGS = 20
    NOVS = 21
    NORESOURCE = 22
    NOTACTIVE = 23
    DUPID = 24
    DUPADDR = 25
