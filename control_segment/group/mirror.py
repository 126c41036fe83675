# SPDX-License-Identifier: Apache-2.0
"""The copy that a standby has of the active CS's state (wire protocol 11.3, docs/design/0009).

Copies of REPLY and NEWFLOW enter flows as SYNC does (`Notices`), and so do those of TAKEN, with
what the copies of GRANT said of its nodes.  DELETE and RESET are the same for every CS.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from control_segment.grant_books import EARLY_MAX
from control_segment.wire import (
    KEY_END,
    TRANSLATION_START,
    dst_port_of,
    session_key,
    signature_of,
    snat_port_of,
    taken_flows,
    without_client,
)
from ssmb.codec import decode
from ssmb.constants import GRANTED_MAX, GrantContent
from ssmb.errors import MalformedMessage
from ssmb.grants import GrantNode, decision_octets, following_all, nodes_of, snat_ports
from ssmb.messages import FlowState, Grant, Message, NewFlow, Reply, Taken
from ssmb.serials import is_cs_originated

if TYPE_CHECKING:
    from control_segment.flows import Flow
    from control_segment.notices import Decided, Notices
    from control_segment.peers import Peer

GENERATIONS_MAX: Final = 4  # of a virtual server, whose grants may still be taken
REPLY_FIELDS: Final = len(NewFlow._fields)  # up to the translation: as FLOW_STATE has them
ENDED_MAX: Final = 4 * GRANTED_MAX
SEQUENCES_MAX: Final = 2 * EARLY_MAX
OUTSTANDING_MAX: Final = 64 * GRANTED_MAX


class _Nodes:
    """Those of one generation of a virtual server, by their index."""

    __slots__ = ("by_place",)

    def __init__(self) -> None:
        self.by_place: dict[int, GrantNode] = {}


class GrantCopies:
    """What the active CS has granted to one DFS, by serial."""

    __slots__ = ("_ended", "_generations", "_lease_id", "_sequences", "outstanding")

    def __init__(self) -> None:
        self._lease_id = 0
        self._sequences: OrderedDict[int, None] = OrderedDict()  # of TAKENs that were carried out
        self._ended: OrderedDict[int, None] = OrderedDict()  # by a DELETE, before their TAKEN
        # By virtual server, the newest last
        self._generations: dict[tuple[bytes, int, int], dict[int, _Nodes]] = {}
        # The nodes, of which its TAKEN names one, and the source port
        self.outstanding: dict[int, tuple[_Nodes, int]] = {}

    def add(self, grant: Grant) -> bool:
        """Take a copy of a GRANT; False: it says nothing that can be used."""
        self._follow_lease(grant.lease_id)
        server = grant.virt_ipaddr, grant.virt_port, grant.protocol
        generations = self._generations.setdefault(server, {})
        nodes = generations.get(grant.generation)
        if nodes is None:
            nodes = generations[grant.generation] = _Nodes()
        while len(generations) > GENERATIONS_MAX:
            del generations[min(generations)]
        try:
            nodes.by_place.update((node.place, node) for node in nodes_of(grant))
            if grant.content != GrantContent.DECISIONS:
                return True
            ports = snat_ports(decision_octets(grant))
        except MalformedMessage:
            return False
        serials = following_all(grant.serial, len(ports))
        outstanding = self.outstanding
        if any(ports):
            outstanding.update(
                (serial, (nodes, port)) for serial, port in zip(serials, ports, strict=True)
            )
        else:
            outstanding.update(dict.fromkeys(serials, (nodes, 0)))
        while len(outstanding) > OUTSTANDING_MAX:
            del outstanding[next(iter(outstanding))]
        return True

    def _follow_lease(self, lease_id: int) -> None:
        if lease_id != self._lease_id:
            self._lease_id = lease_id
            self._generations.clear()
            self.outstanding.clear()
            self._sequences.clear()
            self._ended.clear()

    def is_new(self, taken: Taken) -> bool:
        """Whether a TAKEN is to be carried out: the DFS repeats those that the active CS has not
        confirmed (13.4), in any order."""
        self._follow_lease(taken.lease_id)
        if taken.sequence in self._sequences:
            return False
        self._sequences[taken.sequence] = None
        if len(self._sequences) > SEQUENCES_MAX:
            self._sequences.popitem(last=False)
        return True

    def ended(self, serial: int) -> None:
        """A flow's DELETE has come; its TAKEN may be late."""
        if self.outstanding.pop(serial, None) is not None:
            self._ended[serial] = None
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)

    def has_ended(self, serial: int) -> bool:
        """Whether that is why it is not known."""
        return serial in self._ended

    def returned(self, serial: int, count: int) -> None:
        """So many grants, from this serial on, were not taken."""
        for each in following_all(serial, min(count or 1, GRANTED_MAX)):
            self.outstanding.pop(each, None)


