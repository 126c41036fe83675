# SPDX-License-Identifier: Apache-2.0
"""The octets that a decision touches, by position (wire protocol 6.4, version 2).

A REPLY is its QUERY with another head and a translation behind it:

    QUERY   type error flags serial | signature      | tcp_flags detail | timestamp
            0    1     2     4      | 8           46 | 46        47     | 48        52
    REPLY   type error flags serial | signature      | 0         0      | translation
            0    1     2     4      | 8           46 | 46        47     | 48       116

With PARKED the frame follows, from 52 or 116 on, the same octets in both (6.8).  DELETEs fill
datagrams of their own:

    DELETE  type error flags serial | key | tos tcp_flags detail timestamp idle_ms counters offsets
            0    1     2     4      | 8   | 45  46        47     48        52      56       88

The flows of a TAKEN have the layout of a QUERY (`ssmb.grants`).

So the hot path copies 42 octets and decodes one integer for a QUERY, and takes a DELETE apart in
one step, which costs a tenth of decoding and encoding named tuples.  A session's key is octets 8 to
45: both addresses, both ports, the protocol (not the type of service, docs/design/0001).  Version 1
and everything rare go through `ssmb.codec`; property tests check that both agree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, TypeAlias

from ssmb.codec import encode, size_of, struct_of
from ssmb.constants import PARKED_FRAME_MAX, SSMB_MSG_MAX, Flag, MessageType
from ssmb.grants import FLOW_SIZE
from ssmb.messages import Delete, FlowSignature, Reply, Translation

QUERY_SIZE: Final = size_of(MessageType.QUERY, 2)
APP_QUERY_SIZE: Final = size_of(MessageType.APP_QUERY, 2)
PARKED_QUERY_MAX: Final = QUERY_SIZE + PARKED_FRAME_MAX
KEY_SIZE: Final = 37
KEY_END: Final = 45  # in a message; it begins at 8
PROTOCOL: Final = 36  # in a session key
PORTS_AND_PROTOCOL: Final = 32
SIGNATURE_END: Final = 46
TRANSLATION_START: Final = 48
_TRANSLATION: Final = struct_of(Translation, 2)
PLACE_SIZE: Final = 36  # of a translation: the node and the source towards it, with their ports
_SNAT_PORT: Final = 34  # behind both addresses and the node's port
NO_TRANSLATION: Final = bytes(_TRANSLATION.size)

_PORTS: Final = struct.Struct(">HHB")
_HEAD: Final = struct.Struct(">BBH")
_ADDR16: Final = int(Flag.ADDR16)
_PARKED: Final = int(Flag.PARKED)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_OFFSETS: Final = ("seq_offset", "ack_offset", "ts_offset", "wscale_shift")


_DELETE: Final = struct.Struct(f">BBHI{KEY_SIZE}sBBBIIQQQQIIIb3x")
DELETE_SIZE: Final = _DELETE.size
_DELETES_MAX: Final = SSMB_MSG_MAX // DELETE_SIZE  # in a datagram
_WITH_ADDR16: Final = bytes(octet for octet in range(256) if octet & _ADDR16 >> 8)

REPLY_SIZE: Final = size_of(MessageType.REPLY, 2)
_REPLICA: Final = int(Flag.REPLICA)
_KINDS_OF_COPY: Final = (_ADDR16 | _REPLICA | _PARKED) >> 8
TAKEN_SIZE: Final = size_of(MessageType.TAKEN, 2)  # without its flows
# A flow of TAKEN: error_code, serial, session key, index of the node, number (13.4)
_TAKEN_FLOW: Final = struct.Struct(f">xB2xI{KEY_SIZE}s2xBI")

# A DELETE: its type, error_code, flags, serial, session key, and everything from tos on in order
Ended: TypeAlias = tuple[Any, ...]
# What a REPLY adds to its QUERY: the first four octets, and those from 48 on
Answer: TypeAlias = tuple[bytes, bytes]


# The other parts of a session key, by slices that are literals: what compiles these modules makes
# nothing of others (docs/design/0014)


def src_of(key: bytes) -> bytes:
    """Return the address of a session's client."""
    return key[:16]


def dst_of(key: bytes) -> bytes:
    """Return the address of its virtual server."""
    return key[16:32]


def src_port_of(key: bytes) -> bytes:
    """Return the client's port, two octets."""
    return key[32:34]


def dst_port_of(key: bytes) -> bytes:
    """Return the virtual server's port, two octets."""
    return key[34:36]


def dst_port_and_protocol_of(key: bytes) -> bytes:
    """Return three octets, by which virtual servers are looked up too."""
    return key[34:37]


def pack_translation(translation: Translation) -> bytes:
    """Return the octets of a REPLY from TRANSLATION_START on."""
    return _TRANSLATION.pack(*translation)


def unpack_translation(octets: bytes) -> Translation:
    """Return what `pack_translation` packed."""
    return Translation._make(_TRANSLATION.unpack(octets))


def with_snat_port(tail: bytes, number: int) -> bytes:
    """Return packed octets of a translation with another source port (6.4)."""
    return tail[:_SNAT_PORT] + number.to_bytes(2, "big") + tail[_SNAT_PORT + 2 :]


def reply_head(error_code: int, flags: int) -> bytes:
    """Return the first four octets of a version-2 REPLY."""
    return _HEAD.pack(MessageType.REPLY, error_code, flags | _ADDR16)


