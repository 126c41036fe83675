# SPDX-License-Identifier: Apache-2.0
"""The node's side of a connection while the proxy is its client: the SYN and its repeats, which
segments belong to it, what the proxy sends it before the two sides are joined."""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, FIN, PSH, RST, SYN
from packets.tcp import CWR, ECE, Options, Segment, after, with_urgent, write_options
from splicing.client_side import ClientSide
from splicing.instructions import Decision, Settings, Verdict
from splicing.reassembly import Reassembly
from splicing.sender import Piece, Sender
from splicing.table import Input

SYN_REPEATS_S: Final = (0.2, 0.6, 1.4)
"""After the first SYN."""
SYN_PATIENCE_S: Final = 3.0
"""A node that has not answered by then is taken for dead."""
GREETING_MAX: Final = 65536
MSS_DEFAULT: Final = 536  # RFC 9293 3.7.1: what no option means
MSS_MIN: Final = 216  # less would make hundreds of segments of one request
_WORD32: Final = 0xFFFFFFFF
_WINDOW_MAX: Final = 0xFFFF


class NodeSide:
    """One node that was chosen.  Offsets count from the first octet that it gets, at Q + 1; Q is
    the client's own initial sequence number."""

    __slots__ = (
        "answer", "began", "client", "decision", "end", "flush", "greeting", "is_cleared",
        "mss", "repeats", "swallowed",
    )  # fmt: skip

    def __init__(
        self, client: ClientSide, decision: Decision, settings: Settings, now: float
    ) -> None:
        self.client = client
        self.decision = decision
        self.began = now
        self.repeats = 0
        self.is_cleared = False  # of an earlier connection
        self.mss = min(settings.mss, decision.mss or settings.mss)
        self.answer: Segment | None = None  # its SYN-ACK
        self.greeting = Reassembly(0, GREETING_MAX, GREETING_MAX)
        self.swallowed = 0
        self.end = 0  # behind what came from it in order
        self.flush = Sender(self.mss)

    @property
    def first(self) -> int:
        """The number of the first octet that it gets."""
        return self.client.agreed.client_isn + 1 & _WORD32

    @property
    def inserted(self) -> int:
        """By how many octets it gets more than the client sent."""
        return len(self.decision.prefix) - self.decision.skip

    @property
    def owed(self) -> int:
        """An offset: what is before it was acknowledged to the client, or is the proxy's own."""
        if not self.decision.prefix and self.client.acked <= self.decision.skip:
            return 0
        return max(0, self.client.acked + self.inserted)

    # --- its handshake ------------------------------------------------------------------------

    def timer(self) -> float:
        """When the SYN is to be repeated, or the node is given up."""
        if self.repeats < len(SYN_REPEATS_S):
            return self.began + SYN_REPEATS_S[self.repeats]
        return self.began + SYN_PATIENCE_S

    def syn(self) -> Segment:
        """The SYN, with what was agreed with the client."""
        client, agreed = self.client, self.client.agreed
        stamps = None
        if agreed.own_timestamp is not None and client.stamp is not None:
            stamps = client.stamp, 0
        return Segment(
            seq=agreed.client_isn,
            flags=SYN | (ECE | CWR if agreed.ecn else 0),
            window=min(client.window, _WINDOW_MAX),
            options=Options(
                mss=min(agreed.mss, self.mss),
                window_scale=agreed.window_scale,
                sack_permitted=agreed.sack,
                timestamps=stamps,
            ),
            tos=client.tos,
        )

    def judge(self, segment: Segment) -> Input | None:
        """What a segment is to this connection; None: nothing."""
        flags = segment.flags
        if self.answer is None:
            is_ours = bool(flags & ACK) and segment.ack == self.first
            if flags & RST:
                return Input.NODE_RESET if is_ours else None
            if flags & SYN:
                return (
                    (Input.NODE_SYN_ACK if is_ours else Input.NODE_STRANGE) if flags & ACK else None
                )
            return Input.NODE_STRANGE if flags & ACK and not is_ours else None
        if flags & RST:
            if segment.seq == self.end:
                return Input.NODE_RESET
            return Input.NODE_STRANGE if after(segment.seq, self.end) > 0 else None
        if flags & SYN:
            return Input.NODE_REPEAT if segment.seq == self.answer.seq else Input.NODE_STRANGE
        if not flags & ACK or after(segment.ack, self.first) < 0:
            return None
        return Input.NODE_DATA

    def join(self, answer: Segment) -> None:
        """Its SYN-ACK came."""
        self.answer = answer
        self.end = answer.seq + 1 & _WORD32
        self.greeting = Reassembly(self.end, GREETING_MAX, GREETING_MAX)
        theirs = answer.options
        stamps = (0, 0) if self.has_timestamps else None
        options = len(write_options(Options(timestamps=stamps)))
        self.mss = min(self.mss, max(theirs.mss or MSS_DEFAULT, MSS_MIN))
        self.flush = Sender(self.mss - options)
        self.flush.hear(0, answer.window)

    @property
    def has_timestamps(self) -> bool:
        """Whether it agreed to them."""
        return self.answer is not None and self.answer.options.timestamps is not None

    # --- afterwards ---------------------------------------------------------------------------

    def hear(self, segment: Segment) -> None:
        """Take its acknowledgement and its window."""
        answer = self.answer
        if answer is None:
            return
        scale = answer.options.window_scale
        if scale is None or self.client.agreed.window_scale is None:
            scale = 0
        offset, known = after(segment.ack, self.first), len(self.flush.octets)
        if offset <= max(known, self.client.reached + self.inserted):  # RFC 5961 5
            self.flush.hear(min(offset, known), segment.window << scale)

    def advance(self, segment: Segment) -> None:
        """What it said was passed on."""
        if after(segment.seq, self.end) <= 0 and after(segment.end, self.end) > 0:
            self.end = segment.end

    def read_greeting(self, segment: Segment) -> int | Verdict:
        """Take octets of its greeting: how many there are of it, once all are here."""
        if self.decision.greeting is None:
            return 0
        greeting = self.greeting
        greeting.add(segment.seq, segment.payload, fin=bool(segment.flags & FIN))
        verdict = self.decision.greeting(bytes(greeting.data)) if greeting.data else Verdict.MORE
        if isinstance(verdict, int):
            self.swallowed = max(0, min(verdict, len(greeting.data)))
            self.end = greeting.number(self.swallowed)
            return verdict
        self.end = greeting.number(len(greeting.data))
        if verdict is Verdict.MORE and (greeting.is_whole or greeting.is_full):
            return Verdict.REFUSED  # there will be no more
        return verdict

    def pour_in(self) -> None:
        """All that the client has said goes to the node."""
        self.flush.octets += self.decision.prefix
        self.flush.octets += self.client.received.data[self.decision.skip :]

    def ack(self) -> Segment:
        """What the node said is acknowledged."""
        return self.segment(ACK, self.first + self.flush.sent & _WORD32)

    def reset(self) -> Segment:
        """An RST; before its SYN-ACK there is nothing to acknowledge (RFC 9293 3.5.3)."""
        if self.answer is None:
            return Segment(self.first, flags=RST, tos=self.client.tos)
        return self.segment(RST | ACK, self.first + self.flush.sent & _WORD32)._replace(window=0)

    def pour(self, pieces: list[Piece]) -> list[Segment]:
        """Segments with the client's octets, and with the decision's."""
        made = []
        for offset, octets in pieces:
            number = self.first + offset & _WORD32
            end = offset + len(octets)
            segment = self.segment(ACK, number)._replace(payload=octets)
            if end == len(self.flush.octets):
                segment = segment._replace(flags=segment.flags | PSH)
            made.append(with_urgent(segment, self._urgent(), offset))
        return made

    def segment(self, flags: int, number: int) -> Segment:
        """A segment of the proxy's own, as if the client had sent it."""
        client, agreed = self.client, self.client.agreed
        scale = self.answer.options.window_scale if self.answer else None
        shift = agreed.window_scale or 0 if scale is not None else 0
        stamps = None
        if self.answer is not None and self.answer.options.timestamps and client.stamp is not None:
            stamps = client.stamp, self.answer.options.timestamps[0]
        return Segment(
            seq=number,
            ack=self.end,
            flags=flags,
            window=min(client.window >> shift, _WINDOW_MAX),
            options=Options(timestamps=stamps),
            tos=client.tos,
        )

    def _urgent(self) -> int | None:
        urgent = self.client.urgent
        return None if urgent is None else urgent + self.inserted
