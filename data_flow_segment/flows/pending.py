# SPDX-License-Identifier: Apache-2.0
"""Flows that wait for the CS: QUERY_WAIT of the wire protocol (9.2, 9.5, 6.8).

A pending flow is the only record of its QUERY; there is no table of requests beside it.  What is
held is bounded in three ways: octets per flow, octets of all flows, number of flows.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import PacketIn
from data_flow_segment.timers import Wheel
from ssmb.constants import TCP, ErrorCode
from ssmb.messages import FlowSignature, Session

PENDING_MAX: Final = 65536
"""Flows that wait at a time: 350 ms of 187,000 new flows a second, more than CSs decide."""

HELD_OCTETS_MAX: Final = 64 << 20
"""Octets held for all pending flows together."""


class PendingFlow:
    """One flow that waits."""

    __slots__ = (
        "asking",
        "deadline",
        "group_id",
        "held_until",
        "is_half",
        "is_syn",
        "opened_ms",
        "outbound",
        "packets",
        "refusal",
        "room",
        "sent",
        "serial",
        "signature",
        "tcp_flags",
        "tries",
        "virtual_server",
        "waits_until",
    )

    def __init__(
        self,
        serial: int,
        packet: PacketIn,
        group_id: int,
        opened_ms: int,
        *,
        outbound: bool,
        is_syn: bool,
        room: int,
    ) -> None:
        self.serial = serial
        self.signature: FlowSignature = packet.signature
        self.tcp_flags = packet.tcp_flags
        self.virtual_server = packet.virtual_server
        self.is_half = False  # an earlier agent left half of it; no packet waits
        self.group_id = group_id
        self.opened_ms = opened_ms
        self.outbound = outbound
        self.asking = 0  # of ssmb.constants.Asking; not NEW: the flow is installed
        self.is_syn = is_syn  # begins a TCP session, or needs no distinction (UDP)
        self.packets = [packet]
        self.room = room  # octets that may still be held for it
        self.tries = 0  # repeats so far
        self.sent = False  # whether a CS was ever asked
        self.deadline = 0.0  # of the next repeat
        self.waits_until = 0.0  # for a place (WAIT), or its first segment; 0: it does not
        self.refusal = int(ErrorCode.BUSY)  # of one that has waited
        self.held_until = 0.0  # while no CS could answer; 0: one could, or it has time

    @property
    def opens(self) -> bool:
        """Whether a TCP connection begins with it."""
        return self.is_syn and self.signature.protocol == TCP


class PendingFlows:
    """All flows that wait, by session, with the time of their next repeat."""

    def __init__(self, *, pending_max: int = PENDING_MAX, held_max: int = HELD_OCTETS_MAX) -> None:
        self.by_session: dict[Session, PendingFlow] = {}
        self.held_octets = 0
        self._pending_max = pending_max
        self._held_max = held_max
        self._repeats: Wheel[tuple[Session, float]] = Wheel()

    def __len__(self) -> int:
        return len(self.by_session)

    @property
    def full(self) -> bool:
        return len(self.by_session) >= self._pending_max

    def add(self, session: Session, flow: PendingFlow, octets: int) -> None:
        """Enter a new flow, whose first packet has so many octets."""
        self.by_session[session] = flow
        self.held_octets += octets

    def schedule(self, session: Session, flow: PendingFlow, deadline: float) -> None:
        """Return the flow in `due` when this deadline has passed and it still waits for it."""
        if flow.deadline == deadline:
            return  # it would be returned twice
        flow.deadline = deadline
        self._repeats.schedule(deadline, (session, deadline))

    def hold(self, flow: PendingFlow, packet: PacketIn) -> str:
        """Keep a further packet; return the counter that says what was done with it."""
        octets = len(packet.frame)
        if octets > flow.room:
            return "drop_flow_buffer_full"
        if self.held_octets + octets > self._held_max:
            return "drop_buffers_full"
        flow.room -= octets
        self.held_octets += octets
        flow.packets.append(packet)
        return "held_packets"

    def has_room_for(self, octets: int) -> bool:
        """Whether a first packet of this size may be held."""
        return self.held_octets + octets <= self._held_max

    def remove(self, session: Session) -> PendingFlow:
        """Take a flow out with what it holds."""
        flow = self.by_session.pop(session)
        for packet in flow.packets:
            self.held_octets -= len(packet.frame)
        return flow

    def get_timer(self) -> float | None:
        """When `due` may have something."""
        return self._repeats.get_timer()

    def due(self, now: float) -> list[tuple[Session, PendingFlow]]:
        """The flows whose repeat has fallen due and that still wait."""
        found = []
        for session, deadline in self._repeats.due(now):
            flow = self.by_session.get(session)
            if flow is not None and flow.deadline == deadline:
                found.append((session, flow))
        return found

    def of_group(self, group_id: int) -> list[tuple[Session, PendingFlow]]:
        """The flows that wait for a CS of this group (a take-over repeats them, 11.5)."""
        return [item for item in self.by_session.items() if item[1].group_id == group_id]
