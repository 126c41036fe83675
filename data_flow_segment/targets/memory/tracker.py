# SPDX-License-Identifier: Apache-2.0
"""The four steps of a TCP close, and which RST ends a flow (wire protocol 9.7).

Sequence numbers are the client side's: what a node sends is looked at after its translation, so
that both directions count alike.  Direction 0 is inbound, 1 is the node's.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import CloseCause
from packets.parse import ACK, FIN, RST, SYN

_WORD32: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000
_WINDOW_MINIMUM: Final = 0x10000
"""How far past what was acknowledged an RST may be although the window scale is unknown (the flow
began before this target saw it).  One guess in 65536 hits; RFC 5961 leaves the rest to the
receiver."""


class CloseTracker:
    """What both sides have said about the end of their connection."""

    __slots__ = (
        "_acked",
        "_acknowledged",
        "_fin_end",
        "_next_seq",
        "_scale",
        "_waiting",
        "_window",
        "cause",
    )

    def __init__(self) -> None:
        self.cause: CloseCause | None = None
        self._reset()

    def _reset(self) -> None:
        self._fin_end: list[int | None] = [None, None]  # number after this side's FIN
        self._acked = [False, False]  # this side's FIN was acknowledged
        self._next_seq: list[int | None] = [None, None]  # after all that this side sent
        self._acknowledged: list[int | None] = [None, None]  # what this side wants next
        self._window = [0, 0]
        self._scale = [0, 0]
        self._waiting: tuple[int, int] | None = None  # a SYN's next number, its window scale

    def _is_another(self, seq: int) -> bool:
        """A client's SYN on a living flow may be another connection from the same port, or
        forged by any host: it changes nothing until the node answers it."""
        return self._next_seq[0] is not None and self._next_seq[0] != (seq + 1) & _WORD32

    def _answers_syn(self, direction: int, ack: int) -> bool:
        return direction == 1 and self._waiting is not None and self._waiting[0] == ack

    def _begin_again(self) -> None:
        """The node took the client's SYN: another connection, same node."""
        assert self._waiting is not None
        next_seq, scale = self._waiting
        self._reset()
        self._next_seq[0], self._scale[0] = next_seq, scale

    @property
    def closing(self) -> bool:
        """After the first FIN, before the fourth step."""
        return self.cause is None and self._fin_end != [None, None]

    @property
    def acknowledged(self) -> tuple[int | None, int | None]:
        """What the client and the node want next."""
        client, node = self._acknowledged
        return client, node

    @property
    def sent(self) -> tuple[int | None, int | None]:
        """The numbers after all that the client and the node have sent."""
        client, node = self._next_seq
        return client, node

    def observe(
        self, direction: int, flags: int, seq: int, ack: int, window: int, length: int, scale: int
    ) -> CloseCause | None:
        """Take note of a segment; the cause if it ends the flow.  `scale` is a SYN's option."""
        if self.cause is not None:
            return None
        if flags & RST:
            if self._is_valid_reset(direction, flags, seq, ack):
                self.cause = CloseCause.RST
            return self.cause
        if flags & SYN:
            if not flags & ACK and direction == 0 and self._is_another(seq):
                self._waiting = ((seq + 1) & _WORD32, scale)
                return None
            if flags & ACK and self._answers_syn(direction, ack):
                self._begin_again()
            self._scale[direction] = scale
        self._note_sequence(direction, flags, seq, length)
        if flags & ACK:
            self._note_acknowledgement(direction, ack, window)
        if self._acked == [True, True]:
            self.cause = CloseCause.FIN
        return self.cause

    def _note_sequence(self, direction: int, flags: int, seq: int, length: int) -> None:
        end = (seq + length + bool(flags & SYN) + bool(flags & FIN)) & _WORD32
        known = self._next_seq[direction]
        if known is None or (end - known) & _WORD32 < _HALF:
            self._next_seq[direction] = end
        if flags & FIN:
            self._fin_end[direction] = end

    def _note_acknowledgement(self, direction: int, ack: int, window: int) -> None:
        known = self._acknowledged[direction]
        if known is None or (ack - known) & _WORD32 < _HALF:
            self._acknowledged[direction] = ack
            self._window[direction] = window
        theirs = self._fin_end[1 - direction]
        if theirs is not None and (ack - theirs) & _WORD32 < _HALF:
            self._acked[1 - direction] = True

    def _is_valid_reset(self, direction: int, flags: int, seq: int, ack: int) -> bool:
        """Whether the receiver could accept it: it lies in the window that it last announced.
        Before the receiver acknowledged anything, the answer to its SYN (RFC 9293 3.10.7.3)."""
        if flags & ACK and self._answers_syn(direction, ack):
            return True  # the node refuses
        expected = self._acknowledged[1 - direction]
        if expected is not None:
            window = self._window[1 - direction] << self._scale[1 - direction]
            return (seq - expected) & _WORD32 < max(window, _WINDOW_MINIMUM)
        if flags & ACK and self._next_seq[1 - direction] is not None:
            return ack == self._next_seq[1 - direction]
        return seq == self._next_seq[direction]