def head_flags(head: bytes) -> int:
    """Return the flags of a REPLY's head, ADDR16 aside."""
    return int.from_bytes(head[2:4], "big") & ~_ADDR16


def session_key(
    src_ipaddr: bytes, dst_ipaddr: bytes, sport: int, dport: int, protocol: int
) -> bytes:
    """Return octets 8 to 45 of a message about such a flow."""
    return src_ipaddr + dst_ipaddr + _PORTS.pack(sport, dport, protocol)


def signature_of(key: bytes, tos: int = 0) -> FlowSignature:
    """Return the signature that a session key stands for."""
    src_port, dst_port, protocol = _PORTS.unpack_from(key, PORTS_AND_PROTOCOL)
    return FlowSignature(src_of(key), dst_of(key), src_port, dst_port, protocol, tos)


def proxied(answer: Answer) -> Answer:
    """The same for a DFS that makes the connection to the node itself (15.3): it computes the
    offsets of a flow anew, if there were any."""
    head, tail = answer
    if head[1]:
        return answer
    if head[3] & _ADD_TCP_OFFSETS:
        fields = unpack_translation(tail)._asdict() | dict.fromkeys(_OFFSETS, 0)
        tail = pack_translation(Translation(**fields))
    return _with_proxy(head), tail


@lru_cache(maxsize=256)
def _with_proxy(head: bytes) -> bytes:
    flags = head_flags(head) & ~_ADD_TCP_OFFSETS | int(Flag.PROXY_SERVER)
    return reply_head(head[1], flags)


@lru_cache(maxsize=256)  # flags of virtual servers, error codes: there are not many
def _parked(head: bytes) -> bytes:
    """The same head of a REPLY that returns a frame."""
    return reply_head(head[1], head_flags(head) | _PARKED)


def are_deletes(octets: bytes) -> bool:
    """Whether a datagram is whole DELETEs of version 2, and nothing else."""
    count, rest = divmod(len(octets), DELETE_SIZE)
    return (
        not rest
        and count <= _DELETES_MAX
        and octets[::DELETE_SIZE].count(MessageType.DELETE) == count > 0
        and not octets[2::DELETE_SIZE].translate(None, _WITH_ADDR16)
    )


def deletes(octets: bytes) -> Iterator[Ended]:
    """Take such a datagram apart."""
    return _DELETE.iter_unpack(octets)


def is_copied_reply(octets: bytes) -> bool:
    """Whether a datagram is a REPLY of version 2 with REPLICA, without a frame, that refuses
    nothing."""
    return (
        len(octets) == REPLY_SIZE
        and octets[0] == MessageType.REPLY
        and not octets[1]
        and octets[2] & _KINDS_OF_COPY == (_ADDR16 | _REPLICA) >> 8
    )


def is_copied_taken(octets: bytes) -> bool:
    """Whether a datagram begins with a TAKEN with REPLICA, and so is one."""
    return (
        len(octets) > TAKEN_SIZE
        and octets[0] == MessageType.TAKEN
        and bool(octets[2] & _REPLICA >> 8)
    )


def without_client(octets: bytes) -> bytes:
    """Return what such a REPLY has in common with those to other clients of its virtual server that
    went to the same node: all but serial, client, and source port."""
    return octets[2:4] + octets[24:40] + octets[42:45] + octets[48:82] + octets[84:REPLY_SIZE]


def snat_port_of(tail: bytes) -> int:
    """Return the source port of packed octets of a translation."""
    return int.from_bytes(tail[_SNAT_PORT : _SNAT_PORT + 2], "big")


def taken_flows(octets: bytes) -> Iterator[tuple[int, int, bytes, int, int]]:
    """Take the flows of a TAKEN apart (13.4): error_code, serial, session key, index of the node,
    number.  A rest that is no whole flow is passed over."""
    return _TAKEN_FLOW.iter_unpack(octets[: len(octets) - len(octets) % FLOW_SIZE])


def taken_flow(serial: int, key: bytes, place: int) -> bytes:
    """Return the octets of one that took its grant, with the index of its node."""
    return _TAKEN_FLOW.pack(0, serial, key, place, 0)


def ended(delete: Delete) -> Ended:
    """Return the same of a decoded DELETE, of either version."""
    return MessageType.DELETE, *delete[:3], session_key(*delete[3:8]), *delete[8:]


def reply_octets(query: bytes, head: bytes, tail: bytes) -> bytes:
    """Return the version-2 REPLY to a version-2 QUERY, with its frame if it has one (PARKED); or
    to an APP_QUERY with a frame."""
    if query[0] == MessageType.APP_QUERY:
        frame = query[APP_QUERY_SIZE:]
        return _parked(head) + query[4:SIGNATURE_END] + b"\0\0" + tail + frame
    if len(query) == QUERY_SIZE:
        return head + query[4:SIGNATURE_END] + b"\0\0" + tail
    return _parked(head) + query[4:SIGNATURE_END] + b"\0\0" + tail + query[QUERY_SIZE:]


def slow_reply(
    signature: FlowSignature, serial: int, head: bytes, tail: bytes, *, version: int, frame: bytes
) -> bytes:
    """Return a REPLY of either version, with a PARKED frame if there was one."""
    flags = head_flags(head) | (Flag.PARKED if frame else 0)
    fields = (head[1], flags, serial, *signature, 0, 0, *unpack_translation(tail), frame)
    return encode(Reply._make(fields), version)
