# SPDX-License-Identifier: Apache-2.0
"""What a CS may lack, whom it asks for it, and that all of it comes, whatever is lost (11.10)."""

from __future__ import annotations

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

BEAT_S: Final = 0.05
FIRST, SECOND, THIRD = Other(1, True, False), Other(3, False, False), Other(4, False, True)
SIZE: Final = 38
TIMES: Final = Times()


class Asker:
    """A CS's `Recalling`, looked at with every heartbeat."""

    def __init__(self, times: Times = TIMES) -> None:
        self.now = 1000.0
        numbers = iter(range(7, 1 << 31))
        self.recalling = Recalling(Ids(2, 1, 5), times, lambda: next(numbers), self.now)
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
        self.ask()
        return True

    def lacks(self) -> bool:
        return self.recalling.lacks

    def learned(self) -> Asker:
        """It has everything."""
        self.look()
        assert self.told()
        assert not self.lacks()
        self.pass_time(2 * PAUSE_S)
        return self


# --- what is lacking, and who is asked -----------------------------------------------------------


def test_one_that_starts_asks_the_active_one_for_everything() -> None:
    asker = Asker()
    asker.others = [SECOND, FIRST]
    assert asker.lacks()
    asker.look()
    ((whom, question),) = asker.asked
    assert (whom, question.age_max_s, question.first) == (1, EVERYTHING, 0)
    assert asker.told()
    assert not asker.lacks()
    asker.pass_time(60)
    assert len(asker.asked) == 1


def test_it_first_waits_for_the_copies_of_flows_but_not_for_long() -> None:
    asker = Asker()
    asker.dfss = {256: False, 257: True}
    asker.pass_time(PATIENCE_S - 2 * BEAT_S)
    assert asker.asked == []
    asker.pass_time(4 * BEAT_S)
    assert len(asker.asked) == 1
    assert asker.told()


def test_what_a_dfs_did_not_tell_meanwhile_is_asked_for_by_its_age() -> None:
    asker = Asker().learned()
    asker.dfss = {256: False}
    asker.pass_time(30)
    assert len(asker.asked) == 1
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    _, question = asker.asked[-1]
    assert len(asker.asked) == 2
    assert 30 + MARGIN_S <= question.age_max_s <= 32 + MARGIN_S


def test_a_dfs_whose_connection_ended_has_missed_something_as_well() -> None:
    asker = Asker().learned()
    asker.dfss = {}
    asker.pass_time(3)
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    assert 3 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 5 + MARGIN_S


def test_a_dfs_that_is_new_may_have_told_anything_before() -> None:
    asker = Asker().learned()
    asker.dfss = {256: True, 257: True}
    asker.look(BEAT_S)
    assert asker.asked[-1][1].age_max_s == EVERYTHING


def test_one_that_hung_has_missed_something() -> None:
    asker = Asker().learned()
    asker.look(20.0)
    assert 20 + MARGIN_S <= asker.asked[-1][1].age_max_s <= 22 + MARGIN_S


def test_where_heartbeats_are_rare_their_interval_is_no_hang_and_the_margin_is_larger() -> None:
    asker = Asker(Times(heartbeat=3.0, silent=9.0))
    asker.look(3.0)
    assert asker.told()
    for _ in range(4):
        asker.look(3.0)
    assert len(asker.asked) == 1
    asker.look(10.0)
    assert 10 + 18 <= asker.asked[-1][1].age_max_s <= 13 + 18


def test_what_is_missed_while_one_asks_is_asked_for_in_another_round() -> None:
    asker = Asker().learned()
    asker.look(20.0)
    asker.dfss = {256: False}
    asker.pass_time(1)
    asker.dfss = {256: True}
    asker.look(BEAT_S)
    assert asker.told()
    assert asker.lacks()
    asker.pass_time(PAUSE_S + 2 * BEAT_S)
    assert asker.told()
    assert not asker.lacks()


def test_if_the_active_one_lacks_some_itself_all_others_are_asked() -> None:
    asker = Asker()
    asker.others = [FIRST._replace(lacks=True), SECOND, THIRD]
    asker.look()
    asked = []
    for _ in range(3):
        asked.append(asker.asked[-1][0])
        assert asker.told()
    assert asked == [1, 3, 4]
    assert not asker.lacks()


def test_an_active_one_asks_the_others_and_has_everything_if_there_are_none() -> None:
    asker = Asker()
    asker.is_active, asker.others = True, []
    asker.pass_time(SETTLED_S - 3 * BEAT_S)
    assert asker.lacks()
    asker.others = [SECOND]
    asker.look(BEAT_S)
    assert [whom for whom, _ in asker.asked] == [3]
    assert asker.told()
    assert not asker.lacks()
    alone = Asker()
    alone.is_active, alone.others = True, []
    alone.pass_time(SETTLED_S + 2 * BEAT_S)
    assert not alone.lacks()


def test_a_standby_that_nobody_can_tell_anything_goes_on_lacking_and_waits_for_nobody() -> None:
    asker = Asker()
    asker.others = []
    asker.pass_time(30)
    assert (asker.lacks(), asker.recalling.waits) == (True, False)
    asker.others = [FIRST]
    asker.look(BEAT_S)
    assert asker.recalling.waits
    assert len(asker.asked) == 1


def test_one_that_does_not_answer_is_asked_anew_after_a_rest() -> None:
    asker = Asker()
    asker.pass_time((TRIES + 2) * (REPEAT_S + BEAT_S))
    ids = {question.recall_id for _, question in asker.asked}
    assert (len(ids), len(asker.asked)) == (1, TRIES + 1)
    asker.pass_time(REST_S)
    assert len({question.recall_id for _, question in asker.asked}) == 2
    assert {question.age_max_s for _, question in asker.asked} == {EVERYTHING}
    assert asker.lacks()


def test_an_active_one_goes_on_without_the_one_that_does_not_answer() -> None:
    asker = Asker()
    asker.is_active, asker.others = True, [SECOND]
    asker.pass_time(2 * PAUSE_S + (TRIES + 2) * (REPEAT_S + BEAT_S))
    assert not asker.lacks()


def test_only_what_was_asked_for_counts() -> None:
    asker = Asker()
    asker.look()
    assert not asker.told(whom=3)
    assert not asker.told(piece=PIECES_MAX)
    assert asker.told(piece=1)
    assert not asker.told(piece=1)
    assert asker.lacks()
    assert asker.told(piece=0, is_last=False)
    assert not asker.lacks()
    assert not asker.told(piece=2)


# --- the answer ----------------------------------------------------------------------------------


def records_of(number: int) -> bytes:
    return number.to_bytes(SIZE, "big")


def clients(name: str, records: bytes) -> Section:
    return Section(int(Kind.PERSISTENCE), name, SIZE, records)


def transferred(sections: list[Section], seed: int, loss: float) -> tuple[list[Section], float]:
    """What comes over a network that loses, doubles and overtakes; how long it took."""
    dice = random.Random(seed)
    asker = Asker()
    answering = Answering(Ids(1, 1, 9), lambda now, wall_now, age_max_s: iter(sections))
    came: list[Section] = []
    on_the_way: list[tuple[float, Recall | Records]] = []
    start = asker.now

    def send(message: Recall | Records) -> None:
        for _ in range(dice.choice((1, 1, 1, 2))):
            if dice.random() >= loss:
                on_the_way.append((asker.now + dice.uniform(0.0001, 0.03), message))

    while asker.lacks():
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
            section = asker.recalling.came(message)
            if section is not None:
                came.append(section)
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
