# SPDX-License-Identifier: Apache-2.0
"""The regular look at every flow: who is idle, who closed unheard, who moved (9.8, 9.11)."""

from __future__ import annotations

from collections.abc import Callable

from data_flow_segment.targets.contract import Event, FlowClosed, FlowIdle, FlowMoved
from data_flow_segment.targets.memory.table import Flow, FlowTable
from ssmb.constants import CLOSE_TIMEOUT_S


class Sweep:
    """One agent's passes over the table.  An agent that adopted a table begins with none told."""

    def __init__(self, table: FlowTable, tell: Callable[[Event], None]) -> None:
        self._table = table
        self._tell = tell
        self._position = 0
        for flow in table:
            flow.close_told = False

    def look(self, limit: int, now: float, *, stats: bool) -> bool:
        """Look at up to `limit` further flows; True when a pass is complete."""
        flows, last = self._table.after(self._position, limit)
        for flow in flows:
            event = self._event_of(flow, now, stats=stats)
            if event is not None:
                self._tell(event)
        self._position = 0 if last is None else last
        return last is None

    def _event_of(self, flow: Flow, now: float, *, stats: bool) -> Event | None:
        state = flow.state(now)
        cause = flow.tracker.cause
        if cause is not None:
            told, flow.close_told = flow.close_told, True
            return None if told else FlowClosed(state, cause)
        timeout_s = CLOSE_TIMEOUT_S if state.closing else flow.entry.idle_timeout_s
        if 0 < timeout_s * 1000 <= state.idle_ms:
            return FlowIdle(state)
        packets = sum(flow.packets)
        if not stats or packets == flow.packets_told:
            return None
        flow.packets_told = packets
        return FlowMoved(state)
