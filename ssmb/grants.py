# SPDX-License-Identifier: Apache-2.0
"""What stands in GRANT and TAKEN, by position (wire protocol 13.3 and 13.4).

    GRANT   nodes, 72 octets each   index flags translation | decisions, 4 each   index snat_port
            0     2     4           72                        0     2
                                                              or table entries, 1 each: index
                                                              or clients, 20 each: address index s
    TAKEN   flows, 52 each          type error flags serial | signature | tcp_flags detail | time
            0    1     2     4      | 8           46 | 46        47     | 48        52

A flow of TAKEN has the layout of a QUERY of version 2, so that a data path that can write the one
can write the other, and a CS can read it without taking it apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ssmb.codec import TAKEN_FLOW_SIZE, struct_of
from ssmb.constants import ErrorCode, Flag, GrantContent, MessageType
from ssmb.errors import MalformedMessage
from ssmb.messages import FlowSignature, Grant, Translation

_TRANSLATION: Final = struct_of(Translation, 2)
_NODE_HEAD: Final = struct.Struct(">HH")
NODE_SIZE: Final = _NODE_HEAD.size + _TRANSLATION.size
_DECISION: Final = struct.Struct(">HH")
_CLIENT: Final = struct.Struct(">16sHH")
DECISION_SIZE: Final = _DECISION.size
CLIENT_SIZE: Final = _CLIENT.size
_FLOW: Final = struct.Struct(">BBHI16s16sHHBBBBI")
_TAKEN: Final = int(MessageType.TAKEN)
_ADDR16: Final = int(Flag.ADDR16)
FLOW_SIZE: Final = TAKEN_FLOW_SIZE
_WORD24: Final = 0x00FF_FFFF
_AHEAD: Final = 1 << 23
SUPERSEDED: Final = int(ErrorCode.UNKNOWN)
"""`error_code` of a TAKEN's flow that says what never came (13.4)."""


class GrantNode(NamedTuple):
    """What is to be done with the packets of flows that a decision sends to this node."""

    place: int  # its index
    flags: int  # as in a REPLY
    translation: Translation  # its snat_port is the decision's


class Decision(NamedTuple):
    """One flow's decision; its serial follows from its place."""

    node: int  # index; ignored where `kind` finds the node otherwise
    snat_port: int


class GrantClient(NamedTuple):
    """The node that a client has, and for how many seconds that is good."""

    address: bytes
    node: int
    seconds: int


class TakenFlow(NamedTuple):
    """A granted serial that was used, or comes back."""

    error_code: int  # 0: taken; otherwise why it comes back
    serial: int
    signature: FlowSignature
    tcp_flags: int
    detail: int  # the index of the node
    timestamp: int  # of one that comes back: how many, from `serial` on


def following(serial: int, count: int) -> int:
    """Return the serial *count* after one of a CS: 24 bits count, the others stay (6.7)."""
    return serial & ~_WORD24 | (serial + count) & _WORD24


def following_all(serial: int, count: int) -> Sequence[int]:
    """Return *count* consecutive serials of a CS, from this one on (6.7)."""
    before_end = _WORD24 + 1 - (serial & _WORD24)
    if count <= before_end:
        return range(serial, serial + count)
    start = serial & ~_WORD24
    return [*range(serial, serial + before_end), *range(start, start + count - before_end)]


def is_after(serial: int, other: int) -> bool:
    """Whether a CS gave it after another one; *other* 0: after none."""
    return not other or 0 < ((serial - other) & _WORD24) < _AHEAD


# --- GRANT -----------------------------------------------------------------------------------


