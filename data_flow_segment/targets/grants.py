# SPDX-License-Identifier: Apache-2.0
"""The part of the contract that is about grants (wire protocol 13): decisions that a CS has made
ahead, and that a target gives to new flows by itself.

A target that takes grants (`Target.takes_grants`) holds for each virtual server one generation:

    ring       decisions in order, each with a serial; `head` counts those that were taken, `tail`
               those that were given.  A decision is taken by moving `head` on, atomically, if it is
               below `tail`; slot `head % GRANTED_MAX` holds it.
    nodes      GRANT_NODES_MAX places
    table      GRANT_TABLE_MAX octets, for the kinds HASH and HASH_SOURCE: indexes of nodes
    clients    address -> node and until when, for the kind CLIENTS; the oldest may yield

Everything is of fixed size and changes by position, so that a data path in a kernel can hold it in
maps.  Which packets take one, and what is counted where none is taken, is the table of 13.5.  A
flow that took one is installed as by InstallFlow, with the decision's serial.

Until when grants may be used at all is one time for each group, by the target's own clock
(`ExtendLease`): it is moved on every 10 ms.
"""

from __future__ import annotations

from typing import NamedTuple

from data_flow_segment.targets.virtual_server_key import VirtualServerKey
from ssmb.grants import GrantClient, GrantNode


class BeginGrants(NamedTuple):
    """A new generation of a virtual server, with nothing in it yet; the one before ends as by
    EndGrants.  Without a virtual server of this key nothing is ever taken."""

    key: VirtualServerKey
    group_id: int
    generation: int
    kind: int  # ssmb.constants.GrantKind
    inside: bool  # also for packets that come in by an interface of the nodes' side


class AddGrants(NamedTuple):
    """More of the current generation; ignored if it is another one.

    First the nodes, each in its place, then the decisions behind those that were given: decision i
    has the serial `ssmb.grants.following(serial, i)`.  They are as a GRANT has them, because there
    is one for every flow.  A node's next hop and idle timeout are
    resolved as in FlowEntry.  There is room: at most GRANTED_MAX are between head and tail.
    """

    key: VirtualServerKey
    generation: int
    nodes: tuple[GrantNode, ...]
    serial: int
    decisions: bytes  # whole ones; `ssmb.grants.unpack_decisions` takes them apart


class AddGrantTable(NamedTuple):
    """Entries of the table from `first` on; its size is what was given in all."""

    key: VirtualServerKey
    generation: int
    first: int
    entries: bytes


class AddGrantClients(NamedTuple):
    """Nodes of clients; their seconds count from now on."""

    key: VirtualServerKey
    generation: int
    clients: tuple[GrantClient, ...]


class EndGrants(NamedTuple):
    """Nothing of this virtual server is taken any more.  GrantsEnded follows, in its time."""

    key: VirtualServerKey


class ExtendLease(NamedTuple):
    """Grants of a group's virtual servers may be used until then: seconds of the monotonic clock
    that the target lives by; 0: not at all."""

    group_id: int
    until: float


GrantCommand = BeginGrants | AddGrants | AddGrantTable | AddGrantClients | EndGrants | ExtendLease


class GrantsTaken(NamedTuple):
    """Grants of a group's virtual servers that were taken, or taken and given back: any number of
    flows as TAKEN has them (`ssmb.grants`), 52 octets each, in any order.  Each decision below
    `head` is in exactly one GrantsTaken."""

    group_id: int
    flows: bytes


class GrantsEnded(NamedTuple):
    """A generation is over, and its `head` has moved for the last time.  GrantsTaken of flows that
    began before may still follow."""

    key: VirtualServerKey
    generation: int
    taken: int  # head


GrantEvent = GrantsTaken | GrantsEnded


class GrantCounts(NamedTuple):
    """What became of first packets to a virtual server with grants (13.5)."""

    taken: int = 0
    inside: int = 0
    old: int = 0
    unknown: int = 0
    dry: int = 0
    raced: int = 0
    full: int = 0


class GrantState(NamedTuple):
    """The current generation of a virtual server, as a target holds it."""

    key: VirtualServerKey
    group_id: int
    generation: int
    given: int  # tail
    taken: int  # head
    counts: GrantCounts  # of all its generations since the target holds any for it
