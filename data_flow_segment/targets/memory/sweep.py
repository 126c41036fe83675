# SPDX-License-Identifier: Apache-2.0
"""The regular pass over all flows: idle ones, ones that closed unseen, ones that had packets (9.8,
9.11)."""

from __future__ import annotations

from collections.abc import Callable

from data_flow_segment.targets.became_ours import BecameOurs, leads_to
from data_flow_segment.targets.contract import Event, FlowLooping
from data_flow_segment.targets.flow_table import FlowTable, event_of
from data_flow_segment.targets.memory.flow import Flow


class Sweep:
    """One agent's passes over the table.  For an agent that adopted a table none is reported
    yet."""

    def __init__(
        self,
        table: FlowTable[Flow],
        report: Callable[[Event], None],
        half_open_s: int,
        became_ours: BecameOurs,
    ) -> None:
        self._table = table
        self._became_ours = became_ours
        self._ours: frozenset[bytes] = frozenset()  # to look for in this pass
        self._report = report
        self._half_open_s = half_open_s
        self._position = 0
        for flow in table:
            flow.close_reported = False

    def look(self, limit: int, now: float, *, stats: bool) -> bool:
        """Look at up to `limit` further flows; True when a pass is complete."""
        if not self._position:
            self._ours = self._became_ours.take()
        flows, last = self._table.after(self._position, limit)
        for flow in flows:
            if self._ours and leads_to(flow.entry, self._ours):
                self._report(FlowLooping(flow.state(now)))
                continue
            event = event_of(flow, now, stats=stats, half_open_s=self._half_open_s)
            if event is not None:
                self._report(event)
        self._position = 0 if last is None else last
        return last is None