def pack_nodes(nodes: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return the nodes of a GRANT: index, flags, and the octets of the translation (6.4)."""
    return b"".join(_NODE_HEAD.pack(index, flags) + octets for index, flags, octets in nodes)


def pack_decisions(decisions: Iterable[tuple[int, int]]) -> bytes:
    """Return the decisions of a GRANT: node index and snat_port."""
    return b"".join(_DECISION.pack(*decision) for decision in decisions)


def pack_clients(clients: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Return the clients of a GRANT: address, node index, seconds."""
    return b"".join(_CLIENT.pack(*client) for client in clients)


def nodes_of(grant: Grant) -> list[GrantNode]:
    """Return the nodes of a GRANT; MalformedMessage if they do not fit into it."""
    data, nodes = grant.grant_data, []
    if grant.node_count * NODE_SIZE > len(data):
        raise MalformedMessage(f"GRANT: {grant.node_count} nodes in {len(data)} octets")
    for start in range(0, grant.node_count * NODE_SIZE, NODE_SIZE):
        index, flags = _NODE_HEAD.unpack_from(data, start)
        octets = _TRANSLATION.unpack_from(data, start + _NODE_HEAD.size)
        nodes.append(GrantNode(index, flags, Translation._make(octets)))
    return nodes


def node_octets(grant: Grant) -> dict[int, bytes]:
    """Return the nodes of a GRANT as they stand in it, by their index; none that is cut off."""
    data = grant.grant_data
    found = {}
    for start in range(0, min(grant.node_count, len(data) // NODE_SIZE) * NODE_SIZE, NODE_SIZE):
        found[_NODE_HEAD.unpack_from(data, start)[0]] = data[start : start + NODE_SIZE]
    return found


def behind_nodes(grant: Grant) -> bytes:
    """Return what stands behind the nodes of a GRANT."""
    return grant.grant_data[grant.node_count * NODE_SIZE :]


def _body(grant: Grant, content: GrantContent, size: int) -> bytes:
    body = behind_nodes(grant)
    if grant.content != content or len(body) % size:
        raise MalformedMessage(f"GRANT: {len(body)} octets are no {content.name.lower()}")
    return body


def decision_octets(grant: Grant) -> bytes:
    """Return the decisions of a GRANT as they stand in it; MalformedMessage if it has something
    else."""
    return _body(grant, GrantContent.DECISIONS, DECISION_SIZE)


def unpack_decisions(octets: bytes) -> list[Decision]:
    """Return whole decisions that stand one behind the other."""
    return [Decision._make(each) for each in _DECISION.iter_unpack(octets)]


def snat_ports(octets: bytes) -> Sequence[int]:
    """Return the source ports of whole decisions that stand one behind the other, 0 where there is
    none."""
    return [port for _, port in _DECISION.iter_unpack(octets)]


def decisions_of(grant: Grant) -> list[Decision]:
    """Return the decisions of a GRANT; MalformedMessage if it has something else."""
    return unpack_decisions(decision_octets(grant))


def table_of(grant: Grant) -> bytes:
    """Return the table entries of a GRANT, an octet each, from its `first` on."""
    return _body(grant, GrantContent.TABLE, 1)


def clients_of(grant: Grant) -> list[GrantClient]:
    """Return the clients of a GRANT; MalformedMessage if it has something else."""
    body = _body(grant, GrantContent.CLIENTS, CLIENT_SIZE)
    return [GrantClient._make(each) for each in _CLIENT.iter_unpack(body)]


# --- TAKEN -----------------------------------------------------------------------------------


def pack_taken(flow: TakenFlow) -> bytes:
    """Return the octets of one flow of a TAKEN."""
    error_code, serial, signature, tcp_flags, detail, timestamp = flow
    head = _TAKEN, error_code, _ADDR16, serial
    return _FLOW.pack(*head, *signature, tcp_flags, detail, timestamp)


def pack_returned(error_code: int, serial: int, count: int) -> bytes:
    """Return the octets that give back *count* serials from *serial* on."""
    nobody = FlowSignature(bytes(16), bytes(16), 0, 0, 0)
    return pack_taken(TakenFlow(error_code, serial, nobody, 0, 0, count))


def pack_superseded(serial: int, server: FlowSignature, generation: int) -> bytes:
    """Return the octets that say what was the last to come before a generation of a virtual server
    (as a destination): `serial`, 0 for nothing."""
    return pack_taken(TakenFlow(SUPERSEDED, serial, server, 0, 0, generation))


def flows_of(taken_data: bytes) -> Sequence[TakenFlow]:
    """Return the flows of a TAKEN; a rest that is no whole flow is passed over."""
    flows = []
    whole = len(taken_data) - len(taken_data) % FLOW_SIZE
    for values in _FLOW.iter_unpack(taken_data[:whole]):
        _, error_code, _, serial, *signature, tcp_flags, detail, timestamp = values
        who = FlowSignature._make(signature)
        flows.append(TakenFlow(error_code, serial, who, tcp_flags, detail, timestamp))
    return flows
