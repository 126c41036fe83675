# SPDX-License-Identifier: Apache-2.0
"""QUERY to REPLY: which node a flow gets, and why (wire protocol 6.7, 10.1, 10.3).

1. A known key and serial: a repeated QUERY, the same REPLY.
2. A known key with another serial, and no SYN: the session's next flow; the same REPLY.
3. A known key, another serial, SYN: the old session is over.  But from another DFS, and soon: the
   client's SYN again, which took another way; the same REPLY.
4. Otherwise a new session: virtual server, limits, persistence, method.
For a TCP session that is under way but unknown no node is guessed, unless the method always chooses
the same node for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from control_segment.content.said import Said
from control_segment.flows import SESSION, WAITS_FOR_ANSWER, Flow, FlowTable
from control_segment.node_choices import Choice, choose, choose_by_content, names_of
from control_segment.nodes import Node
from control_segment.pairs.teams import are_together, carry, next_holder
from control_segment.peers import Peer
from control_segment.pools import Pool
from control_segment.session_rules import Unheard, goes_on
from control_segment.source_ports import SourcePort, SourcePorts
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer, VirtualServers
from control_segment.waiting import Served, Waiter
from control_segment.wire import (
    NO_TRANSLATION,
    PROTOCOL,
    Answer,
    pack_translation,
    proxied,
    reply_head,
    src_of,
)
from ssmb.constants import TCP, Asking, ErrorCode
from ssmb.messages import Translation

_NOT_SAID: Final = (
    "the virtual server decides by what its clients say, and the DFS has not asked so"
)
_TAKEN_BACK_S: Final = 1.0  # grants, after a limit was met
SYN: Final = 0x02
SYN_ACK: Final = 0x12

_REFUSALS: Final[dict[ErrorCode, Answer]] = {
    code: (reply_head(code, 0), NO_TRANSLATION)
    for code in (ErrorCode.UNKNOWN, ErrorCode.NOTAVAIL, ErrorCode.CONNLIMIT, ErrorCode.BUSY)
}


@lru_cache(maxsize=64)
def _wait(seconds: int) -> Answer:
    """What a REPLY says to a flow that waits."""
    translation = Translation(idle_timeout=seconds)
    return reply_head(ErrorCode.WAIT, 0), pack_translation(translation)


def _nobody_judges(node: Node, now: float) -> None:
    """Until somebody does."""


class Decisions:
    """Answers QUERYs from the table of flows and the configuration in force."""

    def __init__(self, table: FlowTable, statistics: Statistics, trace: Trace) -> None:
        self.table = table
        self.servers = VirtualServers([])
        self.source_ports = SourcePorts()
        self._statistics = statistics
        self._note = trace.note
        self._by_key = table.by_key
        self._unheard = Unheard()
        self.suspect: Callable[[Node, float], None] = _nobody_judges  # `Outliers.suspect`

    def decide(
        self, peer: Peer, key: bytes, serial: int, tcp_flags: int, now: float
    ) -> Answer | None:
        """Return what the REPLY says; None: no REPLY (the QUERY will be repeated, or is stale)."""
        flow = self._by_key.get(key)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self.lapse(flow, now)
        is_syn = tcp_flags & SYN_ACK == SYN
        if flow is not None and flow.virtual_server.content is not None:
            return self._go_on_spliced(flow, peer, serial, now, is_syn=is_syn)
        if flow is not None:
            if flow.serial == serial and flow.peer is peer:
                return self.repeat(flow, now)
            if flow.previous_serial == serial:
                self._statistics.drops["stale_query"] += 1
                return None
            if goes_on(flow, peer, self.servers, now, is_syn=is_syn):
                return self.reattach(flow, peer, serial, now)
            why = "a SYN with another serial" if is_syn else "its node takes it no longer"
            self._note((now, key, "%s: the previous session is over", (why,)))
            self.table.end(flow)
        server = self.servers.match(key)
        if server is None:
            return self.refuse(ErrorCode.UNKNOWN, key, now, "no virtual server has this address")
        if server.content is not None:
            return self.refuse(ErrorCode.UNKNOWN, key, now, _NOT_SAID, server)
        is_under_way = not is_syn and key[PROTOCOL] == TCP
        if is_under_way and (peer.sync.is_running or not server.pool.method.consistent):
            return self._unknown(server, peer, key, now)
        previous = 0 if flow is None else flow.serial
        return self.begin(server, peer, key, serial, previous, now)

    def _go_on_spliced(
        self, flow: Flow, peer: Peer, serial: int, now: float, *, is_syn: bool
    ) -> Answer | None:
        """A QUERY about a session whose client was asked what it wants: it can only go on, with
        the offsets that its DFS has reported (9.8)."""
        if is_syn or flow.waits_for_offsets:
            return self.refuse(ErrorCode.UNKNOWN, flow.key, now, _NOT_SAID, flow.virtual_server)
        if flow.serial == serial and flow.peer is peer:
            return self.repeat(flow, now)
        if flow.previous_serial == serial:
            self._statistics.drops["stale_query"] += 1
            return None
        return self.reattach(flow, peer, serial, now)

    def _unknown(self, server: VirtualServer, peer: Peer, key: bytes, now: float) -> Answer | None:
        """A session is under way of which there is no record; there may be one soon."""
        if peer.sync.is_running:
            self._statistics.drops["waits_for_sync"] += 1
            return None
        if self._unheard.may_be_heard_of(key, server, peer, now):
            self._statistics.drops["waits_for_taken"] += 1
            return None
        why = "the session is under way, but the CS has no record of it"
        return self.refuse(ErrorCode.UNKNOWN, key, now, why)

    def decide_again(
        self, peer: Peer, key: bytes, serial: int, asking: int, now: float
    ) -> Answer | None:
        """About a flow that a DFS has, whose node does not answer a SYN: it stays, or moves.

        Only a node that is down loses connections that it answered once: a SYN proves nothing of
        who sent it, and a node that is draining or removed still serves its own.  One that a
        monitor finds down loses those whose handshake is not complete, also if it keeps the others.
        """
        flow = self._by_key.get(key)
        if flow is not None and flow.epoch != flow.peer.epoch:
            flow = self.lapse(flow, now)
        if flow is not None and flow.serial == serial and are_together(flow, peer):
            carry(flow, peer, still_there=True)
        if flow is None or flow.serial != serial or flow.peer is not peer:
            self._statistics.drops["stale_query"] += 1
            return None
        server, node = self.servers.match(key), flow.node
        is_waiting = asking == Asking.UNANSWERED
        if is_waiting and node.connection_waits(serial, flow.opened, now):
            self.suspect(node, now)
        stays = node.takes_new_sessions and flow.virtual_server.has(node)
        stays |= flow.virtual_server.content is not None  # nobody knows what its client said
        is_lost = node.refuses_its_sessions or (asking == Asking.HALF_OPEN and node.is_dead)
        if server is None or stays or not (is_waiting or is_lost):
            return self.repeat(flow, now)
        self._note((now, key, "node %s does not answer and takes no sessions", (node.name,)))
        self.table.end(flow)
        return self.begin(server, peer, key, serial, 0, now)

    def begin(
        self,
        server: VirtualServer,
        peer: Peer,
        key: bytes,
        serial: int,
        previous_serial: int,
        now: float,
        said: Said | None = None,
        *,
        again: bool = False,
    ) -> Answer | None:
        """A new session; *said*: by its client, if that was asked for; *again*: nodes that failed
        are set aside."""
        closed = server.why_closed_to(src_of(key))
        if closed:
            return self.refuse(ErrorCode.NOTAVAIL, key, now, closed, server)
        if server.connection_limit and server.active >= server.connection_limit:
            why = "the virtual server's connection limit is reached"
            return self._at_limit(server, peer, key, serial, now, why, said)
        if said is None:
            choice = choose(server, key, now)
        else:
            choice = choose_by_content(server, key, said, now)
        if choice.node is None:
            return self._without_node(server, peer, key, serial, now, choice, said, again=again)
        table = self.table
        if len(self._by_key) >= table.capacity and not table.make_room():
            self._statistics.drops["table_full"] += 1
            return self._at_limit(server, peer, key, serial, now, "all records are in use", said)
        reached = self._reach(server, choice.pool, choice.node, key, now)
        if reached is None:
            self._statistics.drops["no_source_port"] += 1
            return self._at_limit(server, peer, key, serial, now, "no source port is free", said)
        node, source_port, (head, tail), why = reached
        flow = Flow(key, serial, peer, server, node, head, tail, server.idle_s, now)
        flow.previous_serial = previous_serial
        flow.source_port = source_port
        table.enter(flow, now)
        table.spread(flow)
        if table.waiting:
            table.waiting.forget(server, key)
        if choice.remember_as is not None:
            self._remember(server, peer, choice.remember_as, node, now)
        if server.content is not None and not again:  # its rule has decided for it before
            server.content.count(choice.rule)
        why = f"{choice.why}{why}{choice.by_rule}"
        self._note((now, key, "virtual server %s: node %s by %s", (server.name, node.name, why)))
        return head, tail

    def _reach(
        self, server: VirtualServer, pool: Pool, node: Node, key: bytes, now: float
    ) -> tuple[Node, SourcePort | None, Answer, str] | None:
        """What a REPLY says for a node, or for another one if no source port is left for that;
        with words for the trace.  None: none is left."""
        source, ports = server.source_of(key, pool), self.source_ports
        if source is None:
            return node, None, server.answer(node), ""
        why = ""
        source_port = ports.take_for(source, server, node, key)
        if source_port is None:
            other = ports.another_node(source, server, pool, key, now)
            if other is None:
                return None
            node, why = other, ", which has no free source port, so another node by the method"
            source_port = ports.take_for(source, server, node, key)
            assert source_port is not None
        answer = server.answer_from(node, source, source_port.number)
        return node, source_port, answer, f"{why}{source.reason}"

    @staticmethod
    def _remember(server: VirtualServer, peer: Peer, client: bytes, node: Node, now: float) -> None:
        """A client has its node: for its next session, and for what its DFS may be granted."""
        server.remember_node(client, node, now)
        if peer.grants is not None and server.content is None:
            peer.grants.flow_asked(server, client, node)

    def repeat(self, flow: Flow, now: float) -> Answer:
        """A QUERY that was answered before: the same REPLY."""
        if flow.state == SESSION:
            return self.reattach(flow, flow.peer, flow.serial, now)
        if flow.state in WAITS_FOR_ANSWER:
            self.table.moved(flow, now)
        self._note((now, flow.key, "QUERY repeated: the same REPLY, node %s", (flow.node.name,)))
        return flow.head, flow.tail

    def reattach(self, flow: Flow, peer: Peer, serial: int, now: float) -> Answer:
        """The session's next flow: the same node, if that does not refuse it."""
        if flow.node.refuses_its_sessions:
            self.table.end(flow)
            return self.refuse(
                ErrorCode.NOTAVAIL, flow.key, now, "the session's node is down", flow.virtual_server
            )
        self.table.attach(flow, peer, serial, now)
        self.table.spread(flow)
        self._note((now, flow.key, "next flow of the session: node %s again", (flow.node.name,)))
        return flow.head, flow.tail

    def lapse(self, flow: Flow, now: float) -> Flow | None:
        """Carry out for one record what a RESET of its DFS means; return it if it stays."""
        peer = flow.peer
        if flow.spares and flow.epoch >= peer.sessions_since:
            holder = next_holder(flow)
            if holder is not None:
                carry(flow, holder, still_there=False, keeps_session=True)
                return flow
        keeps_session = flow.key[PROTOCOL] == TCP and flow.epoch >= peer.sessions_since
        keeps_session = keeps_session and not flow.waits_for_offsets
        flow.epoch = peer.epoch
        if flow.state == SESSION:
            if keeps_session:
                return flow
        elif keeps_session:
            self.table.detach(flow, now)
            return flow
        self._note((now, flow.key, "the DFS's flows were reset: forgotten", ()))
        self.table.end(flow)
        return None

    def _without_node(
        self,
        server: VirtualServer,
        peer: Peer,
        key: bytes,
        serial: int,
        now: float,
        choice: Choice,
        said: Said | None,
        *,
        again: bool,
    ) -> Answer | None:
        pool = choice.pool
        if choice.is_refused and server.content is not None:
            server.content.count(choice.rule)
            return self.refuse(ErrorCode.NOTAVAIL, key, now, f"refused{choice.by_rule}", server)
        if again:
            why = f"no other node of pool {pool.name} is left{choice.by_rule}"
            return self.refuse(ErrorCode.NOTAVAIL, key, now, why, server)
        if pool.takes_sessions:
            why = f"every node of pool {pool.name} is at its connection limit{choice.by_rule}"
            return self._at_limit(server, peer, key, serial, now, why, said)
        names = names_of(server, choice)
        why = f"no node of pool {names} accepts new sessions{choice.by_rule}"
        return self.refuse(ErrorCode.NOTAVAIL, key, now, why, server)

    def _at_limit(
        self,
        server: VirtualServer,
        peer: Peer,
        key: bytes,
        serial: int,
        now: float,
        why: str,
        said: Said | None,
    ) -> Answer | None:
        """There is no place: drop, reset or wait, as the virtual server has it.  But some may be in
        stock (grants), which are taken back now: then there is no REPLY, and the QUERY that is
        repeated finds one, if it comes within a second."""
        if now - server.limited_at >= _TAKEN_BACK_S:
            server.limited_since = now
        server.limited_at = now
        if server.granted and now - server.limited_since < _TAKEN_BACK_S:
            self._note((now, key, "not answered, decisions ahead are taken back: %s", (why,)))
            return None
        if server.config.at_limit == "wait":
            waiting = self.table.waiting
            until = waiting.until(server, peer, key, serial, now, said)
            if until is not None:
                self._note((now, key, "waits for a place: %s", (why,)))
                return _wait(math.ceil(until - now))
            waiting.forget(server, key)
        code = ErrorCode.CONNLIMIT if server.config.at_limit == "drop" else ErrorCode.BUSY
        return self.refuse(code, key, now, why, server)

    def serve_waiting(self, now: float) -> list[Served]:
        """Give places that became free to flows that wait for one."""

        def begin(server: VirtualServer, waiter: Waiter, key: bytes) -> Answer | None:
            if self.servers.match(key) is not server:
                return self.refuse(ErrorCode.NOTAVAIL, key, now, "it was removed", server)
            answer = self.begin(server, waiter.peer, key, waiter.serial, 0, now, waiter.said)
            if answer is None or answer[0][1] == ErrorCode.WAIT:
                return None
            return answer if waiter.said is None else proxied(answer)

        for server, key in self.table.waiting.expire(now):
            self.refuse(ErrorCode.BUSY, key, now, "waited in vain for a place", server)
        return self.table.waiting.serve(begin, now)

    def refuse(
        self,
        code: ErrorCode,
        key: bytes,
        now: float,
        why: str,
        server: VirtualServer | None = None,
    ) -> Answer:
        """Count a refusal and return it."""
        self._statistics.refused[code.name] += 1
        if server is not None:
            server.refused += 1
        self._note((now, key, "refused, %s: %s", (code.name, why)))
        return _REFUSALS[code]
