# SPDX-License-Identifier: Apache-2.0
"""What a CS is asked about a content-aware virtual server's connection: APP_QUERY, or for a raw one
copies of the client's packets; repeated until it is answered (wire protocol 15.2 to 15.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from data_flow_segment.flows.bridge import Bridger
from data_flow_segment.flows.handshake import Handshake
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer, Peers, default_retry_s
from packets.parse import ACK, FIN, PSH, SYN
from packets.tcp import Options, Segment, split, write
from splicing.instructions import OWN_WINDOW, Agreed, Ask
from ssmb.constants import QUERY_REPEATS, ErrorCode, Flag
from ssmb.messages import AppQuery, Session

LATE_S: Final = 1.0
"""Between further repeats: a client with a connection waits longer for a CS than one without."""

ASKED_MAX: Final = 256
"""Questions at a time: a CS answers as many in less time than the first repeat takes.  More at once
(clients that close thousands of half requests) would be repeated while they wait there, and the
repeats would keep it from answering anybody."""

ASKED_S: Final = 0.5
"""What is not answered by then does not keep others waiting: a CS may have no answer (at_limit)."""

COPIES_AGAIN_S: Final = (0.2, 0.4, 0.8)
COPIES_MAX: Final = 256
"""Of a connection, as its segments come; what a client says in more of them is in the repeats, put
together, so that small segments cost the CS no more than large ones."""
_RETRY: Final = int(Flag.RETRY)
_TRUNCATED: Final = int(Flag.TRUNCATED)
_NODEFAIL: Final = int(ErrorCode.NODEFAIL)
_NO_ECN: Final = 0xFC
_WORD32: Final = 0xFFFFFFFF


class Questions:
    """Asks the groups' active CSs."""

    def __init__(self, outbox: Outbox, peers: Peers, bridger: Bridger) -> None:
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._bridger = bridger
        self._asked: OrderedDict[Session, float] = OrderedDict()  # when; the oldest first
        self._waiting: OrderedDict[Session, Handshake] = OrderedDict()  # for their turn
        self.schedule: Callable[[Handshake], None] = _nobody  # has it repeated when that is due

    # --- a decision is needed ----------------------------------------------------------------

    def ask(self, handshake: Handshake, ask: Ask, now: float) -> None:
        """By APP_QUERY; each node that fails makes another question, which is no repeat."""
        self.prepare(handshake, ask)
        self._ask(handshake, now)

    def prepare(self, handshake: Handshake, ask: Ask, flags: int = 0) -> None:
        """Have the question; with RETRY it was asked by the target before."""
        assert handshake.reader is not None, "raw ones are not asked about like this"
        reading = handshake.reader.read(ask.octets, truncated=ask.truncated)
        app_type = handshake.server.app_type
        assert app_type is not None, "its kind is known"
        signature = handshake.signature
        handshake.app_data = reading.app_data
        handshake.question = AppQuery(
            _NODEFAIL if ask.node_failed else 0,
            flags | (_TRUNCATED if reading.truncated else 0),
            handshake.serial,
            *signature[:5],
            signature.tos & _NO_ECN,
            ask.tcp_flags,
            int(app_type),
            # one more for each node that failed: so the CS tells these questions apart (15.3)
            handshake.opened_ms + handshake.connection.failures & _WORD32,
            reading.app_data,
        )
        handshake.tries = 0

    def copy(self, handshake: Handshake, start: int, now: float) -> None:
        """What a client of a raw virtual server has said from an offset on, for the CS to read."""
        if handshake.copied >= COPIES_MAX:
            return  # the next repeat has it
        packets = _said(handshake, start)
        if not handshake.copied:
            packets.insert(0, _syn(handshake, handshake.connection.agreed))
        handshake.copied += 1
        handshake.tries = 0
        handshake.ask_at = now + COPIES_AGAIN_S[0]
        self._bridge(handshake, packets)

    def answered(self, handshake: Handshake, now: float) -> None:
        """Nothing is to be repeated."""
        handshake.question = None
        handshake.ask_at = 0.0
        self.is_over(handshake, now)

    def is_over(self, handshake: Handshake, now: float) -> None:
        """It needs no answer; the next one's turn has come."""
        self._waiting.pop(handshake.session, None)
        if self._asked.pop(handshake.session, None) is None:
            return
        while self._waiting and self._has_room(now):
            _, following = self._waiting.popitem(last=False)
            self._ask(following, now)
            self.schedule(following)

    def _has_room(self, now: float) -> bool:
        asked = self._asked
        while asked and now - next(iter(asked.values())) >= ASKED_S:
            asked.popitem(last=False)
        return len(asked) < ASKED_MAX

    def wait(self, handshake: Handshake, now: float) -> None:
        """There may be a place soon (9.9)."""
        self.is_over(handshake, now)
        handshake.ask_at = now + LATE_S

    # --- again -------------------------------------------------------------------------------

    def repeat(self, handshake: Handshake, now: float) -> None:
        """It is time to ask again."""
        handshake.tries += 1
        if handshake.question is None:
            self._copy_again(handshake, now)
        elif self._ask(handshake, now):
            self._counters["query_retries"] += 1

    def ask_again(self, handshake: Handshake, now: float) -> None:
        """Another CS is there."""
        if handshake.ask_at:
            handshake.tries = 0
            if handshake.question is None:
                self._copy_again(handshake, now)
            else:
                self._ask(handshake, now)

    def copy_again(self, handshake: Handshake, now: float) -> None:
        """What the CS said before did not help."""
        handshake.tries = 0
        self._copy_again(handshake, now)

    def _ask(self, handshake: Handshake, now: float) -> bool:
        peer = self._peer_of(handshake)
        tries = max(handshake.tries, 0)
        if tries >= QUERY_REPEATS:
            wait = LATE_S
        else:
            wait = default_retry_s(tries) if peer is None else peer.retry_s(tries)
        handshake.ask_at = now + wait
        question = handshake.question
        if peer is None or question is None:
            return False
        if not self._is_its_turn(handshake, now):
            return False
        peer.link.send(question)
        self._outbox.trace.append((now, "app_query", handshake.session, handshake.serial, tries))
        handshake.is_known = True
        handshake.question = question._replace(flags=question.flags | _RETRY)
        return True

    def _is_its_turn(self, handshake: Handshake, now: float) -> bool:
        """Whether it may be asked, or asked again; otherwise it waits."""
        session = handshake.session
        if session not in self._asked:
            if not self._has_room(now):
                handshake.ask_at = now + ASKED_S
                handshake.tries = -1  # that it is asked about first is no repeat
                self._waiting.setdefault(session, handshake)
                return False
            self._waiting.pop(session, None)
            self._asked[session] = now
        return True

    def _copy_again(self, handshake: Handshake, now: float) -> None:
        at = min(handshake.tries, len(COPIES_AGAIN_S))
        handshake.ask_at = now + (*COPIES_AGAIN_S, LATE_S)[at]
        first = _syn(handshake, handshake.connection.agreed)
        self._bridge(handshake, [first, *_said(handshake, 0)])

    def _bridge(self, handshake: Handshake, packets: list[bytes]) -> None:
        peer = self._peer_of(handshake)
        if peer is None:
            return
        for packet in packets:
            self._bridger.send(peer, packet)
        self._counters["raw_copies"] += len(packets)

    def _peer_of(self, handshake: Handshake) -> Peer | None:
        """Whom to ask, if anybody can be."""
        peer = self._peers.active_of(handshake.group_id)
        return peer if peer is not None and peer.may_ask else None


def _nobody(handshake: Handshake) -> None:
    """Until somebody looks at timers."""


def _said(handshake: Handshake, start: int) -> list[bytes]:
    """The client's packets from that offset on, as it would send them now: each octet once, in
    order, whatever else it has sent."""
    client = handshake.connection.client
    received = client.received
    octets = bytes(received.data[start:])
    said = client.spoken(start, octets, ACK | PSH)
    segments = split(said, handshake.connection.settings.mss) if octets else []
    if received.is_whole:
        segments.append(client.spoken(len(received.data), b"", FIN | ACK))
    return [write(each, handshake.session) for each in segments]


def _syn(handshake: Handshake, agreed: Agreed) -> bytes:
    """What began the connection, as far as it is known: where the client's octets begin."""
    options = Options(agreed.mss, agreed.window_scale, agreed.sack)
    return write(Segment(agreed.client_isn, 0, SYN, OWN_WINDOW, options), handshake.session)
