# SPDX-License-Identifier: Apache-2.0
"""What a target did for a CS that is not active any more, and reports a moment later.

A copy of it would go to the standbys, of which the new active CS is none, and a TAKEN to a CS that
has granted nothing.  All of them get FLOW_STATE instead, as in a SYNC (wire protocol 11.5).
"""

from __future__ import annotations

from enum import Enum, auto


class _Stage(Enum):
    CHANGED = auto()  # the target does not know yet
    TOLD = auto()  # it does; what it reported before is still to be read


class Leftovers:
    """The groups whose active CS has changed a moment ago."""

    def __init__(self) -> None:
        self.stages: dict[int, _Stage] = {}  # empty: nothing is to be read soon, nor to be done

    def begin(self, group_id: int) -> None:
        """Another CS is active, or none."""
        self.stages[group_id] = _Stage.CHANGED

    def may_be_of(self, group_id: int) -> bool:
        """Whether what the target reports now may have been decided by the CS before."""
        return group_id in self.stages

    def target_told(self) -> None:
        """The commands of this wake-up are on their way to it."""
        for group_id in self.stages:
            self.stages[group_id] = _Stage.TOLD

    def read(self) -> frozenset[int]:
        """The groups of which everything is read once the events are handled that are there."""
        return frozenset(
            group_id for group_id, stage in self.stages.items() if stage is _Stage.TOLD
        )

    def end(self, groups: frozenset[int]) -> None:
        """They are handled."""
        for group_id in groups:
            if self.stages.get(group_id) is _Stage.TOLD:
                del self.stages[group_id]
