# SPDX-License-Identifier: Apache-2.0
"""What a CS may lack, whom it asks for it, and that all of it comes, whatever is lost (11.10)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from admin.state import Kind, Section
from control_segment.group.recall import (
    FORGOTTEN_S,
    MARGIN_S,
    PATIENCE_S,
    PAUSE_S,
    PIECES_MAX,
    REPEAT_S,
    REST_S,
    SETTLED_S,
    TRIES,
    Answering,
    Ids,
    Other,
    Recalling,
)
from control_segment.group.recall_messages import EVERYTHING, ROOM, Recall, Records
from control_segment.group.times import Times
from control_segment.persistence import NEVER, Span

BEAT_S: Final = 0.05
FIRST, SECOND = Other(1, True, True, True), Other(3, False, True, True)
THIRD: Final = Other(4, False, True, True)
SIZE: Final = 38
TIMES: Final = Times()


class Asker:
    """A CS's `Recalling`, looked at with every heartbeat."""

    def __init__(self, times: Times = TIMES, known: tuple[int, ...] = (1, 3, 4)) -> None:
        self.now = 1000.0
        numbers = iter(range(7, 1 << 31))
        self.recalling = Recalling(Ids(2, 1, 5), known, times, lambda: next(numbers), self.now)
        self.dfss = {256: True}
        self.others: list[Other] = [FIRST]
        self.is_active = False
        self.asked: list[tuple[int, Recall]] = []

    def pass_time(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / BEAT_S))):
            self.look(BEAT_S)

    def look(self, later_s: float = 0.0) -> None:
        self.now += later_s
        self.recalling.look(self.now, self.dfss, self.others, is_active=self.is_active)
        self.ask()

    def ask(self) -> None:
        while (asked := self.recalling.handle_timer(self.now)) is not None:
            self.asked.append(asked)

    def told(self, *, piece: int = 0, is_last: bool = True, whom: int | None = None) -> bool:
        """The last question is answered; whether that counted."""
        asked, question = self.asked[-1]
        message = Records(
            True, is_last, 0, piece, asked if whom is None else whom, 1, 9, 0, question.recall_id,
            0, 0, "", b"",
        )  # fmt: skip
        if self.recalling.came(message) is None:
            return False
        self.recalling.took(0, 0, self.now)
        self.look()
        return True

    def waits(self) -> bool:
        return self.recalling.waits

    def owes(self) -> bool:
        return self.recalling.owes

    def learned(self) -> Asker:
        """It has everything of the only other one."""
        self.look()
        assert self.told()
        assert not self.owes()
        self.pass_time(2 * PAUSE_S)
        assert not self.waits()
        return self


def alone_with_first(times: Times = TIMES) -> Asker:
    return Asker(times, (1,))


# --- what is lacking, and who is asked -----------------------------------------------------------


def test_one_that_starts_asks_everyone_for_everything_the_active_one_first() -> None:
    asker = Asker()
    asker.others = [SECOND, FIRST, THIRD]
    assert asker.waits()
    asker.look()
    asked = []
    for _ in range(3):
        whom, question = asker.asked[-1]
        asked.append(whom)
        assert (question.age_max_s, question.first) == (EVERYTHING, 0)
        assert asker.waits()
        assert asker.told()
    assert asked == [1, 3, 4]
    assert not asker.owes()
    asker.pass_time(60)
    assert len(asker.asked) == 3


def test_it_first_waits_for_the_copies_of_flows_but_not_for_long() -> None:
    asker = Asker()
    asker.dfss = {256: False, 257: True}
    asker.pass_time(PATIENCE_S - 2 * BEAT_S)
    assert asker.asked == []
    asker.pass_time(4 * BEAT_S)
    assert len(asker.asked) == 1
    assert asker.told()


def test_what_a_dfs_did_not_tell_meanwhile_is_asked_for_by_its_age() -> None:
    asker = alone_with_first().learned()
    asker.dfss = {256: False}
    asker.pass_time(30)
    assert len(asker.asked) == 1
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    _, question = asker.asked[-1]
    assert len(asker.asked) == 2
    assert 30 + MARGIN_S <= question.age_max_s <= 32 + MARGIN_S


def test_a_dfs_whose_connection_ended_has_missed_something_as_well() -> None:
    asker = alone_with_first().learned()
    asker.dfss = {}
    asker.pass_time(3)
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    assert 3 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 5 + MARGIN_S


