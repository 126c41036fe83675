# SPDX-License-Identifier: Apache-2.0
"""SYNC: a DFS tells every flow that it has (wire protocol 11.4).

Asked for whenever CSMB becomes READY.  It ends when as many different flows have been told as
SYNC_DONE says; lost FLOW_STATEs make us ask again, and what was told before still counts.  After
the last try we go on with what we know: a flow that was missed is found again by its next QUERY,
STATS or DELETE.
"""

from __future__ import annotations

from typing import Final

ANSWER_WAIT_S: Final = 0.5  # without any FLOW_STATE or SYNC_DONE: ask again
REORDER_WAIT_S: Final = 0.1  # SYNC_DONE may overtake the last FLOW_STATEs
TRIES: Final = 10
_ID_MASK: Final = 0xFFFF_FFFF


class Sync:
    """One DFS's SYNC."""

    __slots__ = ("_deadline", "_expected", "_sync_id", "_told", "_tries", "is_running", "started")

    def __init__(self, first_id: int) -> None:
        self._sync_id = first_id & _ID_MASK
        self._told = 0
        self._tries = 0
        self._expected: int | None = None
        self._deadline: float | None = None
        self.is_running = False
        self.started = 0.0

    def begin(self, now: float) -> int:
        """Start; return the sync_id to ask with."""
        self.is_running = True
        self.started = now
        self._told = self._tries = 0
        return self._ask(now)

    def stop(self) -> None:
        """The DFS cannot answer now."""
        self.is_running = False
        self._deadline = None

    def flow_told(self, *, is_new: bool, now: float) -> bool:
        """A FLOW_STATE came; return whether that ended the SYNC."""
        if not self.is_running:
            return False
        self._told += is_new
        if self._expected is not None and self._told >= self._expected:
            self.stop()
            return True
        self._deadline = now + (ANSWER_WAIT_S if self._expected is None else REORDER_WAIT_S)
        return False

    def done_told(self, sync_id: int, flow_count: int, now: float) -> bool:
        """SYNC_DONE came; return whether that ended the SYNC."""
        if not self.is_running or sync_id != self._sync_id:
            return False
        self._expected = flow_count
        if self._told >= flow_count:
            self.stop()
            return True
        self._deadline = now + REORDER_WAIT_S
        return False

    def get_timer(self) -> float | None:
        """When to look again."""
        return self._deadline

    def handle_timer(self, now: float) -> int | None:
        """Return the sync_id to ask with again, if that is due; after the last try, stop."""
        if self._deadline is None or now < self._deadline:
            return None
        if self._tries >= TRIES:
            self.stop()
            return None
        return self._ask(now)

    def _ask(self, now: float) -> int:
        self._tries += 1
        self._expected = None
        self._sync_id = (self._sync_id + 1) & _ID_MASK
        # A DFS with many flows, or a lossy path, gets longer each time
        self._deadline = now + ANSWER_WAIT_S * self._tries
        return self._sync_id

    def describe(self) -> dict[str, object]:
        """Return what `status` shows."""
        return {"running": self.is_running, "flows_told": self._told, "tries": self._tries}
