# SPDX-License-Identifier: Apache-2.0
"""What a client says right behind its first segment, while the target asks the CS about that one or
completes the handshake with the node (docs/design/0012).

No flow has it yet, and the agent does not know that there will be one: so it waits, and goes on
through the flow's entry, or with the connection if the agent has to go on with that.  Nobody is
asked about it, for a CS that needs more of what its client says knows no session.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from data_flow_segment.flows.table import Table
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import InjectPacket, PacketIn
from data_flow_segment.timers import Wheel
from ssmb.messages import Session

SESSIONS_MAX: Final = 4096
PACKETS_MAX: Final = 16  # of one session
LOOK_AGAIN_S: Final = 0.004
PATIENCE_S: Final = 3.0
"""Before that its client has said all again, several times."""


class _Waiting:
    __slots__ = ("packets", "pause_s", "since")

    def __init__(self, packet: PacketIn, now: float) -> None:
        self.packets = [packet]
        self.since = now
        self.pause_s = LOOK_AGAIN_S


class BehindFirst:
    """Holds them."""

    def __init__(
        self,
        outbox: Outbox,
        table: Table,
        handshakes: Container[Session],
        place: Callable[[PacketIn, float], None],
    ) -> None:
        """`handshakes`: the sessions of which the agent has the connection; `place`: as if the
        packet came up now."""
        self._outbox = outbox
        self._counters = outbox.counters
        self._table = table
        self._handshakes = handshakes
        self._place = place
        self._waiting: dict[Session, _Waiting] = {}
        self._due: Wheel[Session] = Wheel()
        self._is_placing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, packet: PacketIn, server: VirtualServer, now: float) -> bool:
        """Whether a packet of no flow to a content-aware virtual server waits here, or is dealt
        with."""
        session = packet.signature.session
        if self._is_placing or not server.entry.app_type:
            return False
        if not self._table.target.has_asked(session):
            return False
        waiting = self._waiting.get(session)
        if waiting is not None:
            if len(waiting.packets) < PACKETS_MAX:
                waiting.packets.append(packet)
            else:
                self._counters["drop_early_segment"] += 1
            return True
        if len(self._waiting) >= SESSIONS_MAX:
            return False
        self._waiting[session] = waiting = _Waiting(packet, now)
        self._counters["short_early"] += 1
        if not self._is_settled(session, waiting, now):
            self._due.schedule(now + waiting.pause_s, session)
        return True

    def get_timer(self) -> float | None:
        return self._due.get_timer()

    def handle_timer(self, now: float) -> None:
        """Look at those whose time has come."""
        for session in self._due.due(now):
            waiting = self._waiting.get(session)
            if waiting is not None and not self._is_settled(session, waiting, now):
                waiting.pause_s *= 2
                self._due.schedule(now + waiting.pause_s, session)

    def _is_settled(self, session: Session, waiting: _Waiting, now: float) -> bool:
        """Whether it waits no longer."""
        if session in self._handshakes:
            return self._placed(session, waiting, now)
        state = self._table.lookup(waiting.packets[0].signature)
        if state is not None and not state.entry.held and not state.closed:
            del self._waiting[session]
            self._outbox.commands += map(InjectPacket, waiting.packets)
            return True
        if now - waiting.since < PATIENCE_S:
            return False
        del self._waiting[session]
        self._counters["drop_early_segment"] += len(waiting.packets)
        return True

    def _placed(self, session: Session, waiting: _Waiting, now: float) -> bool:
        del self._waiting[session]
        self._is_placing = True
        try:
            for packet in waiting.packets:
                self._place(packet, now)
        finally:
            self._is_placing = False
        return True
