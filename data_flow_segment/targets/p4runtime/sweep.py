# SPDX-License-Identifier: Apache-2.0
"""The regular look at every flow (9.8, 9.11): as far as the reports have come.

What the switch itself called idle (IdleTimeoutNotification) is looked at first, so that on a large
table an idle flow need not wait for its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.became_ours import BecameOurs, leads_to
from data_flow_segment.targets.contract import Event, FlowLooping
from data_flow_segment.targets.flow_table import event_of
from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.reports import Reports

SLICE: Final = 64
"""Flows at a time: with a slice every 50 ms, 1,280 reports per second, which cost BMv2 a twentieth
of a processor.  A faster switch would gain nothing from more queries: it reports idle flows
itself."""


class Sweep:
    """One agent's passes over the table."""

    def __init__(
        self,
        flows: Flows,
        reports: Reports,
        emit: Callable[[Event], None],
        half_open_s: int,
        became_ours: BecameOurs,
    ) -> None:
        self._half_open_s = half_open_s
        self._became_ours = became_ours
        self._ours: frozenset[bytes] = frozenset()  # to look for in this pass
        self._flows = flows
        self._reports = reports
        self._emit = emit
        self._position = 0
        self._is_last = False
        self._stats = False
        self._looked_at: dict[int, SwitchFlow] = {}  # number -> flow whose report is awaited
        self._hastened: dict[int, SwitchFlow] = {}
        self._done: set[int] = set()  # in this pass: looked at out of their turn, or reported

    def hasten(self, flow: SwitchFlow) -> None:
        """The switch saw no packet of it for its idle time."""
        self._hastened[flow.number] = flow

    def forget(self, flow: SwitchFlow) -> None:
        self._hastened.pop(flow.number, None)
        self._looked_at.pop(flow.number, None)

    def reported(self, flow: SwitchFlow, now: float) -> None:
        """Its report came, or never will."""
        if self._looked_at.pop(flow.number, None) is not None:
            event: Event | None
            if self._ours and leads_to(flow.entry, self._ours):
                event = FlowLooping(flow.state(now))
            else:
                event = event_of(flow, now, stats=self._stats, half_open_s=self._half_open_s)
            if event is not None:
                self._done.add(flow.number)
                self._emit(event)

    @property
    def is_waiting(self) -> bool:
        return bool(self._looked_at)

    def give_up(self, now: float) -> None:
        """Flows that the switch said nothing of are reported as they were."""
        for flow in list(self._looked_at.values()):
            if not self._reports.is_wanted(flow):
                self.reported(flow, now)

    def look(self, limit: int, *, stats: bool) -> bool:
        """Begin with up to `limit` further flows; True when a pass is complete."""
        if self._looked_at:
            return False
        if not self._is_last:
            self._stats = stats
            chosen = self._choose(min(limit, SLICE))
            self._looked_at = {flow.number: flow for flow in chosen}
            self._reports.ask(chosen)
            if chosen or not self._is_last:
                return False
        self._is_last = False
        self._done.clear()
        return True

    def restart(self) -> None:
        """The switch came back: nothing is awaited any more."""
        self._looked_at.clear()

    def _choose(self, limit: int) -> list[SwitchFlow]:
        chosen: list[SwitchFlow] = []
        while self._hastened and len(chosen) < limit:
            number, flow = self._hastened.popitem()
            if number not in self._done:
                chosen.append(flow)
                self._done.add(number)
        if len(chosen) < limit:
            if not self._position:
                self._ours = self._became_ours.take()
            found, last = self._flows.table.after(self._position, limit - len(chosen))
            self._position = 0 if last is None else last
            self._is_last = last is None
            chosen += [flow for flow in found if flow.number not in self._done]
        return chosen
