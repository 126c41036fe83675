# SPDX-License-Identifier: Apache-2.0
"""Asks the switch what it saw of flows: P4Runtime does not read registers everywhere, so this
is a packet each way (docs/design/0003-p4.md).

A few queries at a time, because a switch's queue towards its agent is short and shared with new
flows; one that stays unanswered is asked again, and given up after that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from data_flow_segment.targets.p4runtime.flows import SwitchFlow

WINDOW: Final = 24
ANSWER_S: Final = 0.2
TRIES: Final = 3


class Reports:
    """Which flows were asked about, and what waits for them."""

    def __init__(self) -> None:
        self._waiting: deque[SwitchFlow] = deque()
        self._asked: dict[int, tuple[SwitchFlow, float, int]] = {}  # index -> since, tries
        self._wanted: set[int] = set()  # indexes, waiting or asked
        self._for_look: set[int] = set()  # of these the ones that only a look waits for
        self.unanswered = 0

    def ask(self, flows: Sequence[SwitchFlow]) -> None:
        """When others were asked about."""
        for flow in flows:
            self._for_look.discard(flow.index)
            if flow.index not in self._wanted:
                self._wanted.add(flow.index)
                self._waiting.append(flow)

    def ask_first(self, flows: Sequence[SwitchFlow]) -> None:
        """Before all others: a caller waits for it."""
        for flow in reversed(flows):
            if flow.index not in self._wanted:
                self._for_look.add(flow.index)
            if flow.index not in self._asked:
                self._wanted.add(flow.index)
                self._waiting.appendleft(flow)

    def give_up(self, flows: Sequence[SwitchFlow]) -> None:
        """Those that were not asked about yet are no longer waited for."""
        for flow in flows:
            if flow.index in self._for_look and flow.index not in self._asked:
                self.answered(flow.index)

    def is_wanted(self, flow: SwitchFlow) -> bool:
        """Whether its report is still to come."""
        return flow.index in self._wanted

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def due(self, now: float) -> list[int]:
        """The indexes to send queries for now."""
        indexes: list[int] = []
        if self._asked:
            self._repeat(indexes, now)
        while self._waiting and len(self._asked) < WINDOW:
            flow = self._waiting.popleft()
            # else it was removed meanwhile, given up, or asked about in front
            if flow.index in self._wanted and flow.index not in self._asked:
                self._asked[flow.index] = (flow, now, 1)
                indexes.append(flow.index)
        return indexes

    def answered(self, index: int) -> None:
        """Its report came."""
        self._asked.pop(index, None)
        self._wanted.discard(index)
        self._for_look.discard(index)

    def forget(self, flow: SwitchFlow) -> None:
        """It is gone."""
        self.answered(flow.index)

    def clear(self) -> None:
        """The switch is gone."""
        self._waiting.clear()
        self._asked.clear()
        self._wanted.clear()
        self._for_look.clear()

    def _repeat(self, indexes: list[int], now: float) -> None:
        late = [index for index, asked in self._asked.items() if now - asked[1] >= ANSWER_S]
        for index in late:
            flow, _, tries = self._asked[index]
            if tries >= TRIES:
                self.unanswered += 1
                self.answered(index)
            else:
                self._asked[index] = (flow, now, tries + 1)
                indexes.append(index)
