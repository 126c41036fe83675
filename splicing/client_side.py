# SPDX-License-Identifier: Apache-2.0
"""The client's side of a connection while the proxy is its other end: which segments belong to it,
and what the proxy says (RFC 9293 3.10.7.4, RFC 5961, RFC 7323 4 and 5)."""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, FIN, PSH, RST, SYN
from packets.tcp import URG, Options, Segment, after, with_urgent, write_options
from splicing.instructions import OWN_WINDOW, OWN_WINDOW_SCALE, Agreed, Settings
from splicing.reassembly import Reassembly
from splicing.sender import Piece, Sender
from splicing.table import Input

CHALLENGE_S: Final = 0.5
"""At most one challenge ACK in this time (RFC 5961 7), as in Linux."""
SACK_BLOCKS: Final = 4  # what has no room beside timestamps is left out when it is written
_WORD32: Final = 0xFFFFFFFF
_DSCP: Final = 0xFC


class ClientSide:
    """What the client has said and heard.  Offsets count from its first octet, at C + 1."""

    __slots__ = (
        "_challenged", "acked", "agreed", "forwarded", "reached", "received", "speech", "stamp",
        "tos", "urgent", "wants", "window",
    )  # fmt: skip

    def __init__(self, agreed: Agreed, settings: Settings) -> None:
        self.agreed = agreed
        limit = min(settings.limit, OWN_WINDOW)
        self.received = Reassembly(agreed.client_isn + 1 & _WORD32, limit, settings.buffer)
        self.acked = 0  # an offset: octets before it are the proxy's to deliver
        self.speech = Sender(self._data_max(settings.mss))
        self.stamp: int | None = None  # the client's TSval to echo (TS.Recent)
        self.window = 0  # octets that it takes, from `wants` on
        self.wants = agreed.own_isn + 1 & _WORD32  # its latest acknowledgement
        self.forwarded = self.wants  # behind what was sent to it, of the proxy or of the node
        self.urgent: int | None = None  # the offset that its urgent pointer names
        self.tos = 0
        self.reached = 0  # the offset behind all that it sent
        self._challenged = -CHALLENGE_S

    # --- what comes ---------------------------------------------------------------------------

    def judge(self, segment: Segment, *, is_joined: bool) -> Input | None:
        """What a segment is to this connection; None: nothing.  `is_joined`: the node's window is
        the client's, so this side does not know its edge."""
        flags = segment.flags
        offset = self.received.offset(segment.seq)
        if flags & RST:
            return self._judge_reset(offset)
        if flags & SYN:
            return Input.CLIENT_SYN if offset == -1 else Input.CLIENT_STRANGE
        if not flags & ACK:
            return None
        heard = after(segment.ack, self.agreed.own_isn)
        if heard < 1 or after(segment.ack, self.forwarded) > 0:
            return Input.CLIENT_STRANGE  # RFC 5961 5
        end = offset + segment.length
        is_old = self.is_old(segment)
        if is_old or (end <= self.acked and (segment.length or offset < self.acked)):
            return Input.CLIENT_REPEAT
        if offset + bool(segment.length) > OWN_WINDOW and not is_joined:
            return Input.CLIENT_REPEAT
        return Input.CLIENT_DATA if segment.length else Input.CLIENT_ACK

    def is_old(self, segment: Segment) -> bool:
        """Whether its timestamp says that it is of an earlier round (RFC 7323 5)."""
        stamps = segment.options.timestamps
        return stamps is not None and self.stamp is not None and after(stamps[0], self.stamp) < 0

    def _judge_reset(self, offset: int) -> Input | None:
        # All are exact: what was acknowledged, what is here in order, and where it stopped.
        if offset in (self.acked, len(self.received.data), self.reached):
            return Input.CLIENT_RESET
        return Input.CLIENT_STRANGE if 0 <= offset <= OWN_WINDOW else None

    def hear(self, segment: Segment) -> None:
        """Take its acknowledgement, its window and its timestamp."""
        agreed, stamps = self.agreed, segment.options.timestamps
        if after(segment.ack, self.wants) >= 0:
            self.wants = segment.ack
            self.window = segment.window << (agreed.window_scale or 0)
        self.speech.hear(after(segment.ack, agreed.own_isn) - 1, self.window)
        if (
            agreed.own_timestamp is not None
            and stamps is not None
            and self.received.offset(segment.seq) <= max(self.acked, len(self.received.data))
        ):
            self.stamp = stamps[0]
        self.tos = segment.tos & _DSCP

    def take(self, segment: Segment) -> int:
        """Take its octets; returns how many more are in order."""
        self.reach(segment)
        if segment.flags & URG:
            self.urgent = self.received.offset(segment.seq) + segment.urgent
        return self.received.add(segment.seq, segment.payload, fin=bool(segment.flags & FIN))

    def reach(self, segment: Segment) -> None:
        """Remember how far it got."""
        self.reached = max(self.reached, self.received.offset(segment.seq) + segment.length)

    def may_challenge(self, now: float) -> bool:
        """Whether a challenge ACK may be sent, and it is."""
        if now - self._challenged < CHALLENGE_S:
            return False
        self._challenged = now
        return True

    # --- what goes ----------------------------------------------------------------------------

    def ack(self) -> Segment:
        """What is acknowledged, and what came out of order."""
        return self.segment(ACK, self.forwarded)

    def reset(self) -> Segment:
        """An RST with the number that the client wants."""
        return self.segment(RST | ACK, self.forwarded)._replace(window=0)

    def spoken(self, offset: int, octets: bytes, flags: int) -> Segment:
        """A segment of the client's own from that offset on, as it would send it now."""
        agreed = self.agreed
        stamps = None
        if agreed.own_timestamp is not None and self.stamp is not None:
            stamps = self.stamp, agreed.own_timestamp
        made = Segment(
            seq=self.received.number(offset),
            ack=self.wants,
            flags=flags,
            window=min(self.window >> (agreed.window_scale or 0), 0xFFFF),
            options=Options(timestamps=stamps),
            payload=octets,
            tos=self.tos,
        )
        return with_urgent(made, self.urgent, offset)

    def goodbye(self) -> Segment:
        """The answer to a FIN before which nothing was said."""
        closing = self.segment(FIN | ACK, self.forwarded)
        return closing._replace(ack=closing.ack + 1 & _WORD32)

    def say(self, pieces: list[Piece]) -> list[Segment]:
        """Segments with the proxy's own octets."""
        first = self.agreed.own_isn + 1
        made = []
        for offset, octets in pieces:
            number = first + offset & _WORD32
            is_last = offset + len(octets) == len(self.speech.octets)
            made.append(
                self.segment(ACK | (PSH if is_last else 0), number)._replace(payload=octets)
            )
            self.forward(number + len(octets) & _WORD32)
        return made

    def forward(self, end: int) -> None:
        """Octets up to that number were sent to the client."""
        if after(end, self.forwarded) > 0:
            self.forwarded = end

    def segment(self, flags: int, number: int) -> Segment:
        """A segment of the proxy's own."""
        agreed, received = self.agreed, self.received
        room = max(0, OWN_WINDOW - self.acked)
        is_reset = bool(flags & RST)
        stamps = None
        if agreed.own_timestamp is not None and self.stamp is not None:
            # T does not advance: the node's clock goes on from it after the splice.
            stamps = agreed.own_timestamp, self.stamp
        sack = received.blocks(SACK_BLOCKS) if agreed.sack and not is_reset else ()
        return Segment(
            seq=number,
            ack=received.number(self.acked),
            flags=flags,
            window=room if agreed.window_scale is None else room >> OWN_WINDOW_SCALE,
            options=Options(timestamps=stamps, sack=sack),
            tos=self.tos,
        )

    def _data_max(self, mss: int) -> int:
        stamps = None if self.agreed.own_timestamp is None else (0, 0)
        return min(self.agreed.mss, mss) - len(write_options(Options(timestamps=stamps)))
