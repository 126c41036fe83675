# SPDX-License-Identifier: Apache-2.0
"""SYNC: a DFS reports every flow that it has (wire protocol 11.4).

The CS asks for it whenever CSMB becomes READY.  SYNC_DONE says how many FLOW_STATEs the try had;
lost ones cause another SYNC, and earlier reports still count.  After the last try the CS goes on
with what it knows: a flow that was missed is found again by its next QUERY, STATS or DELETE.

Flows begin and end meanwhile, so the number of records says nothing.  We count messages, by serial:

    those of this try, whatever became of the flow since (SYNC_DONE counts it too), and
    those of earlier tries whose flows live on: the ones that this try may have lost again.

A flow that ended between two tries is not in the later one's count, and so not in the CS's.
"""

from __future__ import annotations

from typing import Final

from admin import answers

ANSWER_WAIT_S: Final = 0.5  # without any FLOW_STATE or SYNC_DONE: ask again
# But a DFS that has reported many flows is busy rather than gone, and begins anew when it is asked:
# waiting costs no more than that while it is no longer
AGAIN_PER_S: Final = 32_000  # flows, by a DFS that is not busy
ANSWER_WAIT_MAX_S: Final = 5.0
REORDER_WAIT_S: Final = 0.1  # SYNC_DONE may overtake the last FLOW_STATEs
TRIES: Final = 10
_ID_MASK: Final = 0xFFFF_FFFF


class Sync:
    """One DFS's SYNC."""

    __slots__ = (
        "_deadline",
        "_ended",
        "_expected",
        "_reported",
        "_reported_before",
        "_reported_count",
        "_sync_id",
        "_tries",
        "is_running",
        "started",
    )

    def __init__(self, first_id: int) -> None:
        self._sync_id = first_id & _ID_MASK
        self._reported: set[int] = set()  # serials, by this try
        self._reported_before: set[int] = set()  # only by earlier tries, and not ended since
        self._ended: set[int] = set()  # since the SYNC began
        self._reported_count = 0
        self._tries = 0
        self._expected: int | None = None
        self._deadline: float | None = None
        self.is_running = False
        self.started = 0.0

    def begin(self, now: float) -> int:
        """Start; return the sync_id to ask with."""
        self.stop()
        self.is_running = True
        self.started = now
        self._tries = 0
        return self._ask(now)

    def stop(self) -> None:
        """It is over, or the DFS cannot answer now."""
        self._reported_count = self._count()
        self._reported, self._reported_before, self._ended = set(), set(), set()
        self.is_running = False
        self._deadline = None

    def flow_reported(self, serial: int, now: float) -> bool:
        """A FLOW_STATE came; return whether that ended the SYNC."""
        if not self.is_running:
            return False
        self._reported.add(serial)
        self._reported_before.discard(serial)
        if self._is_complete():
            self.stop()
            return True
        if self._expected is not None:
            self._deadline = now + REORDER_WAIT_S
        else:
            wait_s = min(len(self._reported) / AGAIN_PER_S, ANSWER_WAIT_MAX_S)
            self._deadline = now + max(wait_s, ANSWER_WAIT_S)
        return False

    def flow_ended(self, serial: int) -> None:
        """A DELETE came: later tries do not report this flow."""
        if self.is_running:
            self._ended.add(serial)
            self._reported_before.discard(serial)

    def has_ended(self, serial: int) -> bool:
        """Whether a FLOW_STATE was overtaken by the flow's DELETE."""
        return serial in self._ended

    def remembers_more_than(self, serials: int) -> bool:
        """Whether the SYNC holds more serials than that."""
        remembered = len(self._reported) + len(self._reported_before) + len(self._ended)
        return remembered > serials

    def done_reported(self, sync_id: int, flow_count: int, now: float) -> bool:
        """SYNC_DONE came; return whether that ended the SYNC."""
        if not self.is_running or sync_id != self._sync_id:
            return False
        self._expected = flow_count
        if self._is_complete():
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
        self._reported_before |= self._reported
        self._reported_before -= self._ended
        self._reported = set()
        self._sync_id = (self._sync_id + 1) & _ID_MASK
        # A DFS with many flows, or a lossy path, gets longer each time
        self._deadline = now + ANSWER_WAIT_S * self._tries
        return self._sync_id

    def _count(self) -> int:
        return len(self._reported) + len(self._reported_before)

    def _is_complete(self) -> bool:
        return self._expected is not None and self._count() >= self._expected

    def describe(self) -> answers.Sync:
        """Return what `status` shows."""
        reported = self._count() if self.is_running else self._reported_count
        return answers.Sync(running=self.is_running, flows_reported=reported, tries=self._tries)