def test_of_a_dfs_that_is_new_what_was_before_this_process_has_come_with_the_rest() -> None:
    asker = alone_with_first().learned()
    asker.pass_time(300)
    asker.dfss = {256: True, 257: True}
    asker.look(BEAT_S)
    assert 300 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 305 + MARGIN_S


def test_one_that_hung_has_missed_something() -> None:
    asker = alone_with_first().learned()
    asker.look(20.0)
    assert 20 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 22 + MARGIN_S


def test_where_heartbeats_are_rare_their_interval_is_no_hang_and_the_margin_is_larger() -> None:
    asker = alone_with_first(Times(heartbeat=3.0, silent=9.0))
    asker.look(3.0)
    assert asker.told()
    for _ in range(4):
        asker.look(3.0)
    assert len(asker.asked) == 1
    asker.look(10.0)
    assert 10 + 18 <= asker.asked[-1][1].age_max_s <= 13 + 18


def test_what_is_missed_while_one_asks_is_asked_for_once_more() -> None:
    asker = alone_with_first().learned()
    asker.look(20.0)
    asker.dfss = {256: False}
    asker.pass_time(0.05)
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    assert asker.told()
    assert asker.owes()
    asker.pass_time(PAUSE_S + 2 * BEAT_S)
    assert asker.told()
    assert not asker.owes()


def test_one_that_is_away_is_asked_when_it_is_back() -> None:
    asker = Asker()
    asker.look()
    assert asker.told()
    asker.pass_time(30)
    assert (asker.owes(), asker.waits()) == (True, False)
    asker.is_active, asker.others = True, [FIRST, SECOND]
    asker.look(BEAT_S)
    assert asker.waits()
    assert [whom for whom, _ in asker.asked] == [1, 3]
    assert asker.asked[-1][1].age_max_s == EVERYTHING


def test_one_that_is_known_to_live_but_not_heard_is_waited_for() -> None:
    asker = alone_with_first()
    asker.others = [FIRST._replace(is_heard=False)]
    asker.pass_time(30)
    assert (asker.asked, asker.waits()) == ([], True)
    asker.others = [FIRST]
    asker.look(BEAT_S)
    assert asker.told()
    assert not asker.waits()


def test_one_of_an_earlier_release_is_not() -> None:
    asker = alone_with_first()
    asker.others = [FIRST._replace(takes_recall=False)]
    asker.pass_time(SETTLED_S + 2 * BEAT_S)
    assert (asker.asked, asker.waits()) == ([], False)


def test_one_that_has_just_started_waits_until_others_could_be_heard() -> None:
    asker = Asker()
    asker.others = []
    asker.pass_time(SETTLED_S - 2 * BEAT_S)
    assert asker.waits()
    asker.pass_time(4 * BEAT_S)
    assert (asker.owes(), asker.waits()) == (True, False)


def test_one_that_does_not_answer_is_asked_anew_after_a_rest() -> None:
    asker = alone_with_first()
    asker.pass_time((TRIES + 2) * (REPEAT_S + BEAT_S))
    ids = {question.recall_id for _, question in asker.asked}
    assert (len(ids), len(asker.asked)) == (1, TRIES + 1)
    asker.pass_time(REST_S)
    assert len({question.recall_id for _, question in asker.asked}) == 2
    assert {question.age_max_s for _, question in asker.asked} == {EVERYTHING}
    assert asker.waits()


def test_the_answer_of_one_is_not_that_of_another() -> None:
    asker = Asker(known=(1, 3))
    asker.others = [FIRST, SECOND]
    asker.pass_time((TRIES + 2) * (REPEAT_S + BEAT_S))
    assert {whom for whom, _ in asker.asked} == {1, 3}
    assert asker.told()
    assert asker.waits()
    asker.pass_time(REST_S + 2 * BEAT_S)
    assert asker.asked[-1][0] == 1
    assert asker.told()
    assert not asker.owes()


def doubted(asker: Asker) -> Span:
    whom, question = asker.asked[-1]
    message = Records(True, True, 0, 0, whom, 1, 9, 0, question.recall_id, 0, 0, "", b"")
    taken = asker.recalling.came(message)
    assert taken is not None
    asker.recalling.took(0, 0, asker.now)
    asker.look()
    return taken[1]


