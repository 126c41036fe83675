# SPDX-License-Identifier: Apache-2.0
"""How a flow's TCP connection began, from what its DELETE reports (wire protocol 6.2, 9.8).

A DELETE has the TCP flags of both directions in one octet, and packets and octets per direction.
That is enough for what matters, and where it is not the answer is that we do not know:

    SYN >                              UNANSWERED, if the DFS would have seen an answer
    SYN >   < RST                      REFUSED: a client that ends it sends a second packet
    SYN >   < SYN-ACK                  ABANDONED: the client never went on; a forged SYN ends so
    SYN >   < SYN-ACK   ACK > ...      OPENED
    SYN > SYN >   < RST, or SYN >   < SYN-ACK   RST >    UNKNOWN: the numbers are the same

A DFS gives a flow whose client never went on less time than its idle timeout.  So an end by IDLE
before that time is ABANDONED (or UNANSWERED), however often the client repeated its SYN.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ssmb.constants import TCP, CloseReason, ErrorCode, Flag, ForwardMode
from ssmb.messages import Delete

_SYN: Final = 0x02
_RST: Final = 0x04
_ACK: Final = 0x10
_ECN: Final = 0xC0  # a SYN may ask for it
_HANDSHAKE: Final = _SYN | _ACK | _ECN  # all that a connection without data has shown
# plain numbers: a DELETE comes for every flow
_HAS_STATS: Final = int(Flag.HAS_STATS)
_NODEFAIL: Final = int(ErrorCode.NODEFAIL)
_NAT: Final = int(ForwardMode.NAT)
_IDLE: Final = int(CloseReason.IDLE)
_OVERFLOW: Final = int(CloseReason.OVERFLOW)
_BY_RST: Final = int(CloseReason.RST)


class Opening(IntEnum):
    """How a connection began; numbers, because a set finds them five times as fast."""

    UNKNOWN = 0  # not TCP, a session's later flow, or it cannot be told
    OPENED = 1
    REFUSED = 2  # by the node
    UNANSWERED = 3  # by the node
    ABANDONED = 4  # by the client, after the node answered


FAILED: Final = frozenset((Opening.REFUSED, Opening.UNANSWERED))
NEVER_ESTABLISHED: Final = frozenset((*FAILED, Opening.ABANDONED))


def opening_of(message: Delete, forward_mode: int, idle_timeout_s: int) -> Opening:
    """Return how the connection of an ended flow began; with direct return no answer is seen."""
    if message.error_code == _NODEFAIL:  # by itself NODE_FAIL is the end of a REAP
        return Opening.REFUSED
    flags = message.tcp_flags
    if message.protocol != TCP or not message.flags & _HAS_STATS or not flags & _SYN:
        return Opening.UNKNOWN
    if flags & _RST and message.detail == _BY_RST:
        return _opening_before_rst(message)
    if not flags & _ACK:
        if message.detail == _OVERFLOW:  # there was no time to answer
            return Opening.ABANDONED
        seen = forward_mode == _NAT
        return Opening.UNANSWERED if seen else Opening.ABANDONED
    if message.pkts_in < 2:
        return Opening.ABANDONED
    is_early = message.detail == _IDLE and message.idle_ms < idle_timeout_s * 1000
    if is_early and not flags & ~_HANDSHAKE:
        return Opening.ABANDONED
    return Opening.OPENED


def _opening_before_rst(message: Delete) -> Opening:
    if message.pkts_in < 2:
        return Opening.REFUSED
    if message.pkts_in == 2 and message.pkts_out < 2:
        return Opening.UNKNOWN
    return Opening.OPENED
