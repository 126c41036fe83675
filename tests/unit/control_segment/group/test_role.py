# SPDX-License-Identifier: Apache-2.0
"""The election: when a CS claims to be its group's active one (docs/design/0009)."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.group.role import TABLE, Election
from control_segment.group.rules import FIRST_EPOCH, RULES, Own
from control_segment.group.times import Times
from control_segment.group.views import Beat, Role

TIMES: Final = Times()
DFS, DFS2, DFS3 = 256, 257, 258
TICK_S: Final = 0.05


class Story:
    """One CS, whose DFSs and fellows say what the test says."""

    def __init__(
        self, *, active: bool = False, others: tuple[int, ...] = (1,), own: int = 2, dfss: int = 1,
        times: Times = TIMES,
    ) -> None:  # fmt: skip
        self.now = 100.0
        self.election = Election(own, frozenset(others), times, active=active, now=self.now)
        self.election.known.total = dfss
        self.alive: dict[int, Beat] = {}  # who sends heartbeats, and what
        self.relays: dict[int, int] = {}  # which DFS passes on whose
        self.answers: set[int] = set()
        for dfs_id in (DFS, DFS2, DFS3)[:dfss]:
            self.connect(dfs_id)

    def is_now(self, role: Role) -> bool:
        return self.election.role is role

    def connect(self, dfs_id: int, *, has_heartbeats: bool = True) -> None:
        self.election.connected(dfs_id, self.now, has_heartbeats=has_heartbeats)
        self.answers.add(dfs_id)

    def says(self, dfs_id: int, *, active: bool, epoch: int = 1, refused: bool = False) -> None:
        self.election.said(dfs_id, self.now, active=active, refused=refused, epoch=epoch)

    def lives(self, segment_id: int, role: Role, *, epoch: int = 1, reach: int = 1) -> None:
        self.alive[segment_id] = Beat(segment_id, role, epoch, reach)

    def under_another(self, *, epoch: int = 1, dfss: tuple[int, ...] = (DFS,)) -> None:
        """CS 1 is active everywhere, and well."""
        self.lives(1, Role.ACTIVE, epoch=epoch, reach=len(dfss))
        for dfs_id in dfss:
            self.says(dfs_id, active=True, epoch=epoch)
            self.relays[dfs_id] = 1
        self.run(1)
        assert self.is_now(Role.STANDBY)

    def run(self, seconds: float) -> float:
        """Let time pass until the role changes; return after how long that was."""
        begun, before = self.now, self.election.role
        while self.now < begun + seconds and self.election.role is before:
            self.now += TICK_S
            for dfs_id in self.answers:
                self.election.answered(dfs_id, self.now)
            for beat in self.alive.values():
                self.election.heard(beat, self.now)
            for dfs_id, segment_id in self.relays.items():
                if segment_id in self.alive:
                    self.election.relayed(dfs_id, self.alive[segment_id], self.now)
            self.election.handle_timer(self.now)
        return self.now - begun

    def dies(self, segment_id: int) -> None:
        del self.alive[segment_id]


def test_the_configured_one_claims_at_once_with_the_first_epoch() -> None:
    story = Story(active=True)
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == FIRST_EPOCH
    story.says(DFS, active=True)
    assert story.is_now(Role.ACTIVE)
    assert story.election.is_active_at(DFS, before=False)


def test_a_standby_waits_at_its_start_for_the_active_one() -> None:
    story = Story()
    story.says(DFS, active=False, epoch=0)
    assert story.run(30) == pytest.approx(TIMES.start, abs=2 * TICK_S)
    assert story.is_now(Role.CLAIMING)


def test_a_killed_one_is_replaced_after_the_dfs_has_said_so() -> None:
    story = Story()
    story.under_another(epoch=4)
    story.dies(1)
    story.says(DFS, active=False, epoch=4)
    took_s = story.run(30)
    assert TIMES.vacant - TICK_S <= took_s <= TIMES.vacant + 2 * TICK_S
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == 5


def test_a_hung_one_is_replaced_although_its_connection_stands() -> None:
    story = Story()
    story.under_another()
    story.dies(1)
    took_s = story.run(30)
    assert TIMES.silent - TICK_S <= took_s <= TIMES.silent + 2 * TICK_S
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == 2


def test_a_dfs_that_hears_the_active_one_is_believed() -> None:
    """The way between the CSs is broken, and no other."""
    story = Story()
    story.under_another()
    beat = story.alive.pop(1)
    for _ in range(200):
        story.now += TICK_S
        story.election.answered(DFS, story.now)
        story.election.relayed(DFS, beat, story.now)
        story.election.handle_timer(story.now)
    assert story.is_now(Role.STANDBY)


def test_an_active_one_that_lost_its_connection_gets_time_to_return() -> None:
    story = Story()
    story.under_another()
    story.says(DFS, active=False)
    assert story.run(TIMES.cut_off) == pytest.approx(TIMES.cut_off, abs=TICK_S)
    assert story.is_now(Role.STANDBY)


def test_one_that_lives_and_reaches_only_others_is_not_waited_for_for_ever() -> None:
    """A split down the middle, and the CSs still hear each other: a DFS must not stay without."""
    story = Story(dfss=2)
    story.under_another(dfss=(DFS, DFS2))
    del story.relays[DFS], story.relays[DFS2]
    story.election.disconnected(DFS, story.now)
    story.answers.discard(DFS)
    story.says(DFS2, active=False)
    story.lives(1, Role.ACTIVE, reach=1)
    assert story.run(30) == pytest.approx(TIMES.cut_off + TIMES.vacant, abs=2 * TICK_S)
    assert story.is_now(Role.CLAIMING)


def test_one_that_reaches_more_takes_over_from_one_that_lives() -> None:
    story = Story(dfss=2)
    story.under_another(dfss=(DFS, DFS2))
    story.lives(1, Role.ACTIVE, reach=1)
    del story.relays[DFS2]
    story.says(DFS2, active=False)
    took_s = story.run(30)
    assert took_s == pytest.approx(TIMES.cut_off + TIMES.vacant, abs=2 * TICK_S)
    assert story.is_now(Role.CLAIMING)


def test_one_that_reaches_no_more_does_not() -> None:
    story = Story(dfss=2)
    story.under_another(dfss=(DFS, DFS2))
    del story.relays[DFS2]
    story.says(DFS2, active=False)
    story.run(30)
    assert story.is_now(Role.STANDBY)


def test_of_two_standbys_the_lower_id_goes_first_and_the_other_one_steps_back() -> None:
    took = {}
    for own, other in ((2, 3), (3, 2)):
        story = Story(own=own, others=(1, other))
        story.lives(other, Role.STANDBY)
        story.under_another()
        story.dies(1)
        story.says(DFS, active=False)
        took[own] = story.run(30)
    assert took[3] == pytest.approx(took[2] + TIMES.stagger, abs=TICK_S)


def test_with_fewer_than_half_of_the_dfss_nothing_is_claimed() -> None:
    story = Story(dfss=3)
    story.under_another(dfss=(DFS, DFS2, DFS3))
    story.answers = {DFS}
    story.relays.clear()
    story.dies(1)
    story.run(30)
    assert story.is_now(Role.STANDBY)
    story.answers.add(DFS2)
    story.run(30)
    assert story.is_now(Role.CLAIMING)


def test_a_claim_below_an_epoch_of_before_is_made_again_above_it() -> None:
    """By one that is alone in its file: nobody else could have made the other one."""
    story = Story(active=True, others=())
    story.says(DFS, active=False, refused=True, epoch=7)
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == 8
    story.says(DFS, active=True, epoch=8)
    assert story.is_now(Role.ACTIVE)


def test_one_that_was_started_again_leaves_the_one_after_it_time_to_come_back() -> None:
    """That one has lost its connection to the DFS for a moment, and knows every flow."""
    story = Story(active=True)
    story.lives(1, Role.ACTIVE, epoch=7, reach=0)
    story.says(DFS, active=False, refused=True, epoch=7)
    assert story.is_now(Role.STANDBY)
    story.says(DFS, active=False, epoch=7)
    story.run(1)
    story.says(DFS, active=True, epoch=7)
    story.run(30)
    assert story.is_now(Role.STANDBY)


def test_one_that_was_started_again_claims_soon_where_nobody_comes_back() -> None:
    story = Story(active=True)
    story.says(DFS, active=False, refused=True, epoch=7)
    story.says(DFS, active=False, epoch=7)
    assert story.run(30) <= TIMES.vacant + 2 * TICK_S
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == 8


def test_an_active_one_stays_so_when_another_dfs_knows_a_higher_epoch() -> None:
    story = Story(active=True, dfss=2)
    story.says(DFS, active=True)
    story.says(DFS2, active=False, refused=True, epoch=7)
    assert story.is_now(Role.ACTIVE)
    assert story.election.epoch == 8
    assert story.election.is_active_at(DFS, before=True)


def test_a_refused_claim_ends() -> None:
    story = Story(active=True)
    story.says(DFS, active=True, refused=True, epoch=1)
    assert story.is_now(Role.STANDBY)


def test_what_a_dfs_said_before_it_heard_the_claim_refuses_nothing() -> None:
    story = Story()
    story.under_another(epoch=3)
    story.dies(1)
    story.run(30)
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == 4
    story.says(DFS, active=True, epoch=3)  # on its way already
    story.says(DFS, active=True, refused=True, epoch=3)  # the answer to an earlier claim
    assert story.is_now(Role.CLAIMING)
    story.says(DFS, active=True, epoch=4)
    assert story.is_now(Role.ACTIVE)


def test_a_claim_that_nobody_answers_ends_and_is_made_again() -> None:
    story = Story()
    story.under_another()
    story.dies(1)
    story.run(30)
    assert story.run(30) == pytest.approx(TIMES.silent, abs=2 * TICK_S)
    assert story.is_now(Role.STANDBY)


def active(dfss: int = 1) -> Story:
    story = Story(active=True, own=1, others=(2,), dfss=dfss)
    for dfs_id in (DFS, DFS2, DFS3)[:dfss]:
        story.says(dfs_id, active=True)
    assert story.is_now(Role.ACTIVE)
    return story


def test_who_was_replaced_everywhere_is_a_standby() -> None:
    story = active(dfss=2)
    story.says(DFS, active=True, refused=True, epoch=2)
    assert story.is_now(Role.ACTIVE)
    assert not story.election.is_active_at(DFS, before=True)
    story.says(DFS2, active=True, refused=True, epoch=2)
    assert story.is_now(Role.STANDBY)


def test_who_was_replaced_at_one_yields_to_a_successor_that_reaches_as_many() -> None:
    story = active(dfss=2)
    story.says(DFS, active=True, refused=True, epoch=2)
    story.lives(2, Role.ACTIVE, epoch=2, reach=2)
    assert story.run(30) == pytest.approx(TIMES.cut_off, abs=2 * TICK_S)
    assert story.is_now(Role.STANDBY)


@pytest.mark.parametrize(
    ("answers", "others_reach", "role"),
    [
        pytest.param({DFS}, None, Role.STANDBY, id="one of three and nobody else is heard"),
        pytest.param({DFS}, 3, Role.STANDBY, id="one of three and a standby reaches all"),
        pytest.param({DFS}, 1, Role.ACTIVE, id="the others see no more"),
        pytest.param({DFS, DFS2}, 3, Role.ACTIVE, id="two of three are enough"),
        pytest.param(set(), 2, Role.STANDBY, id="none, and a standby reaches some"),
        pytest.param(set(), None, Role.ACTIVE, id="none, and nobody could do better"),
    ],
)
def test_one_that_is_cut_off_steps_down_where_another_may_do_better(
    answers: set[int], others_reach: int | None, role: Role
) -> None:
    story = active(dfss=3)
    if others_reach is not None:
        story.lives(2, Role.STANDBY, reach=others_reach)
    story.answers = answers
    story.run(10)
    assert story.is_now(role)


def test_a_cut_off_one_steps_down_when_its_last_answer_is_old_enough() -> None:
    story = active(dfss=1)
    story.lives(2, Role.STANDBY, reach=1)
    story.run(1)
    story.answers = set()
    assert story.run(10) == pytest.approx(TIMES.silent, abs=2 * TICK_S)
    assert story.is_now(Role.STANDBY)


def test_a_cs_that_is_alone_in_its_file_never_steps_down_by_itself() -> None:
    story = Story(active=True, others=(), dfss=3)
    story.says(DFS, active=True)
    story.answers = set()
    story.run(30)
    assert story.is_now(Role.ACTIVE)


def test_a_successor_takes_over_when_it_is_complete_and_not_before() -> None:
    story = Story()
    story.under_another()
    story.alive[1] = story.alive[1]._replace(successor=2)
    story.run(1)
    assert story.is_now(Role.STANDBY)
    story.election.is_complete = True
    story.run(1)
    assert story.is_now(Role.CLAIMING)


def test_the_preferred_one_takes_the_role_back_only_if_that_is_wanted() -> None:
    for preempt, role in ((None, Role.STANDBY), (10.0, Role.CLAIMING)):
        story = Story(active=True, times=Times(preempt=preempt))
        story.says(DFS, active=True, refused=True, epoch=2)
        story.under_another(epoch=2)
        story.election.is_complete = True
        took_s = story.run(30)
        assert story.is_now(role)
        assert took_s > 9


def test_with_a_dfs_of_an_earlier_release_a_claim_keeps_its_epoch() -> None:
    story = Story(active=True, others=(), dfss=0)
    story.connect(DFS, has_heartbeats=False)
    story.says(DFS, active=False, refused=True, epoch=0)
    assert story.is_now(Role.STANDBY)
    story.says(DFS, active=False, epoch=0)
    story.run(30)
    assert story.is_now(Role.CLAIMING)
    assert story.election.epoch == FIRST_EPOCH
    story.says(DFS, active=False, epoch=0)
    assert story.is_now(Role.ACTIVE)


STEPS = st.one_of(
    st.tuples(st.just("says"), st.sampled_from([DFS, DFS2, DFS3]), st.booleans(), st.booleans(),
              st.integers(0, 5)),
    st.tuples(st.just("lives"), st.sampled_from([1, 3]), st.sampled_from(Role), st.integers(0, 5),
              st.integers(0, 3)),
    st.tuples(st.just("dies"), st.sampled_from([1, 3])),
    st.tuples(st.just("answers"), st.sets(st.sampled_from([DFS, DFS2, DFS3]))),
    st.tuples(st.just("cut"), st.sampled_from([DFS, DFS2, DFS3])),
    st.tuples(st.just("connect"), st.sampled_from([DFS, DFS2, DFS3])),
    st.tuples(st.just("complete"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.05, 0.2, 0.6, 3.0])),
)  # fmt: skip


@given(st.lists(STEPS, max_size=40), st.booleans())
def test_epochs_rise_and_no_event_is_without_a_row(
    steps: list[tuple[object, ...]], first: bool
) -> None:
    story = Story(active=first, others=(1, 3), dfss=3)
    election, epoch = story.election, 0
    for name, *rest in steps:
        if name == "says":
            dfs_id, is_active, refused, said = rest
            story.says(dfs_id, active=is_active, refused=refused, epoch=said)  # type: ignore[arg-type]
        elif name == "lives":
            segment_id, role, of, reach = rest
            story.lives(segment_id, role, epoch=of, reach=reach)  # type: ignore[arg-type]
        elif name == "dies":
            story.alive.pop(rest[0], None)  # type: ignore[call-overload]
        elif name == "answers":
            story.answers = set(rest[0])  # type: ignore[call-overload]
        elif name == "cut":
            election.disconnected(rest[0], story.now)  # type: ignore[arg-type]
        elif name == "connect":
            story.connect(rest[0])  # type: ignore[arg-type]
        elif name == "complete":
            election.is_complete = bool(rest[0])
        else:
            story.run(float(rest[0]))  # type: ignore[arg-type]
        assert election.epoch >= epoch
        epoch = election.epoch
        own = Own(epoch, 0.0, True, 0.0)
        for event in RULES[election.role](election.known, own, story.now):
            assert event in TABLE[election.role]
