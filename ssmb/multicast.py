# SPDX-License-Identifier: Apache-2.0
"""Datagrams that the active CS sends to a whole multicast group (wire protocol 11.2, 12.9).

Before the seal stands the origin: which CS sent it, of which group and which boot, and which DFS is
meant.  The key follows from that, so a source address says nothing, and a DFS may send the datagram
on.  Where a receiver begins to listen, an earlier datagram could be a recorded one: it takes none
below the counter that a HEARTBEAT under another seal has named.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ssmb.constants import SEAL_SIZE, SSMB_MSG_MAX
from ssmb.errors import TooOld
from ssmb.keys import SEAL_KEY_SIZE, derive
from ssmb.seal import TAG_SIZE, Opener, Sealer

_ORIGIN: Final = struct.Struct(">HHHHI")
ORIGIN_SIZE: Final = _ORIGIN.size
MESSAGE_MAX: Final = SSMB_MSG_MAX - ORIGIN_SIZE
"""Octets of a message that fits; a longer one goes to the DFS alone, which copies it."""

MISSED: Final = 3.5
"""Heartbeat intervals without a datagram after which a receiver no longer hears the group."""

_INTERVAL_MIN_S: Final = 0.01


class Origin(NamedTuple):
    """Who sent a datagram, and which DFS it is meant for."""

    segment_id: int
    group_id: int
    dfs_id: int
    boot_id: int

    @property
    def octets(self) -> bytes:
        """As it stands before the seal."""
        return _ORIGIN.pack(self.segment_id, self.group_id, self.dfs_id, 0, self.boot_id)

    @property
    def number(self) -> int:
        """What a standby's HEARTBEAT names the sender by (11.8)."""
        return self.boot_id << 16 | self.segment_id


def origin_of(datagram: bytes) -> Origin | None:
    """Return what a datagram says of its origin, which nothing has proved; None: no room for it."""
    if len(datagram) <= ORIGIN_SIZE + SEAL_SIZE:
        return None
    at = len(datagram) - SEAL_SIZE - ORIGIN_SIZE
    segment_id, group_id, dfs_id, _, boot_id = _ORIGIN.unpack_from(datagram, at)
    return Origin(segment_id, group_id, dfs_id, boot_id)


def group_key(key: bytes, origin: Origin) -> bytes:
    """Return the seal key of an origin, 16 octets (12.9)."""
    return derive(key, "SSMB-GROUP-1", origin.octets)[:SEAL_KEY_SIZE]


class GroupSealer:
    """Seals what one boot of a CS sends to the group for one DFS."""

    __slots__ = ("_origin", "_sealer", "next_counter")

    def __init__(self, key: bytes, origin: Origin) -> None:
        self._origin = origin.octets
        self._sealer = Sealer(group_key(key, origin))
        self.next_counter = 1

    def seal(self, octets: bytes) -> bytes:
        """Return the datagram; *octets* are at most MESSAGE_MAX."""
        self.next_counter += 1
        return self._sealer.seal(octets + self._origin)


class GroupStream:
    """The datagrams of one origin, at a receiver."""

    __slots__ = (
        "_heard_at",
        "_opener",
        "_patience_s",
        "announced",
        "floor",
        "origin",
        "role_epoch",
        "since",
    )

    def __init__(self, key: bytes, origin: Origin, floor: int) -> None:
        """`floor`: the counter from which on datagrams are new for sure."""
        self.origin = origin
        self.role_epoch = 0  # with which the sender claims to be active
        self.floor = floor
        self.announced = floor - 1  # the highest counter that is known to have been sent
        self.since = floor  # with which counter it began to hear the group, this time
        self._opener = Opener(group_key(key, origin))
        self._heard_at: float | None = None
        self._patience_s = MISSED * _INTERVAL_MIN_S

    def announce(self, counter: int, interval_ms: int, role_epoch: int) -> None:
        """Datagrams up to this counter have been sent; `interval_ms`: until more are."""
        self.announced = max(self.announced, counter)
        self.role_epoch = role_epoch
        self._patience_s = MISSED * max(interval_ms / 1000, _INTERVAL_MIN_S)

    def open(self, datagram: bytes, now: float) -> bytes:
        """Return the messages of a datagram that has this origin, or raise SealError."""
        counter = int.from_bytes(datagram[-SEAL_SIZE:-TAG_SIZE], "big")
        if counter < self.floor:
            raise TooOld(f"counter {counter} is below {self.floor}, with which listening began")
        octets = self._opener.open(datagram)
        if not self.hears(now):
            self.since = counter
        self._heard_at = now
        return octets[:-ORIGIN_SIZE]

    def hears(self, now: float) -> bool:
        """Whether datagrams come."""
        return self._heard_at is not None and now - self._heard_at < self._patience_s

    def highest(self) -> int:
        """Return the highest counter that has been sent, as far as is known."""
        return max(self.announced, self._opener.latest())

    def latest(self) -> int:
        """Return the highest counter that has come; 0 before the first."""
        return self._opener.latest()

    def missing(self, first: int, last: int) -> int:
        """Return how many of these counters did not come, as far as the window remembers."""
        latest = self._opener.latest()
        beyond = max(0, last - max(latest, first - 1))
        return beyond + self._opener.missing(first, min(last, latest))
