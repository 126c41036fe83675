# SPDX-License-Identifier: Apache-2.0
"""The agent's commands as operations: in their order, in as few messages as it allows.

* Updates that follow each other are one Write, unless two of them are about one entry: P4Runtime
  gives the updates of a Write no order.
* A packet goes out after the Writes before it were answered (the driver waits).
* The other way round nothing waits by itself: a packet that was put out may be processed with what
  is written after it.  So a Write that could change where such a packet goes waits behind a Fence.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.constants import Operation as PacketOperation
from data_flow_segment.targets.p4runtime.operations import (
    Fence,
    Operation,
    Read,
    Send,
    Write,
)
from data_flow_segment.targets.p4runtime.packets import packet_out

UPDATES_MAX: Final = 512
"""In one Write: a quarter of a megabyte at most, far below gRPC's limit of 4 MB."""

FLIGHT_S: Final = 1.0
"""After this long a packet that was put out has been handled, or never will be."""


class Batch:
    """Operations that wait to be submitted."""

    def __init__(self, fence_index: int) -> None:
        self._fence_index = fence_index
        self._operations: list[Operation] = []
        self._updates: list[p4r.Update] = []
        self._tokens: list[object] = []
        self._entries: set[Hashable] = set()
        self._flying: dict[Hashable, float] = {}  # session of a packet -> since when

    def write(self, entry: Hashable, update: p4r.Update, token: object) -> None:
        """One update of the table entry that `entry` stands for."""
        if entry in self._entries or len(self._updates) >= UPDATES_MAX:
            self._close()
        self._entries.add(entry)
        self._updates.append(update)
        self._tokens.append(token)

    def read(self, entities: tuple[p4r.Entity, ...], token: object) -> None:
        """Read what the switch holds after all writes before."""
        self._close()
        self._operations.append(Read(entities, token))

    def send(self, packet: p4r.PacketOut) -> None:
        """Put a packet out."""
        self._close()
        self._operations.append(Send(packet))

    def put_back(self, packet: p4r.PacketOut, session: Hashable, now: float) -> None:
        """Put a packet out that the tables decide about."""
        self.send(packet)
        self._flying[session] = now

    def settle(self, session: Hashable, now: float) -> None:
        """Something about this session's packets is about to change: let those in flight arrive.
        None: about all packets."""
        flying = self._flying
        if not flying:
            return
        if session is None:
            is_needed = any(now - since < FLIGHT_S for since in flying.values())
        else:
            is_needed = now - flying.get(session, now - FLIGHT_S) < FLIGHT_S
        if is_needed:
            self.fence()

    def fence(self) -> None:
        """Go on when all packets until here were handled."""
        self._close()
        report = packet_out(PacketOperation.REPORT, value=self._fence_index)
        self._operations.append(Fence(report, self._fence_index))
        self._flying.clear()

    def forget_landed(self, now: float) -> None:
        """Those that were put out long ago."""
        for session in [s for s, since in self._flying.items() if now - since >= FLIGHT_S]:
            del self._flying[session]

    def barrier(self) -> None:
        """What is written from here on waits until all before was answered."""
        self._close()

    def clear(self) -> None:
        """The switch is gone, and all that was on its way to it."""
        self.take()
        self._flying.clear()

    def take(self) -> list[Operation]:
        """All that is to be submitted, in order."""
        self._close()
        taken, self._operations = self._operations, []
        return taken

    def _close(self) -> None:
        if self._updates:
            self._operations.append(Write(tuple(self._updates), tuple(self._tokens)))
            self._updates, self._tokens = [], []
            self._entries.clear()
