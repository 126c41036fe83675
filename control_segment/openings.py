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


# As globals: an enum's attribute costs three times as much
_UNKNOWN: Final = Opening.UNKNOWN
_OPENED: Final = Opening.OPENED
_REFUSED: Final = Opening.REFUSED
_UNANSWERED: Final = Opening.UNANSWERED
_ABANDONED: Final = Opening.ABANDONED
FAILED: Final = frozenset((Opening.REFUSED, Opening.UNANSWERED))
NEVER_ESTABLISHED: Final = frozenset((*FAILED, Opening.ABANDONED))


def opening_of(
    error_code: int,
    flags: int,
    protocol: int,
    tcp_flags: int,
    reason: int,
    idle_ms: int,
    pkts_in: int,
    pkts_out: int,
    *,
    forward_mode: int,
    idle_timeout_s: int,
) -> Opening:
    """Return how the connection of an ended flow began, from its DELETE's fields, the mode and the
    idle timeout of its REPLY; with direct return no answer is seen."""
    if error_code == _NODEFAIL:  # by itself NODE_FAIL is the end of a REAP
        return _REFUSED
    if protocol != TCP or not flags & _HAS_STATS or not tcp_flags & _SYN:
        return _UNKNOWN
    if tcp_flags & _RST and reason == _BY_RST:
        return _opening_before_rst(pkts_in, pkts_out)
    if not tcp_flags & _ACK:
        if reason == _OVERFLOW or not pkts_in:  # there was no time to answer, or nothing to answer
            return _ABANDONED
        return _UNANSWERED if forward_mode == _NAT else _ABANDONED
    if pkts_in < 2:
        return _ABANDONED
    is_early = reason == _IDLE and idle_ms < idle_timeout_s * 1000
    if is_early and not tcp_flags & ~_HANDSHAKE:
        return _ABANDONED
    return _OPENED


def _opening_before_rst(pkts_in: int, pkts_out: int) -> Opening:
    if pkts_in < 2:
        return _REFUSED
    if pkts_in == 2 and pkts_out < 2:
        return _UNKNOWN
    return _OPENED
