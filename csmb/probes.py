# SPDX-License-Identifier: Apache-2.0
"""Whether a peer that was READY is still there: it is asked, and has a second (wire protocol 7.7,
rules 12 and 13).

Another segment claims what this one has, its number or its address.  Only the one before it can
tell which of them lives, and it may be far or slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from csmb.connection import Connection

PROBE_WAIT_S: Final = 1.0  # any path's round trip, with one retransmission of TCP


class Verdict(Enum):
    """About a peer that was asked whether it is there."""

    OPEN = auto()
    ALIVE = auto()
    GONE = auto()


class Probe:
    """What was asked on one connection, and until when an answer counts."""

    __slots__ = ("_connection", "_heard", "until")

    def __init__(self, connection: Connection, now: float) -> None:
        """Ask."""
        self._connection = connection
        self._heard = connection.messages_received
        self.until = now + PROBE_WAIT_S
        connection.probe(now)

    def verdict(self, now: float) -> Verdict:
        """What is known by now; anything that comes is an answer."""
        if self._connection.is_closed:
            return Verdict.GONE
        if self._connection.messages_received > self._heard:
            return Verdict.ALIVE
        return Verdict.GONE if now >= self.until else Verdict.OPEN


def verdict(probes: Iterable[Probe], now: float) -> Verdict:
    """About a peer with several connections: it lives if anything comes on one of them."""
    found = {probe.verdict(now) for probe in probes}
    if Verdict.ALIVE in found:
        return Verdict.ALIVE
    return Verdict.OPEN if Verdict.OPEN in found else Verdict.GONE
