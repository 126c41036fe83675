# SPDX-License-Identifier: Apache-2.0
"""The constants that make one connection of two (wire protocol 9.6), and their use on segments.

A target adds them to packets (`packets.rewrite`); what goes through the machine gets the same.
"""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, SYN
from packets.rewrite import shifted_window
from packets.tcp import Segment
from splicing.instructions import OWN_WINDOW_SCALE, Agreed, Offsets

_WORD32: Final = 0xFFFFFFFF


def offsets(
    agreed: Agreed, answer: Segment, *, inserted: int, said: int, swallowed: int
) -> Offsets:
    """What follows from both handshakes, for Q = C.

    `answer` is the node's SYN-ACK.  `inserted`: octets that the node got and the client did not
    send, less those that the client sent and the node did not get; `said`: octets that the client
    got from the proxy; `swallowed`: octets of the node that the client did not get.
    """
    ack = answer.seq + swallowed - agreed.own_isn - said
    stamps = answer.options.timestamps
    time = 0
    if agreed.own_timestamp is not None and stamps is not None:
        time = agreed.own_timestamp - stamps[0]
    shift = 0
    if agreed.window_scale is not None:
        shift = (answer.options.window_scale or 0) - OWN_WINDOW_SCALE
    return Offsets(inserted & _WORD32, ack & _WORD32, time & _WORD32, shift)


def to_node(segment: Segment, by: Offsets) -> Segment:
    """A client's segment, as its node gets it."""
    return _moved(segment, by.seq_offset, by.ack_offset, 0, -by.ts_offset)


def to_client(segment: Segment, by: Offsets) -> Segment:
    """A node's segment, as its client gets it."""
    moved = _moved(segment, -by.ack_offset, -by.seq_offset, by.ts_offset, 0)
    if segment.flags & SYN:  # its window is never scaled (RFC 7323 2.2)
        return moved
    return moved._replace(window=shifted_window(segment.window, by.wscale_shift))


def _moved(segment: Segment, seq: int, ack: int, value: int, echo: int) -> Segment:
    options = segment.options
    acknowledges = segment.flags & ACK
    stamps = options.timestamps
    if stamps is not None:
        echoed = stamps[1] + echo & _WORD32 if acknowledges else stamps[1]
        stamps = stamps[0] + value & _WORD32, echoed
    return segment._replace(
        seq=segment.seq + seq & _WORD32,
        ack=segment.ack + ack & _WORD32 if acknowledges else segment.ack,
        options=options._replace(
            sack=tuple(
                (left + ack & _WORD32, right + ack & _WORD32) for left, right in options.sack
            ),
            timestamps=stamps,
        ),
    )