class Mirror:
    """Carries out the copies of what others decided.

    Nearly all of them are about flows whose signature stands for nothing yet.  What those have in
    common is looked up once in a batch of datagrams, in which no configuration changes.
    """

    def __init__(self, notices: Notices, by_key: dict[bytes, Flow]) -> None:
        self._notices = notices
        self._by_key = by_key
        self.lacks_grants = False  # flows took grants whose nodes this CS was never told
        self._grants: dict[int, GrantCopies] = {}  # by the DFS's segment id
        self._known: dict[tuple[int, _Nodes, int, bytes], Decided] = {}
        self._known_replies: dict[tuple[int, bytes], Decided] = {}

    def begin_batch(self) -> None:
        """Forget what was looked up in another one."""
        if self._known or self._known_replies:
            self._known.clear()
            self._known_replies.clear()

    def decided(self, peer: Peer, message: Reply | NewFlow, now: float) -> None:
        """A copy of REPLY or NEWFLOW."""
        if message.error_code:
            return  # no flow came of it
        key = session_key(*message[3:8])
        self._notices.mirrored(peer, key, _reported(message), now)

    def replied(self, peer: Peer, octets: bytes, now: float) -> None:
        """The same of a REPLY that `is_copied_reply`."""
        key = octets[8:KEY_END]
        if key in self._by_key:
            self._notices.mirrored(peer, key, _reported(decode(octets, 2)), now)
            return
        if not self._notices.has_room():
            return
        known = peer.segment_id, without_client(octets)
        decided = self._known_replies.get(known)
        if decided is None:
            state = _reported(decode(octets, 2))
            decided = self._known_replies[known] = self._notices.described(peer, key, state)
        serial = int.from_bytes(octets[4:8], "big")
        port = snat_port_of(octets[TRANSLATION_START:])
        self._notices.mirrored_as(peer, key, serial, decided, port, now)

    def granted(self, peer: Peer, grant: Grant) -> bool:
        """A copy of GRANT; False: it cannot be used."""
        if grant.node_count:
            self.lacks_grants = False
        return self._copies_of(peer).add(grant)

    def _copies_of(self, peer: Peer) -> GrantCopies:
        copies = self._grants.get(peer.segment_id)
        if copies is None:
            copies = self._grants[peer.segment_id] = GrantCopies()
        return copies

    def ended(self, peer: Peer, serial: int) -> None:
        """DELETE: a TAKEN that it has overtaken says nothing new."""
        if is_cs_originated(serial):
            self._copies_of(peer).ended(serial)

    def taken(self, peer: Peer, taken: Taken, now: float) -> int:
        """A copy of TAKEN; return how many of its flows are not known here."""
        copies = self._copies_of(peer)
        if not copies.is_new(taken):
            return 0
        outstanding, by_key, notices = copies.outstanding, self._by_key, self._notices
        looked_up, segment_id = self._known, peer.segment_id
        unknown = 0
        for error, serial, key, place, number in taken_flows(taken.taken_data):
            if error:
                copies.returned(serial, number)
                continue
            found = outstanding.pop(serial, None)
            if found is None:
                unknown += not copies.has_ended(serial)
                continue
            nodes, snat_port = found
            node = nodes.by_place.get(place)
            if node is None:
                unknown += 1
                continue
            if key in by_key:
                notices.mirrored(peer, key, _state(node, serial, key, snat_port), now)
                continue
            if not notices.has_room():
                continue
            # A node that keeps its client's port may be another one for another port
            port = b"" if node.translation.node_port else dst_port_of(key)
            known = segment_id, nodes, place, port
            decided = looked_up.get(known)
            if decided is None:
                state = _state(node, serial, key, snat_port)
                decided = looked_up[known] = notices.described(peer, key, state)
            notices.mirrored_as(peer, key, serial, decided, snat_port, now)
        self.lacks_grants |= unknown > 0
        return unknown


def _reported(message: Message) -> FlowState:
    """What a DFS would report of a flow that a REPLY or NEWFLOW is about."""
    assert isinstance(message, Reply | NewFlow)
    return FlowState._make((*message[:REPLY_FIELDS], 0, 0))


def _state(node: GrantNode, serial: int, key: bytes, snat_port: int) -> FlowState:
    """What a DFS would report of a flow that took a grant."""
    translation = node.translation
    if snat_port:
        translation = translation._replace(snat_port=snat_port)
    head = 0, node.flags, serial, *signature_of(key), 0, 0
    return FlowState._make((*head, *translation, 0, 0))
