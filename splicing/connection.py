# SPDX-License-Identifier: Apache-2.0
"""One client's connection, from its handshake or its first data until it is spliced or over.

The driver calls one method for each thing that happens and carries out the instructions that it
returns, in order.  After each call it asks `get_timer` when to call `handle_timer`.  `now` is
seconds of any clock that does not go back.  Nothing that a segment says makes a method raise.
"""

from __future__ import annotations

from typing import Final

from packets.tcp import HEADERS_V4, Segment
from splicing.collecting import COLLECT_PATIENCE_S, SYN_ACK_PATIENCE_S, SYN_ACK_REPEATS_S
from splicing.instructions import Agreed, Decision, Enough, Instruction, Settings, Side
from splicing.joining import NODE_PATIENCE_S, Joining
from splicing.machine import Event
from splicing.table import TABLE, Action, Input, State

MTU_MIN_V4: Final = 552  # as Linux's: what is less than that was forged
MTU_MIN_V6: Final = 1280  # RFC 8200 5
_MAYBE_SILENT: Final = frozenset((Action.IGNORE, Action.CHALLENGE, Action.CHALLENGE_NODE))


class Connection(Joining):
    """A connection; `state` says where it stands.

    The agent makes one when a client's segment has a valid cookie and data or FIN
    (`cookies.read`), and hands it that segment with `segment`.  A CS that does the handshake
    itself either does the same, also for a bare ACK if it is to speak first, or makes one from the
    SYN (`half_open`).
    """

    @classmethod
    def half_open(
        cls, agreed: Agreed, syn_ack: Segment, settings: Settings, enough: Enough, now: float
    ) -> Connection:
        """One whose SYN-ACK the driver has just sent (`cookies.answer`); it is repeated until the
        client answers."""
        made = cls(agreed, settings, enough, now)
        made.state = State.CLIENT_HANDSHAKE
        made.syn_ack = syn_ack
        return made

    @property
    def octets(self) -> bytes:
        """What the client said so far, in order; nothing once the connection is spliced or over."""
        return bytes(self.client.received.data)

    def segment(self, origin: Side, segment: Segment, now: float) -> list[Instruction]:
        """A segment of either side came, whole and with right checksums, in that side's numbers."""
        event = Event(now, origin, segment)
        judge = self._judge_client if origin is Side.CLIENT else self._judge_node
        happened = judge(event)
        if happened is not None and TABLE[self.state][happened] not in _MAYBE_SILENT:
            return self._do(happened, event)
        made = [] if happened is None else self._do(happened, event)
        self.ignored += not made
        return made

    def say(self, octets: bytes, now: float) -> list[Instruction]:
        """Send the client octets of the proxy's own; they are repeated until it acknowledges them.
        Nothing happens unless its handshake is done and no node is chosen."""
        return self._do(Input.SAYS, Event(now, octets=octets))

    def decided(self, decision: Decision, now: float) -> list[Instruction]:
        """A node was chosen; also without having been asked for (RAW).  The driver has entered the
        flow as held, so that the node's answers come here."""
        return self._do(Input.DECIDED, Event(now, decision=decision))

    def more(self, now: float) -> list[Instruction]:
        """Who was asked wants more octets."""
        return self._do(Input.WANTS_MORE, Event(now))

    def refused(self, now: float) -> list[Instruction]:
        """No node: the client gets an RST."""
        return self._do(Input.REFUSED, Event(now))

    def node_unreachable(self, now: float) -> list[Instruction]:
        """An ICMP error says that the node cannot be reached."""
        return self._do(Input.UNREACHABLE, Event(now))

    def too_big(self, mtu: int, headers: int, now: float) -> list[Instruction]:
        """An ICMP error says that a packet to the node was longer than `mtu`; `headers`:
        HEADERS_V4 or HEADERS_V6 of `packets.tcp`."""
        least = MTU_MIN_V4 if headers == HEADERS_V4 else MTU_MIN_V6
        return self._do(Input.TOO_BIG, Event(now, mss=max(mtu, least) - headers))

    def drop(self, now: float) -> list[Instruction]:
        """The driver gives it up: both sides that know of it get an RST."""
        return self._do(Input.DROPPED, Event(now))

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called; None: never."""
        timers = [self._patience()]
        if self.state not in (State.CLIENT_HANDSHAKE, State.RELAY):
            timers.append(self.client.speech.timer)
            timers.append(None if self.node is None else self.node.flush.timer)
        return min((each for each in timers if each is not None), default=None)

    def handle_timer(self, now: float) -> list[Instruction]:
        """That time has come; too early does nothing."""
        timer = self.get_timer()
        return [] if timer is None or now < timer else self._do(Input.TIME, Event(now))

    def _patience(self) -> float | None:
        """When what is awaited in this state is given up or asked for again."""
        if self.state is State.CLIENT_HANDSHAKE:
            return self.began + (*SYN_ACK_REPEATS_S, SYN_ACK_PATIENCE_S)[self.repeats]
        if self.state in (State.COLLECT, State.ASKED):
            return self.began + COLLECT_PATIENCE_S
        if self.state is State.NODE_HANDSHAKE:
            return self.chosen.timer()
        if self.state in (State.NODE_GREETING, State.FLUSH):
            return self.began + NODE_PATIENCE_S
        return self.joined.timer() if self.state is State.RELAY else None

    def _do(self, happened: Input, event: Event) -> list[Instruction]:
        action = TABLE[self.state][happened]
        made: list[Instruction] = getattr(self, action.value)(event)
        return made
