# SPDX-License-Identifier: Apache-2.0
"""The four steps of a TCP close, and which RST ends a flow (wire protocol 9.7).

Sequence numbers are the client side's: what a node sends is looked at after its translation, so
that both directions count alike.  Direction 0 is inbound, 1 is the node's.

What a stranger can make up changes nothing: a segment counts if its numbers continue what both ends
said before.  Of what a target sees out of order only the nearest piece is kept (`Ahead`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from data_flow_segment.targets.contract import CloseCause
from data_flow_segment.targets.memory.numbers import (
    WINDOW_MINIMUM,
    Ahead,
    is_later,
    minus,
    plus,
)
from packets.parse import ACK, FIN, RST, SYN

_SCALE_MAX: Final = 14  # RFC 7323 2.3


class Segment(NamedTuple):
    """What the tracker reads of a TCP segment."""

    flags: int
    seq: int
    ack: int
    window: int
    length: int  # of its data
    scale: int  # a SYN's option, 0 without
    checksum_is_right: bool = True

    @property
    def end(self) -> int:
        """The number after it."""
        consumed = self.length + bool(self.flags & SYN) + bool(self.flags & FIN)
        return plus(self.seq, consumed)


class End:
    """One end of the connection, as far as its packets tell."""

    __slots__ = (
        "acknowledged",
        "ahead",
        "fin_acked",
        "fin_end",
        "flags",
        "next_seq",
        "reset",
        "scale",
        "window",
    )

    def __init__(self, flags: int = 0) -> None:
        self.flags = flags  # of the segments that counted
        self.next_seq: int | None = None  # after all that it sent
        self.ahead = Ahead()  # what it sent beyond a hole
        self.acknowledged: int | None = None  # what it wants next
        self.window = 0
        self.scale = 0
        self.fin_end: int | None = None  # the number after its FIN
        self.fin_acked = False
        self.reset = False  # its RST was believed

    @property
    def last_sent(self) -> int | None:
        """The number after the last that it sent, holes or not."""
        return self.ahead.end if self.ahead else self.next_seq

    def is_in_window(self, distance: int) -> bool:
        """Whether it may have acknowledged as much since its last window."""
        scale = self.scale if self.flags & SYN else _SCALE_MAX
        return distance <= max(self.window << scale, WINDOW_MINIMUM)

    def send(self, seq: int, end: int, *, fin: bool) -> None:
        """Take note of octets, and of a FIN that ends them."""
        if self.next_seq is None or minus(self.next_seq, seq) <= minus(end, seq):
            self.next_seq = end
            self._reach(fin=fin)
        elif is_later(seq, self.next_seq) and seq != end:
            self.ahead.note(self.next_seq, seq, end, fin=fin)

    def has_received(self, ack: int) -> None:
        """The other end acknowledged what a hole hid from us."""
        if self.ahead and self.next_seq is not None and is_later(ack, self.next_seq):
            self.next_seq = ack
            self._reach(fin=False)

    def _reach(self, *, fin: bool) -> None:
        assert self.next_seq is not None
        if self.ahead and not is_later(self.ahead.start, self.next_seq):
            if not is_later(self.next_seq, self.ahead.end):
                self.next_seq, fin = self.ahead.end, self.ahead.fin
            self.ahead.clear()
        if fin:
            self.fin_end = self.next_seq


class CloseTracker:
    """What both ends have said about the end of their connection.

    `answers_pass`: what the node sends comes by here too, because its address is translated.
    `flags`: of segments before the first that is seen; SYN is the client's.
    """

    __slots__ = ("_ends", "_waiting", "answers_pass", "cause")

    def __init__(self, *, answers_pass: bool = True, flags: int = 0) -> None:
        self.answers_pass = answers_pass
        self.cause: CloseCause | None = None
        self._ends = [End(flags), End(flags & ~SYN)]
        self._waiting: tuple[int, int] | None = None  # a SYN's next number, its window scale

    @property
    def closing(self) -> bool:
        """After the first FIN, before the fourth step."""
        return self.cause is None and any(end.fin_end is not None for end in self._ends)

    @property
    def half_open(self) -> bool:
        """The client sent a SYN and has acknowledged nothing yet."""
        return self.cause is None and self._ends[0].flags & (SYN | ACK) == SYN

    @property
    def tcp_flags(self) -> int:
        """Of all segments that counted."""
        return self._ends[0].flags | self._ends[1].flags

    @property
    def acknowledged(self) -> tuple[int | None, int | None]:
        """What the client and the node want next."""
        client, node = self._ends
        return None if self.half_open else client.acknowledged, node.acknowledged

    @property
    def sent(self) -> tuple[int | None, int | None]:
        """The numbers after all that the client and the node have sent."""
        client, node = self._ends
        return client.next_seq, node.next_seq

    def expect_handshake(self) -> None:
        """The flow was entered for the client's SYN, which may never pass."""
        self._ends[0].flags |= SYN

    def flags_of(self, direction: int) -> int:
        """Of one end's segments that counted."""
        return self._ends[direction].flags

    def observe(self, direction: int, segment: Segment) -> bool:
        """Take note of a segment; whether a flow that was closed goes on."""
        flags = segment.flags
        if flags & SYN and flags & (FIN | RST):
            return False  # nobody sends it
        if flags & (SYN | FIN | RST) and not segment.checksum_is_right:
            return False  # the other end drops it
        goes_on = False
        if self.cause is not None:
            goes_on = self._goes_on(direction, segment)
            if not goes_on:
                return False
            self.cause = None
            self._ends[direction].reset = False
        if flags & RST:
            if self._is_valid_reset(direction, segment):
                self._ends[direction].reset = True
                self._ends[direction].flags |= flags
                self.cause = CloseCause.RST
        elif flags & SYN:
            self._note_syn(direction, segment)
        elif flags & ACK and self._continues(direction, segment):
            self._note(direction, segment)
        return goes_on

    # --- what counts -------------------------------------------------------------------------

    def _goes_on(self, direction: int, segment: Segment) -> bool:
        """Whether the end goes on that is said to have sent a RST: then it was not its own.  What
        the other end sends may have been on its way."""
        end = self._ends[direction]
        if not end.reset or segment.flags & (SYN | RST) or not segment.flags & ACK:
            return False
        if end.next_seq is None or minus(segment.seq + 1, end.next_seq) >= WINDOW_MINIMUM:
            return False
        return self._is_plausible(direction, segment.ack)

    def _is_valid_reset(self, direction: int, segment: Segment) -> bool:
        """Whether it has the very number that the other end expects (RFC 5961 3.2): what that one
        acknowledged last, or what comes after all that went there since.  Or it answers a SYN
        (RFC 9293 3.10.7.3)."""
        end, other = self._ends[direction], self._ends[1 - direction]
        if segment.flags & ACK and self._answers_syn(direction, segment.ack):
            return True
        if segment.seq == end.next_seq or segment.seq == other.acknowledged:
            return True
        answers = segment.flags & ACK and segment.ack == other.next_seq
        return bool(answers) and (other.flags & ACK == 0)

    def _is_plausible(self, direction: int, ack: int) -> bool:
        """Whether it is within a window of what this end acknowledged last, or acknowledges what
        the other one sent."""
        end, other = self._ends[direction], self._ends[1 - direction]
        if end.acknowledged is None:
            return True
        if is_later(end.acknowledged, ack):
            return end.is_in_window(minus(end.acknowledged, ack))
        if end.is_in_window(minus(ack, end.acknowledged)):
            return True
        return other.last_sent is not None and not is_later(ack, other.last_sent)

    def is_far(self, direction: int, seq: int) -> bool:
        """Whether a segment has no number of this connection."""
        known = self._ends[direction].next_seq
        if known is None:
            return False
        return minus(seq, minus(known, WINDOW_MINIMUM)) >= 2 * WINDOW_MINIMUM

    def _continues(self, direction: int, segment: Segment) -> bool:
        """Whether both numbers continue what is known."""
        if direction == 0 and self.half_open:
            return self._establishes(segment)
        return self._is_plausible(direction, segment.ack) and self._means_syn(segment.ack)

    def _means_syn(self, ack: int) -> bool:
        """Whether a node that has not answered the client's SYN may mean it.  One that has an
        earlier connection from the same port acknowledges a number of that."""
        client, node = self._ends
        if not self.half_open or node.next_seq is not None or client.next_seq is None:
            return True
        return minus(client.next_seq, ack) < WINDOW_MINIMUM

    def _establishes(self, segment: Segment) -> bool:
        """Whether the client has received the node's answer: it knows its number.  Where answers do
        not pass here, its own number has to do."""
        client, node = self._ends
        if client.next_seq is None or minus(client.next_seq, segment.seq) >= WINDOW_MINIMUM:
            return False
        if node.next_seq is None:
            return not self.answers_pass
        if segment.ack not in (client.acknowledged, node.next_seq):
            return False
        if minus(node.next_seq, segment.ack) >= WINDOW_MINIMUM:
            node.next_seq = segment.ack  # it took an earlier one of several (SYN cookies)
        return True

    # --- SYN ---------------------------------------------------------------------------------

    def _note_syn(self, direction: int, segment: Segment) -> None:
        """The client's SYN, or the node's answer; nothing else that has one."""
        if direction == 0 and not segment.flags & ACK:
            self._note_question(segment)
        elif direction == 1 and segment.flags & ACK:
            self._note_answer(segment)

    def _note_question(self, segment: Segment) -> None:
        client, node = self._ends
        if self._is_another(segment.seq):
            if node.next_seq is not None or client.fin_end is None:
                # Another connection from the same port, or anybody's who knows no number: it
                # changes nothing until the node answers it
                self._waiting = plus(segment.seq, 1), segment.scale
                return
            self._begin_again(plus(segment.seq, 1))  # the node's answers never pass here
        client = self._ends[0]
        client.scale = segment.scale
        client.flags |= segment.flags
        client.send(segment.seq, segment.end, fin=False)

    def _note_answer(self, segment: Segment) -> None:
        if self._answers_syn(1, segment.ack):
            assert self._waiting is not None
            next_seq, scale = self._waiting
            self._begin_again(next_seq)
            self._ends[0].scale = scale
        client, node = self._ends
        if not self.half_open and node.next_seq is not None:
            return  # it was answered before
        if client.next_seq is not None and (minus(client.next_seq, segment.ack) >= WINDOW_MINIMUM):
            return
        if self.half_open and client.acknowledged is None:
            client.acknowledged = segment.end  # what it will want
        node.scale = segment.scale
        node.flags |= segment.flags
        node.next_seq = segment.end
        self._acknowledge(1, segment)

    def _is_another(self, seq: int) -> bool:
        known = self._ends[0].next_seq
        return known is not None and known != plus(seq, 1)

    def _answers_syn(self, direction: int, ack: int) -> bool:
        return direction == 1 and self._waiting is not None and self._waiting[0] == ack

    def _begin_again(self, next_seq: int) -> None:
        """Another connection, same ports, same node."""
        self._ends = [End(SYN), End()]
        self._ends[0].next_seq = next_seq
        self._waiting = None

    # --- everything else ---------------------------------------------------------------------

    def _note(self, direction: int, segment: Segment) -> None:
        end = self._ends[direction]
        end.flags |= segment.flags
        end.send(segment.seq, segment.end, fin=bool(segment.flags & FIN))
        self._acknowledge(direction, segment)
        if all(each.fin_acked for each in self._ends):
            self.cause = CloseCause.FIN

    def _acknowledge(self, direction: int, segment: Segment) -> None:
        end, other = self._ends[direction], self._ends[1 - direction]
        known = end.acknowledged
        if known is None or not is_later(known, segment.ack):
            end.acknowledged = segment.ack
            end.window = segment.window
        if other.ahead and not is_later(segment.ack, other.ahead.end):
            other.has_received(segment.ack)
        if other.fin_end is not None and segment.ack == other.fin_end:
            other.fin_acked = True
