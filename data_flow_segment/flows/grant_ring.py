# SPDX-License-Identifier: Apache-2.0
"""What a virtual server was granted in its current generation (wire protocol 13.3): which decisions
may still be taken, for what comes back and for standbys."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from data_flow_segment.flows.leases import Lease
from data_flow_segment.peers.virtual_servers import VirtualServer
from ssmb.constants import GRANT_DATA_MAX, GRANTED_MAX, Flag, GrantContent
from ssmb.grants import NODE_SIZE, following, node_octets
from ssmb.messages import Grant

_RETRY: Final = int(Flag.RETRY)
_NODES_AT_ONCE: Final = GRANT_DATA_MAX // NODE_SIZE


class _Given(NamedTuple):
    serial: int  # of the first
    size: int
    decisions: bytes  # as octets


class Ring:
    """The current generation of a virtual server."""

    __slots__ = (
        "_given",
        "_last",
        "_nodes",
        "_passed",
        "early",
        "generation",
        "last_serial",
        "lease",
        "part",
        "ranges",
        "server",
    )

    def __init__(self, generation: int, lease: Lease, server: VirtualServer | None) -> None:
        self.generation = generation
        self.lease = lease
        self.server = server  # None: its grants cannot be used here
        self.part = 0  # the last that was carried out
        self.ranges: deque[_Given] = deque()
        self._given = self._passed = 0  # decisions in all, and before those in `ranges`
        self.last_serial = 0  # of this virtual server, under this lease
        # Parts that came before one that is missing, and whose multicast they were
        self.early: dict[int, tuple[Grant, int]] = {}
        self._nodes: dict[int, bytes] = {}  # as octets, by their index
        self._last: Grant | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it may be taken."""
        return not self.ranges

    def note(self, grant: Grant) -> None:
        """A part is carried out: its nodes."""
        self._last = grant
        self._nodes |= node_octets(grant)

    def give(self, serial: int, count: int, decisions: bytes) -> None:
        """Note more decisions, and forget those that have been taken for sure."""
        self.ranges.append(_Given(serial, count, decisions))
        self._given += count
        self.last_serial = following(serial, count - 1)
        while self._given - self._passed - self.ranges[0].size >= GRANTED_MAX:
            self._passed += self.ranges.popleft().size

    def untaken(self, taken: int) -> list[tuple[int, int]]:
        """The ranges (the first serial, how many) that are left when so many were taken from the
        front."""
        left = []
        taken = max(0, taken - self._passed)
        for serial, count, _ in self.ranges:
            gone = min(taken, count)
            taken -= gone
            if gone < count:
                left.append((following(serial, gone), count - gone))
        return left

    def empty(self) -> None:
        """Nothing of it is taken any more."""
        self.ranges.clear()

    def repeated(self) -> Iterator[Grant]:
        """What a standby has to know that has got nothing of it: the nodes, and what may still be
        taken, with which node a TAKEN names."""
        if self._last is None:
            return
        base = self._last._replace(
            flags=self._last.flags & ~_RETRY,
            part=self.part,
            first=0,
            content=int(GrantContent.DECISIONS),
        )
        nodes = list(self._nodes.values())
        for start in range(0, len(nodes), _NODES_AT_ONCE):
            some = nodes[start : start + _NODES_AT_ONCE]
            yield base._replace(serial=0, node_count=len(some), grant_data=b"".join(some))
        for serial, _, decisions in self.ranges:
            yield base._replace(serial=serial, node_count=0, grant_data=decisions)
