# SPDX-License-Identifier: Apache-2.0
"""What an agent waits for that has not had its switch yet, and what it says about it.

what is in the way                           what the agent does
-------------------------------------------  -------------------------------------------------
the switch is not there, or not ready        waits: said once, then every AGAIN_S
another agent uses this election_id          the same, once it cannot be this one's own ghost
another agent is primary                     waits: said once
what only a person can mend: another         gives up
program, a refused one, no permission
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import TargetError, TargetLost, Waiting
from data_flow_segment.targets.p4runtime.failures import ElectionIdInUse, NotPrimary

AGAIN_S: Final = 600.0
"""How often the same is said again: rarely enough for a switch that is away for a weekend."""

CHANGE_S: Final = 30.0
"""The least between two sentences, if the reason changed: a switch that starts gives several."""

GHOST_S: Final = 2.0
"""How long a switch may need to notice that this agent's previous process has ended."""


class Patience:
    """Of one agent, until it is primary for the first time."""

    def __init__(self) -> None:
        self._stands_by = False
        self._said, self._said_at = "", 0.0
        self._ghost_since: float | None = None

    def stand_by(self, reason: str) -> Waiting | None:
        """Another agent is primary; what is to be said about it."""
        if self._stands_by:
            return None
        self._stands_by = True
        return Waiting(reason, for_another=True)

    def hear(self, error: TargetError, now: float) -> Waiting | TargetError | None:
        """A session ended: what is to be said, or the error if waiting does not mend it."""
        if not isinstance(error, TargetLost):
            return error
        if isinstance(error, NotPrimary) or self._may_be_ghost(error, now):
            return None
        if self._stands_by:
            return None  # it waits for another agent already, and has said so
        reason = str(error)
        least_s = AGAIN_S if reason == self._said else CHANGE_S
        if self._said and now < self._said_at + least_s:
            return None
        self._said, self._said_at = reason, now
        is_taken = isinstance(error, ElectionIdInUse)
        return Waiting(f"{reason}; waiting for it", for_another=is_taken)

    def _may_be_ghost(self, error: TargetLost, now: float) -> bool:
        if not isinstance(error, ElectionIdInUse):
            return False
        if self._ghost_since is None:
            self._ghost_since = now
        return now < self._ghost_since + GHOST_S
