# SPDX-License-Identifier: Apache-2.0
"""Whether a standby's copy is complete and equal (docs/design/0009)."""

from __future__ import annotations

import itertools
from typing import Final

from control_segment.copy_state import GAP_S, QUIET_S, RESYNC_MOST_S, CopyState
from ssmb.multicast import GroupSealer, GroupStream, Origin
from ssmb.seal import Opener, Sealer

KEY: Final = bytes(16)
TICK_S: Final = 0.05


def datagrams(count: int) -> list[bytes]:
    sealer = Sealer(KEY)
    return [sealer.seal(b"message") for _ in range(count)]


def looked(copy: CopyState, opener: Opener, begin: float, seconds: float) -> list[bool]:
    """Look once per heartbeat."""
    return [copy.look(opener, begin + step * TICK_S) for step in range(round(seconds / TICK_S) + 1)]


def test_it_is_complete_after_a_sync_and_stays_so_while_nothing_is_missing() -> None:
    copy, opener = CopyState(), Opener(KEY)
    states = [copy.is_complete]
    copy.synchronised()
    for datagram in datagrams(500):
        opener.open(datagram)
    assert not any(looked(copy, opener, 0.0, 2.0))
    states.append(copy.is_complete)
    assert states == [False, True]
    assert copy.gaps == 0


def test_a_datagram_that_does_not_come_makes_it_incomplete_once() -> None:
    copy, opener = CopyState(), Opener(KEY)
    copy.synchronised()
    sent = datagrams(100)
    for number, datagram in enumerate(sent):
        if number not in (10, 40, 41):
            opener.open(datagram)
    assert looked(copy, opener, 0.0, 2.0).count(True) == 1
    assert not copy.is_complete
    assert copy.gaps == 3
    copy.synchronised()
    assert not any(looked(copy, opener, 2.0, 2.0))
    assert copy.is_complete


def test_the_first_ones_may_be_missing_too() -> None:
    copy, opener = CopyState(), Opener(KEY)
    copy.synchronised()
    for datagram in datagrams(5)[2:]:
        opener.open(datagram)
    assert any(looked(copy, opener, 0.0, 1.0))
    assert copy.gaps == 2


def test_what_overtakes_is_not_missing() -> None:
    copy, opener = CopyState(), Opener(KEY)
    copy.synchronised()
    sent = datagrams(3)
    opener.open(sent[2])
    assert not any(looked(copy, opener, 0.0, GAP_S - TICK_S))
    opener.open(sent[0])
    opener.open(sent[1])
    assert not any(looked(copy, opener, GAP_S, 1.0))
    assert copy.is_complete


def test_another_connection_has_counters_of_its_own() -> None:
    copy, opener = CopyState(), Opener(KEY)
    for datagram in datagrams(50):
        opener.open(datagram)
    looked(copy, opener, 0.0, 1.0)
    again = Opener(bytes(15) + b"x")
    again.open(Sealer(bytes(15) + b"x").seal(b"first"))
    assert not any(looked(copy, again, 1.0, 1.0))
    assert copy.gaps == 0


def test_equal_tables_are_equal_and_a_difference_counts_after_quiet() -> None:
    copy = CopyState()
    copy.synchronised()
    assert not copy.compare((3, 77), (3, 77), 1.0)
    assert (copy.differs, copy.equal_at) == (False, 1.0)
    assert not copy.compare((4, 99), (3, 77), 2.0)
    assert (copy.differs, copy.equal_at) == (True, 1.0)
    assert not copy.compare((5, 5), (4, 99), 2.0 + QUIET_S)  # both have changed since
    assert copy.compare((5, 5), (4, 99), 2.0 + 2 * QUIET_S)
    assert not copy.is_complete


def test_sums_are_compared_as_they_travel() -> None:
    copy = CopyState()
    assert not copy.compare((1, 5), (1, 5 + (1 << 64)), 0.0)
    assert not copy.differs


def test_a_sync_is_asked_for_now_and_then_only() -> None:
    copy = CopyState()
    times = [step * 0.5 for step in range(200)]
    asked = [now for now in times if copy.may_sync(now)]
    assert asked[:7] == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert max(pauses) == RESYNC_MOST_S
    quiet = times[-1] + 3 * RESYNC_MOST_S
    assert [copy.may_sync(quiet + step) for step in (0.0, 0.5, 1.0)] == [True, True, False]


def test_after_each_failure_of_a_link_a_sync_is_asked_for_as_soon_as_after_the_first() -> None:
    """Each costs a second one, because of what was granted meanwhile."""
    copy, opener = CopyState(), Opener(KEY)
    for failure in range(30):
        now = 7.0 * failure
        copy.lost()
        looked(copy, opener, now, 1.0)
        copy.synchronised()
        copy.lost()
        assert copy.may_sync(now + 1.1)
        copy.synchronised()
        looked(copy, opener, now + 1.1, 3.0)


