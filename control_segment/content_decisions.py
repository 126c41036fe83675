# SPDX-License-Identifier: Apache-2.0
"""APP_QUERY to REPLY: what a client has said, and which node is therefore its (wire protocol 15).

1. A known key and serial: a repeat, the same REPLY.  With NODEFAIL: its node failed, so that
   decision is over, and another node is chosen; nodes that failed before stay set aside.
2. A known key with another serial: another connection, for a DFS asks so only after a handshake.
   The session before is over; but from another DFS, and soon, it is the same client's octets.
3. A frame without all that decides is answered with MORE, and leaves nothing behind.

`Decisions` chooses, counts and refuses as for a QUERY.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from control_segment.content.content import session_key
from control_segment.content.said import Reading, Said, Unreadable
from control_segment.decisions import Decisions
from control_segment.flows import Flow
from control_segment.nodes import Node
from control_segment.peers import Peer
from control_segment.session_rules import goes_on
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import NO_TRANSLATION, Answer, proxied, reply_head
from ssmb.constants import AppType, ErrorCode

NODES_MAX: Final = 3  # that are tried for one connection (15.3)
FAILED_MAX: Final = 4096  # connections whose nodes failed that are remembered
_FAILED_S: Final = 10.0  # as long as a DFS tries (docs/design/0012)
_WORD32: Final = 0xFFFFFFFF
_MORE: Final = (reply_head(ErrorCode.MORE, 0), NO_TRANSLATION)
_NOTHING_SAID: Final = Said()


class Question(NamedTuple):
    """What an APP_QUERY says beside whose it is."""

    data: bytes
    frame: bytes = b""  # in place of the data (PARKED)
    has_failed: bool = False  # the node that was chosen (NODEFAIL)
    asked_at: int = 0  # the DFS's clock; with NODEFAIL it tells a question from its repeats (15.3)


class _Failed(NamedTuple):
    """The nodes that failed one connection."""

    serial: int
    nodes: tuple[Node, ...]
    at: float  # the latest of them
    asked_at: int  # the question that said so of the latest


class ContentDecisions:
    """Answers APP_QUERYs."""

    def __init__(self, decisions: Decisions, statistics: Statistics, trace: Trace) -> None:
        self._decisions = decisions
        self._by_key = decisions.table.by_key
        self._statistics = statistics
        self._note = trace.note
        self._failed: OrderedDict[bytes, _Failed] = OrderedDict()  # the latest last

    def decide_framed(
        self, peer: Peer, key: bytes, serial: int, frame: bytes, now: float
    ) -> Answer | None:
        """`decide`, for a question that has a frame and says nothing else, as nearly all do."""
        decisions = self._decisions
        is_usual = key not in self._by_key and key not in self._failed
        server = decisions.servers.match(key) if is_usual else None
        if server is None or server.content is None:
            return self.decide(peer, key, serial, Question(b"", frame), now)
        said = server.content.read_frame(frame)
        if not isinstance(said, Said):
            return self._unread(server, key, said, now)
        answer = decisions.begin(server, peer, key, serial, 0, now, said)
        return None if answer is None else proxied(answer)

    def decide(
        self, peer: Peer, key: bytes, serial: int, question: Question, now: float
    ) -> Answer | None:
        """Return what the REPLY says; None: no REPLY (the question is stale, or will be
        repeated)."""
        decisions = self._decisions
        flow = self._by_key.get(key)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = decisions.lapse(flow, now)
        if flow is not None and flow.serial == serial and flow.peer is peer:
            if not question.has_failed or self._is_answered(flow, question, now):
                return proxied(decisions.repeat(flow, now))
            return self._again(flow, peer, question, now)
        previous = 0
        if flow is not None:
            if flow.previous_serial == serial:
                self._statistics.drops["stale_query"] += 1
                return None
            if goes_on(flow, peer, decisions.servers, now, is_syn=True):
                return proxied(decisions.reattach(flow, peer, serial, now))
            self._note((now, key, "another connection: the previous session is over", ()))
            decisions.table.end(flow)
            previous = flow.serial
        return self._begin(peer, key, serial, previous, question, now)

    def _begin(
        self, peer: Peer, key: bytes, serial: int, previous: int, question: Question, now: float
    ) -> Answer | None:
        decisions = self._decisions
        server = decisions.servers.match(key)
        if server is None:
            why = "no virtual server has this address"
            return decisions.refuse(ErrorCode.UNKNOWN, key, now, why)
        said = _read(server, question)
        if not isinstance(said, Said):
            return self._unread(server, key, said, now)
        failed = self._failed_of(key, serial, now) if self._failed else ()
        if failed or question.has_failed:
            return self._begin_without(failed, server, peer, key, serial, said, now)
        answer = decisions.begin(server, peer, key, serial, previous, now, said)
        return None if answer is None else proxied(answer)

    def _unread(self, server: VirtualServer, key: bytes, read: Reading, now: float) -> Answer:
        """What the client says is no request, or there is more of it."""
        if not isinstance(read, Unreadable):
            self._note((now, key, "the frame has not all that decides: the DFS collects more", ()))
            return _MORE
        if server.content is not None:
            server.content.unreadable += 1
        return self._decisions.refuse(ErrorCode.UNKNOWN, key, now, read.why, server)

    # --- nodes that failed ---------------------------------------------------------------------

    def _is_answered(self, flow: Flow, question: Question, now: float) -> bool:
        """Whether it says again that a node failed in whose place there is another now: a repeat,
        which may also overtake the question."""
        if not self._failed_of(flow.key, flow.serial, now):
            return False
        later_ms = question.asked_at - self._failed[flow.key].asked_at & _WORD32
        return later_ms == 0 or later_ms > _WORD32 // 2

    def _again(self, flow: Flow, peer: Peer, question: Question, now: float) -> Answer | None:
        """Its node has failed the connection."""
        node, key, serial = flow.node, flow.key, flow.serial
        if node.connection_failed(serial, flow.opened, now):
            self._decisions.suspect(node, now)
        self._note((now, key, "node %s refused the connection, or did not answer", (node.name,)))
        failed = (*self._failed_of(key, serial, now), node)
        self._failed[key] = _Failed(serial, failed, now, question.asked_at)
        self._failed.move_to_end(key)
        while len(self._failed) > FAILED_MAX:
            self._failed.popitem(last=False)
        self._decisions.table.end(flow)
        if len(failed) >= NODES_MAX:
            why = f"{len(failed)} nodes failed"
            server = flow.virtual_server
            return self._decisions.refuse(ErrorCode.NOTAVAIL, key, now, why, server)
        return self._begin(peer, key, serial, 0, question, now)

    def _failed_of(self, key: bytes, serial: int, now: float) -> tuple[Node, ...]:
        """The nodes that failed a connection, and that are not to be tried again."""
        failed = self._failed.get(key)
        if failed is None:
            return ()
        if failed.serial != serial or now - failed.at > _FAILED_S:
            del self._failed[key]
            return ()
        return failed.nodes

    def _begin_without(
        self,
        failed: tuple[Node, ...],
        server: VirtualServer,
        peer: Peer,
        key: bytes,
        serial: int,
        said: Said,
        now: float,
    ) -> Answer | None:
        """Choose among the other nodes, as if these were full."""
        for node in failed:
            node.has_room = False
        try:
            answer = self._decisions.begin(server, peer, key, serial, 0, now, said, again=True)
        finally:
            for node in failed:
                node.set_connection_limit(node.connection_limit)
        return None if answer is None else proxied(answer)

    # --- what nodes say ------------------------------------------------------------------------

    def notified(
        self, peer: Peer, key: bytes, serial: int, kind: int, data: bytes, now: float
    ) -> bool:
        """APP_NOTIFY: a node has made a TLS session (15.5); False: nothing can be done with it."""
        flow = self._by_key.get(key)
        if kind != AppType.SSL_SESSION_ID or not data:
            return False
        if flow is None or flow.serial != serial or flow.peer is not peer:
            return False
        server = flow.virtual_server
        persistence = server.config.persistence
        if persistence is None or persistence.kind != "ssl_session":
            return False
        server.remember_node(session_key(data), flow.node, now)
        return True


def _read(server: VirtualServer, question: Question) -> Reading:
    """What the client says."""
    content = server.content
    if content is None:  # it is a plain one now
        return _NOTHING_SAID
    if not question.frame:
        return content.read_data(question.data)
    return content.read_frame(question.frame)