def test_a_standby_that_hung_doubts_what_it_noted_since_where_the_active_one_knows() -> None:
    asker = Asker()
    asker.others = [FIRST, SECOND, THIRD]
    asker.look()
    assert [doubted(asker) for _ in range(3)] == [(math.inf, asker.now), NEVER, NEVER]
    asker.pass_time(5)
    hung_at = asker.now
    asker.look(3.0)
    assert [doubted(asker) for _ in range(3)] == [(hung_at, asker.now), NEVER, NEVER]
    asker.pass_time(5)
    asker.recalling.note(0.0, asker.now)
    asker.look(BEAT_S)
    assert doubted(asker) == (math.inf, asker.now)  # nothing


def test_an_active_one_that_hung_and_was_not_replaced_doubts_nothing_later() -> None:
    asker = Asker(known=(1, 3))
    asker.is_active, asker.others = True, [SECOND]
    asker.look()
    assert doubted(asker) == NEVER
    asker.pass_time(5)
    asker.look(3.0)
    assert doubted(asker) == NEVER
    asker.pass_time(2 * MARGIN_S)
    asker.is_active, asker.others = False, [FIRST]
    asker.look(BEAT_S)
    assert doubted(asker) == (math.inf, asker.now)


def test_a_difference_of_configurations_concerns_one_other() -> None:
    asker = Asker(known=(1, 3))
    asker.others = [FIRST, SECOND]
    asker.look()
    assert asker.told()
    assert asker.told()
    asker.pass_time(10)
    asker.recalling.note(asker.now - 7, asker.now, 3)
    asker.look(BEAT_S)
    assert [whom for whom, _ in asker.asked] == [1, 3, 3]
    assert 7 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 9 + MARGIN_S


def test_only_what_was_asked_for_counts() -> None:
    asker = alone_with_first()
    asker.look()
    assert not asker.told(whom=3)
    assert not asker.told(piece=PIECES_MAX)
    assert asker.told(piece=1)
    assert not asker.told(piece=1)
    assert asker.owes()
    assert asker.told(piece=0, is_last=False)
    assert not asker.owes()
    assert not asker.told(piece=2)


def test_on_a_slow_way_nothing_is_asked_for_twice() -> None:
    some = [clients("t", records_of(number)) for number in range(40 * PIECES_MAX)]
    for way_s in (0.006, 0.04):
        asker = alone_with_first()
        answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(some))
        due: list[tuple[float, Records]] = []
        while asker.owes():
            before = len(asker.asked)
            asker.now += 0.001
            asker.ask()
            if round(asker.now * 1000) % 50 == 0:
                asker.look()
            for _, question in asker.asked[before:]:
                answers = answering.answer(question, asker.now)
                due += [
                    (asker.now + 2 * way_s + number / 1e6, a) for number, a in enumerate(answers)
                ]
            while due and due[0][0] <= asker.now:
                message = due.pop(0)[1]
                assert asker.recalling.came(message) is not None
                asker.recalling.took(0, 0, asker.now)
        assert len(asker.asked) <= 42


# --- the answer ----------------------------------------------------------------------------------


def records_of(number: int) -> bytes:
    return number.to_bytes(SIZE, "big")


def clients(name: str, records: bytes) -> Section:
    return Section(int(Kind.PERSISTENCE), name, SIZE, records)


def transferred(sections: list[Section], seed: int, loss: float) -> tuple[list[Section], float]:
    """What comes over a network that loses, doubles and overtakes; how long it took."""
    dice = random.Random(seed)
    asker = alone_with_first()
    answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(sections))
    came: list[Section] = []
    on_the_way: list[tuple[float, Recall | Records]] = []
    start = asker.now

    def send(message: Recall | Records) -> None:
        for _ in range(dice.choice((1, 1, 1, 2))):
            if dice.random() >= loss:
                on_the_way.append((asker.now + dice.uniform(0.0001, 0.03), message))

    while asker.owes():
        before = len(asker.asked)
        asker.look(0.005)
        for _, question in asker.asked[before:]:
            send(question)
        for each in sorted(each for each in on_the_way if each[0] <= asker.now):
            on_the_way.remove(each)
            message = each[1]
            if isinstance(message, Recall):
                answers = answering.answer(message, asker.now)
                assert len(answers) <= PIECES_MAX
                assert all(len(each.name) + len(each.records) <= ROOM for each in answers)
                for answer in answers:
                    send(answer)
                continue
            taken = asker.recalling.came(message)
            if taken is not None:
                came.append(taken[0])
                asker.recalling.took(0, 0, asker.now)
        assert asker.now < start + 600
    return came, asker.now - start


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a table", "b" * 80]), st.integers(0, 400)), max_size=60
    ),
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_everything_comes_once_over_whatever_network(
    tables: list[tuple[str, int]], seed: int, loss: float
) -> None:
    numbers = iter(range(1 << 20))
    sections = [
        Section(
            int(Kind.PERSISTENCE),
            name,
            SIZE,
            b"".join(records_of(next(numbers)) for _ in range(count)),
        )
        for name, count in tables
    ]
    came, _ = transferred(sections, seed, loss)
    expected = sorted(
        (section.name, section.records[at : at + SIZE])
        for section in sections
        for at in range(0, len(section.records), SIZE)
    )
    found = sorted(
        (section.name, section.records[at : at + SIZE])
        for section in came
        if section.records
        for at in range(0, len(section.records), section.record_size)
    )
    assert found == expected