def test_a_copy_that_misses_something_all_the_time_is_mended_now_and_then_only() -> None:
    copy, opener = CopyState(), Opener(KEY)
    asked: list[float] = []
    for step in range(2000):
        now = step * TICK_S
        copy.look(opener, now)
        if step % 15 == 0:  # three quarters of a second after the one before
            copy.lost()
        if not copy.is_complete and copy.may_sync(now):
            asked.append(now)
            copy.synchronised()
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert max(pauses) >= RESYNC_MOST_S
    assert len(asked) < 15


ORIGIN: Final = Origin(1, 1, 256, 7)
INTERVAL_MS: Final = 50


class Listening:
    """A standby's copy, and the stream of the active CS, of which some does not come."""

    def __init__(self) -> None:
        self.copy = CopyState()
        self.copy.synchronised()
        self.sealer = GroupSealer(KEY, ORIGIN)
        self.stream = GroupStream(KEY, ORIGIN, 1)
        self.now = 0.0

    def beat(self, *, comes: bool = True, announced: bool = True) -> bool:
        """One heartbeat later: a datagram of the group, the relayed heartbeat, and a look."""
        self.now += TICK_S
        datagram = self.sealer.seal(b"message")
        if comes:
            self.stream.open(datagram, self.now)
        if announced:
            self.stream.announce(self.sealer.next_counter - 1, INTERVAL_MS, 1)
        return self.copy.look_at_group(self.stream, self.now)


def test_what_all_hear_is_complete() -> None:
    listening = Listening()
    assert not any(listening.beat() for _ in range(50))
    assert listening.copy.is_complete


def test_a_multicast_that_does_not_come_makes_it_incomplete_once() -> None:
    listening = Listening()
    found = [listening.beat(comes=number not in (20, 21)) for number in range(50)]
    assert True in found
    assert listening.copy.gaps == 2
    assert not listening.copy.is_complete


def test_while_it_hears_nothing_the_dfs_copies_and_nothing_is_missing() -> None:
    """But for what was sent before that was known."""
    listening = Listening()
    for _ in range(10):
        listening.beat()
    found = [listening.beat(comes=False) for _ in range(50)]
    assert found.count(True) == 1
    assert 0 < listening.copy.gaps < 10
    gaps = listening.copy.gaps
    listening.copy.synchronised()
    assert not any(listening.beat() for _ in range(50))
    assert listening.copy.gaps == gaps
    assert listening.copy.is_complete


def test_a_cs_that_ends_leaves_nothing_missing() -> None:
    listening = Listening()
    for _ in range(10):
        listening.beat()
    for _ in range(20):
        listening.now += TICK_S
        assert not listening.copy.look_at_group(listening.stream, listening.now)
    assert listening.copy.is_complete


def test_its_last_datagram_is_missing_if_the_dfs_has_it() -> None:
    listening = Listening()
    for _ in range(10):
        listening.beat()
    listening.beat(comes=False, announced=False)
    listening.stream.announced = max(listening.stream.announced, 11)  # as a DFS has answered
    found = [listening.copy.look_at_group(None, listening.now)]  # another CS is active at once
    assert found == [True]
    assert listening.copy.gaps == 1


def test_a_difference_that_a_sync_leaves_is_the_active_cs_s() -> None:
    """It has a flow whose DELETE was lost; the copy is what the DFS has, and complete."""
    copy = CopyState()
    copy.synchronised()
    assert not copy.compare((4, 99), (3, 77), 1.0)
    assert copy.compare((4, 99), (3, 77), 1.0 + QUIET_S)
    assert not copy.is_complete
    copy.synchronised()
    assert not copy.compare((4, 99), (3, 77), 10.0)
    assert (copy.is_complete, copy.differs) == (True, True)
    assert not copy.compare((4, 98), (3, 77), 11.0)
    assert copy.compare((4, 98), (3, 77), 11.0 + QUIET_S)  # another one


def test_a_copy_that_is_found_to_be_equal_has_missed_nothing_that_matters() -> None:
    copy, opener = CopyState(), Opener(KEY)
    copy.compare((0, 0), (0, 0), 0.0)
    states = [copy.is_complete]  # it has never asked
    copy.synchronised()
    sent = datagrams(5)
    opener.open(sent[0])
    opener.open(sent[4])
    assert any(looked(copy, opener, 0.0, 1.0))
    states.append(copy.is_complete)
    copy.compare((3, 77), (3, 77), 1.0)
    states.append(copy.is_complete)
    copy.lost()
    copy.compare((3, 77), (3, 77), 2.0)
    states.append(copy.is_complete)
    assert states == [False, False, True, False]
