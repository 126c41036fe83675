# SPDX-License-Identifier: Apache-2.0
"""The copy that a standby has of the active CS's state (wire protocol 11.3, docs/design/0009).

Copies of REPLY and NEWFLOW enter flows as SYNC does (`Notices`), and so do those of TAKEN, with
what the copies of GRANT said of its nodes.  DELETE and RESET are the same for every CS.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from control_segment.grant_books import EARLY_MAX
from control_segment.wire import session_key
from ssmb.constants import GRANTED_MAX, GrantContent
from ssmb.errors import MalformedMessage
from ssmb.grants import GrantNode, TakenFlow, decisions_of, flows_of, following, nodes_of
from ssmb.messages import FlowState, Grant, NewFlow, Reply, Taken
from ssmb.serials import is_cs_originated

if TYPE_CHECKING:
    from control_segment.notices import Notices
    from control_segment.peers import Peer

GENERATIONS_MAX: Final = 4  # of a virtual server, whose grants may still be taken
REPLY_FIELDS: Final = len(NewFlow._fields)  # up to the translation: as FLOW_STATE has them
ENDED_MAX: Final = 4 * GRANTED_MAX
SEQUENCES_MAX: Final = 2 * EARLY_MAX
OUTSTANDING_MAX: Final = 64 * GRANTED_MAX


class GrantCopies:
    """What the active CS has granted to one DFS, by serial."""

    __slots__ = ("_ended", "_generations", "_lease_id", "_outstanding", "_sequences")

    def __init__(self) -> None:
        self._lease_id = 0
        self._sequences: OrderedDict[int, None] = OrderedDict()  # of TAKENs that were carried out
        self._ended: OrderedDict[int, None] = OrderedDict()  # by a DELETE, before their TAKEN
        # By virtual server, the newest last: the nodes of each generation by their index
        self._generations: dict[tuple[bytes, int, int], dict[int, dict[int, GrantNode]]] = {}
        self._outstanding: dict[int, tuple[dict[int, GrantNode], int]] = {}

    def add(self, grant: Grant) -> bool:
        """Take a copy of a GRANT; False: it says nothing that can be used."""
        self._follow_lease(grant.lease_id)
        server = grant.virt_ipaddr, grant.virt_port, grant.protocol
        generations = self._generations.setdefault(server, {})
        nodes = generations.setdefault(grant.generation, {})
        while len(generations) > GENERATIONS_MAX:
            del generations[min(generations)]
        try:
            nodes.update((node.place, node) for node in nodes_of(grant))
            if grant.content != GrantContent.DECISIONS:
                return True
            decisions = decisions_of(grant)
        except MalformedMessage:
            return False
        for number, decision in enumerate(decisions):
            self._outstanding[following(grant.serial, number)] = nodes, decision.snat_port
        while len(self._outstanding) > OUTSTANDING_MAX:
            del self._outstanding[next(iter(self._outstanding))]
        return True

    def _follow_lease(self, lease_id: int) -> None:
        if lease_id != self._lease_id:
            self._lease_id = lease_id
            self._generations.clear()
            self._outstanding.clear()
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

    def taken(self, flow: TakenFlow) -> tuple[GrantNode, int] | None:
        """Return the node and the source port of a flow that took a grant; None: unknown."""
        found = self._outstanding.pop(flow.serial, None)
        node = None if found is None else found[0].get(flow.detail)
        return None if found is None or node is None else (node, found[1])

    def ended(self, serial: int) -> None:
        """A flow's DELETE has come; its TAKEN may be late."""
        if self._outstanding.pop(serial, None) is not None:
            self._ended[serial] = None
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)

    def has_ended(self, serial: int) -> bool:
        """Whether that is why it is not known."""
        return serial in self._ended

    def returned(self, serial: int, count: int) -> None:
        """So many grants, from this serial on, were not taken."""
        for number in range(min(count or 1, GRANTED_MAX)):
            self._outstanding.pop(following(serial, number), None)


class Mirror:
    """Carries out the copies of what others decided."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self.lacks_grants = False  # flows took grants whose nodes this CS was never told
        self._grants: dict[int, GrantCopies] = {}  # by the DFS's segment id

    def decided(self, peer: Peer, message: Reply | NewFlow, now: float) -> None:
        """A copy of REPLY or NEWFLOW."""
        if message.error_code:
            return  # no flow came of it
        key = session_key(*message[3:8])
        state = FlowState._make((*message[:REPLY_FIELDS], 0, 0))
        self._notices.mirrored(peer, key, state, now)

    def granted(self, peer: Peer, grant: Grant) -> bool:
        """A copy of GRANT; False: it cannot be used."""
        if grant.node_count:
            self.lacks_grants = False
        return self._copies_of(peer).add(grant)

    def _copies_of(self, peer: Peer) -> GrantCopies:
        return self._grants.setdefault(peer.segment_id, GrantCopies())

    def ended(self, peer: Peer, serial: int) -> None:
        """DELETE: a TAKEN that it has overtaken says nothing new."""
        if is_cs_originated(serial):
            self._copies_of(peer).ended(serial)

    def taken(self, peer: Peer, taken: Taken, now: float) -> int:
        """A copy of TAKEN; return how many of its flows are not known here."""
        copies = self._copies_of(peer)
        unknown = 0
        if not copies.is_new(taken):
            return 0
        for flow in flows_of(taken.taken_data):
            if flow.error_code:
                copies.returned(flow.serial, flow.timestamp)
                continue
            found = copies.taken(flow)
            if found is None:
                unknown += not copies.has_ended(flow.serial)
                continue
            node, snat_port = found
            translation = node.translation
            if snat_port:
                translation = translation._replace(snat_port=snat_port)
            head = 0, node.flags, flow.serial, *flow.signature, 0, 0
            state = FlowState._make((*head, *translation, 0, 0))
            self._notices.mirrored(peer, session_key(*flow.signature[:5]), state, now)
        self.lacks_grants |= unknown > 0
        return unknown
