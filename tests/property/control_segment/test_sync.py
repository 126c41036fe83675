# SPDX-License-Identifier: Apache-2.0
"""SYNC over a path that loses, while flows begin and end: never over too early, never too often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_segment.sync import TRIES, Sync

STEP_S = 0.001
# What happens between two flows of the DFS's scan
CHANGES = st.lists(
    st.sampled_from(["begin", "end the oldest", "end the youngest", "nothing"]),
    min_size=80,
    max_size=80,
)
LOSSES = st.lists(st.booleans(), min_size=200, max_size=200)


class Dfs:
    """A table that changes while it is told; its FLOW_STATEs may be lost, nothing else."""

    def __init__(self, count: int, changes: list[str], losses: list[bool]) -> None:
        self.flows = list(range(count))
        self.next_serial = count
        self.changes, self.losses = iter(changes), iter(losses)
        self.counted: set[int] = set()  # by the latest try
        self.known: set[int] = set()  # to the CS, from FLOW_STATE or DELETE

    def tell_all(self, sync: Sync, sync_id: int, now: float) -> float:
        """Answer one SYNC."""
        self.counted = set()
        cursor = -1
        while rest := [serial for serial in self.flows if serial > cursor]:
            cursor = rest[0]
            self.counted.add(cursor)
            now += STEP_S
            if not next(self.losses, False):
                self.known.add(cursor)
                sync.flow_reported(cursor, now)
            self._change(sync)
        sync.done_reported(sync_id, len(self.counted), now)
        return now

    def _change(self, sync: Sync) -> None:
        change = next(self.changes, "nothing")
        if change == "begin":
            self.flows.append(self.next_serial)
            self.next_serial += 1
        elif change != "nothing" and self.flows:
            gone = self.flows.pop(0 if change == "end the oldest" else -1)
            self.known.add(gone)
            sync.flow_ended(gone)


def answered(sync: Sync, dfs: Dfs) -> int:
    """Carry out a SYNC; return how many tries it took."""
    now, sync_id, tries = 1000.0, sync.begin(1000.0), 0
    while True:
        tries += 1
        now = dfs.tell_all(sync, sync_id, now)
        if not sync.is_running:
            return tries
        timer = sync.get_timer()
        assert timer is not None
        now = timer
        again = sync.handle_timer(now)
        if again is None:
            return tries
        sync_id = again


@given(st.integers(0, 30), CHANGES)
def test_without_losses_one_try_is_enough_whatever_begins_and_ends(
    count: int, changes: list[str]
) -> None:
    sync = Sync(0)
    assert answered(sync, Dfs(count, changes, [])) == 1
    assert not sync.is_running


@given(st.integers(0, 30), CHANGES, LOSSES)
def test_a_sync_that_ends_before_its_last_try_has_missed_nothing(
    count: int, changes: list[str], losses: list[bool]
) -> None:
    dfs = Dfs(count, changes, losses)
    if answered(Sync(0), dfs) < TRIES:
        assert dfs.counted <= dfs.known


@given(st.integers(1, 30), st.data())
def test_a_try_that_lost_anything_new_is_followed_by_another(
    count: int, data: st.DataObject
) -> None:
    lost = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    assert answered(Sync(0), Dfs(count, [], lost)) == (2 if any(lost) else 1)