def test_many_tables_without_anything_new_take_no_long_time() -> None:
    nothing = [
        Section(int(Kind.PERSISTENCE), f"table {number}", SIZE, b"") for number in range(3000)
    ]
    _, seconds = transferred(nothing, 1, 0.0)
    assert seconds < 15


def test_an_answer_takes_no_more_of_what_there_is_than_is_asked_for() -> None:
    looked = 0

    def sections(now: float, wall_now: float, age_max_s: float) -> Iterator[Section]:
        nonlocal looked
        for _ in range(1000):
            looked += 1
            yield clients("t", records_of(1) * 1000)

    answering = Answering(Ids(1, 1, 9), sections)
    question = Recall(PIECES_MAX, 1, 2, 1, 5, 0, 7, 0, EVERYTHING)
    assert len(answering.answer(question, 10.0)) == PIECES_MAX
    assert looked <= 3
    assert len(answering.answer(question._replace(pieces=255), 10.0)) == PIECES_MAX
    assert len(answering.answer(question._replace(pieces=0), 10.0)) == 1
    assert looked <= 3


def test_a_piece_that_was_lost_is_told_again_as_it_was() -> None:
    some = [clients("t", records_of(number)) for number in range(90)]
    answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(some))
    question = Recall(PIECES_MAX, 1, 2, 1, 5, 0, 7, 0, EVERYTHING)
    first = answering.answer(question, 10.0)
    again = answering.answer(question._replace(first=5), 11.0)
    told = {each.piece: each.records for each in again}
    assert all(told[each.piece] == each.records for each in first[5:])
    assert answering.answer(question._replace(first=4), 11.0) == []  # it said that it has that


def test_an_answer_that_an_earlier_process_began_is_not_gone_on_with() -> None:
    answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(()))
    question = Recall(PIECES_MAX, 1, 2, 1, 5, 0, 7, 12, EVERYTHING)
    assert answering.answer(question, 10.0) == []
    (only,) = answering.answer(question._replace(first=0), 10.0)
    assert (only.is_last, only.is_pause, only.records) == (True, True, b"")
    assert answering.answer(question._replace(first=3), 10.0) == []


def test_an_answer_that_nobody_wants_any_more_is_let_go() -> None:
    over: list[bool] = []

    def sections(now: float, wall_now: float, age_max_s: float) -> Iterator[Section]:
        try:
            for _ in range(100):
                yield clients("t", records_of(1) * 1000)
        finally:
            over.append(True)

    answering = Answering(Ids(1, 1, 9), sections)
    question = Recall(PIECES_MAX, 1, 2, 1, 5, 0, 7, 0, EVERYTHING)
    answering.answer(question, 10.0)
    answering.look(10.0 + FORGOTTEN_S - 1)
    assert len(answering.answer(question._replace(first=9), 10.0 + FORGOTTEN_S - 1)) == PIECES_MAX
    answering.look(10.0 + 2 * FORGOTTEN_S - 2)
    assert not over
    answering.look(10.0 + 2 * FORGOTTEN_S)
    assert over
    assert answering.answer(question._replace(first=9), 10.0 + 2 * FORGOTTEN_S) == []


def test_each_one_is_told_by_itself() -> None:
    some = [clients("t", records_of(number)) for number in range(90)]
    answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(some))
    question = Recall(PIECES_MAX, 1, 2, 1, 5, 0, 7, 0, EVERYTHING)
    first = answering.answer(question, 10.0)
    other = answering.answer(question._replace(segment_id=8), 10.0)
    assert [each.records for each in first] == [each.records for each in other]
