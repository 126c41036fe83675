# SPDX-License-Identifier: Apache-2.0
"""One end of a TCP connection, small and correct: it repeats what is not acknowledged, takes octets
in order only, and closes in both directions.  For simulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from packets.parse import ACK, FIN, PSH, RST, SYN
from packets.tcp import NO_OPTIONS, Options, Segment, after

WORD32: Final = 0xFFFFFFFF
RTO_S: Final = 0.4
WINDOW: Final = 30_000
TRIES_MAX: Final = 9


class TcpEnd:
    """Of a client (`connect`) or of a node (a SYN makes it)."""

    def __init__(
        self,
        isn: int,
        send: Callable[[Segment], None],
        at: Callable[..., None],
        *,
        mss: int = 1000,
        options: Options = NO_OPTIONS,
    ) -> None:
        """`send`: a segment leaves; `at`: do something later."""
        self.isn = isn
        self.state = "closed"  # then: syn, open, reset, given up
        self.options = options
        self.heard = b""
        self.has_fin = False  # the other end's
        self.is_closed = False  # our FIN is acknowledged
        self._send = send
        self._at = at
        self._mss = mss
        self._una = isn + 1 & WORD32
        self._next = 0  # expected of the other end
        self._queue = b""  # not acknowledged yet
        self._fin = False
        self._tries = 0
        self._epoch = 0  # of the timer

    def connect(self) -> None:
        """Begin."""
        self.state = "syn"
        self._transmit()

    def accept(self, syn: Segment) -> None:
        """Answer a SYN."""
        self._next = syn.end
        self.state = "open"
        self._send(Segment(self.isn, self._next, SYN | ACK, WINDOW, self.options))

    def say(self, octets: bytes, *, fin: bool = False) -> None:
        """Send these behind what was said before."""
        self._queue += octets
        self._fin |= fin
        if self.state == "open":
            self._tries = 0
            self._transmit()

    def receive(self, segment: Segment) -> None:
        """A segment of the other end's."""
        flags = segment.flags
        if flags & RST:
            if self.state == "syn" or after(segment.seq, self._next) == 0:
                self.state = "reset"
            return
        if flags & SYN:
            self._receive_syn(segment)
            return
        if self.state != "open":
            return
        self._acknowledged(segment.ack)
        before = self._next
        if after(segment.seq, self._next) <= 0 < after(segment.end, self._next):
            fresh = segment.payload[after(self._next, segment.seq) :]
            self.heard += fresh
            self._next = self._next + len(fresh) & WORD32
            if flags & FIN and segment.end == self._next + 1 & WORD32:
                self.has_fin, self._next = True, segment.end
        if segment.length or before != self._next:
            self._send(self._segment(0, b"", fin=False))

    def _receive_syn(self, segment: Segment) -> None:
        if self.state == "syn" and segment.flags & ACK and segment.ack == self._una:
            self.state = "open"
            self._next = segment.end
            self._tries = 0
            self._send(self._segment(0, b"", fin=False))
            self._transmit()
        elif self.state == "open" and not segment.flags & ACK:
            self._send(Segment(self.isn, self._next, SYN | ACK, WINDOW, self.options))

    def _acknowledged(self, ack: int) -> None:
        count = after(ack, self._una)
        if not 0 < count <= len(self._queue) + 1:
            return
        is_fin = count > len(self._queue)
        if is_fin and not self._fin:
            return
        self._queue = self._queue[count:]
        self._una = ack
        self._tries = 0
        self.is_closed |= is_fin

    def _segment(self, at: int, payload: bytes, *, fin: bool) -> Segment:
        flags = ACK | (PSH if payload else 0) | (FIN if fin else 0)
        return Segment(self._una + at & WORD32, self._next, flags, WINDOW, payload=payload)

    def _transmit(self) -> None:
        """What is not acknowledged, and again until it is."""
        if self._tries > TRIES_MAX:
            self.state = "given up"
        if self.state == "syn":
            self._send(Segment(self.isn, 0, SYN, WINDOW, self.options))
        elif self.state == "open" and (self._queue or (self._fin and not self.is_closed)):
            for at in range(0, max(len(self._queue), 1), self._mss):
                payload = self._queue[at : at + self._mss]
                is_last = at + self._mss >= len(self._queue)
                self._send(self._segment(at, payload, fin=self._fin and is_last))
        else:
            return
        self._tries += 1
        self._epoch += 1
        self._at(RTO_S * min(self._tries, 8), self._again, self._epoch)

    def _again(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._transmit()
