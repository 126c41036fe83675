# SPDX-License-Identifier: Apache-2.0
"""The regular look at every flow: who is idle, who closed unheard, who moved (9.8, 9.11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowMoved,
    FlowState,
)
from data_flow_segment.targets.memory.table import Flow, FlowTable
from ssmb.constants import CLOSE_TIMEOUT_S


class Swept(Protocol):
    """What a look at a flow needs, whoever counts its packets."""

    entry: FlowEntry
    close_told: bool
    packets_told: int

    @property
    def cause(self) -> int | None:
        """Why it ended, None while it goes on."""

    @property
    def packets_seen(self) -> int:
        """In both directions."""

    def state(self, now: float) -> FlowState:
        """What the agent is told."""


class Sweep:
    """One agent's passes over the table.  An agent that adopted a table begins with none told."""

    def __init__(self, table: FlowTable[Flow], tell: Callable[[Event], None]) -> None:
        self._table = table
        self._tell = tell
        self._position = 0
        for flow in table:
            flow.close_told = False

    def look(self, limit: int, now: float, *, stats: bool) -> bool:
        """Look at up to `limit` further flows; True when a pass is complete."""
        flows, last = self._table.after(self._position, limit)
        for flow in flows:
            event = event_of(flow, now, stats=stats)
            if event is not None:
                self._tell(event)
        self._position = 0 if last is None else last
        return last is None


def event_of(flow: Swept, now: float, *, stats: bool) -> Event | None:
    """What there is to tell of a flow; it counts as told."""
    state = flow.state(now)
    cause = flow.cause
    if cause is not None:
        told, flow.close_told = flow.close_told, True
        return None if told else FlowClosed(state, cause)
    timeout_s = CLOSE_TIMEOUT_S if state.closing else flow.entry.idle_timeout_s
    if 0 < timeout_s * 1000 <= state.idle_ms:
        return FlowIdle(state)
    packets = flow.packets_seen
    if not stats or packets == flow.packets_told:
        return None
    flow.packets_told = packets
    return FlowMoved(state)
