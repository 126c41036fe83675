# SPDX-License-Identifier: Apache-2.0
"""An outbox says everything once, not too often, and never keeps more than it has room for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from admin.alerts.outbox import (
    EVENTS_MAX,
    KINDS_MAX,
    RETRY_MAX_S,
    RETRY_S,
    TABLE,
    Batch,
    Event,
    Input,
    Outbox,
    State,
)


def event(number: int = 0, kind: str = "node_down") -> Event:
    return Event(float(number), "cs-1", "error", kind, f"event {number}", {})


def outbox(batch_s: float = 10, max_per_hour: int = 30, give_up_s: float = 3600) -> Outbox:
    return Outbox(batch_s=batch_s, max_per_hour=max_per_hour, give_up_s=give_up_s)


def whats(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [each.what for each in batch.events]


def test_events_that_come_together_are_one_message() -> None:
    box = outbox()
    box.add(event(1), 100.0)
    box.add(event(2), 105.0)
    assert box.get_timer() == 110.0
    assert box.take(109.9) is None
    assert whats(box.take(110.0)) == ["event 1", "event 2"]
    box.add(event(3), 111.0)
    assert box.get_timer() is None  # one message at a time
    box.was_sent(112.0)
    assert box.get_timer() == 122.0
    assert whats(box.take(122.0)) == ["event 3"]
    box.was_sent(123.0)
    assert (box.state, box.get_timer(), box.sent) == (State.EMPTY, None, 2)


def test_a_message_that_failed_is_tried_again_later_each_time_with_what_came_meanwhile() -> None:
    box, now, waits = outbox(batch_s=0), 0.0, []
    box.add(event(0), now)
    for number in range(1, 9):
        assert whats(box.take(now)) == [f"event {each}" for each in range(number)]
        assert box.was_not_sent(now)
        due = box.get_timer()
        assert due is not None
        waits.append(due - now)
        box.add(event(number), now)
        now = due
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (RETRY_S, RETRY_MAX_S) == (5, 300)
    assert len(whats(box.take(now))) == 9
    box.was_sent(now)
    box.add(event(10), now)
    assert box.take(now) is not None
    assert box.was_not_sent(now)
    assert box.get_timer() == now + RETRY_S  # from the beginning


def test_the_other_side_may_want_to_be_left_alone_but_not_for_ever() -> None:
    box = outbox(batch_s=0)
    box.add(event(), 0.0)
    assert box.take(0.0)
    box.was_not_sent(0.0, retry_s=60.0)
    assert box.get_timer() == 60.0
    assert box.take(60.0)
    box.was_not_sent(60.0, retry_s=1e9)
    assert box.get_timer() == 60.0 + RETRY_MAX_S


def test_what_fails_for_too_long_is_given_up_and_what_came_later_goes_on() -> None:
    box, now = outbox(batch_s=0, give_up_s=600), 0.0
    box.add(event(0), now)
    while True:
        assert box.take(now) is not None
        if not box.was_not_sent(now):
            break
        due = box.get_timer()
        assert due is not None
        now = due
    assert 600 <= now <= 600 + RETRY_MAX_S
    assert (box.given_up, box.state) == (1, State.EMPTY)
    box.add(event(1), now)
    assert whats(box.take(now)) == ["event 1"]


def test_no_more_messages_than_the_limit_are_sent_within_an_hour() -> None:
    box, now, sent = outbox(batch_s=1, max_per_hour=3), 0.0, []
    for number in range(7200):
        now = float(number)
        box.add(event(number), now)
        if box.take(now) is not None:
            box.was_sent(now)
            sent.append(now)
    assert sent[:3] == [1.0, 3.0, 5.0]
    assert all(later - first >= 3600 for first, later in zip(sent, sent[3:], strict=False))
    assert len(sent) == 6


def test_of_events_that_there_is_no_room_for_the_number_is_said() -> None:
    box = outbox(batch_s=0)
    for number in range(EVENTS_MAX + 7):
        box.add(event(number, "flap" if number >= EVENTS_MAX + 2 else "node_down"), 0.0)
    batch = box.take(0.0)
    assert whats(batch)[-1] == f"event {EVENTS_MAX - 1}"
    assert batch is not None
    assert batch.left_out == {"node_down": 2, "flap": 5}
    box.add(event(0, "late"), 1.0)
    box.was_sent(1.0)
    assert box.take(1.0) == Batch((), {"late": 1})


def test_kinds_without_end_take_no_room_either() -> None:
    box = outbox(batch_s=0)
    for number in range(EVENTS_MAX + 10 * KINDS_MAX):
        box.add(event(number, f"kind_{number}"), 0.0)
    batch = box.take(0.0)
    assert batch is not None
    assert len(batch.left_out) == KINDS_MAX + 1
    assert batch.left_out["other"] == 9 * KINDS_MAX


def test_the_table_has_a_way_out_of_every_state() -> None:
    assert {state for state, _ in TABLE} == set(State)
    assert {what for _, what in TABLE} == set(Input)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("events"), st.integers(1, EVENTS_MAX)),
        st.tuples(st.just("time"), st.integers(0, 400)),
        st.tuples(st.sampled_from(["sent", "not sent"]), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4), st.sampled_from([0, 10, 60]))
def test_every_event_is_sent_once_or_counted_once(
    steps: list[tuple[str, int]], max_per_hour: int, batch_s: int
) -> None:
    box = outbox(batch_s=batch_s, max_per_hour=max_per_hour, give_up_s=900)
    now, made = 0.0, 0
    said: Counter[str] = Counter()
    counted = 0
    taken: Batch | None = None

    def say(batch: Batch) -> None:
        nonlocal counted
        said.update(each.what for each in batch.events)
        counted += sum(batch.left_out.values())

    for step, amount in steps:
        match step:
            case "events":
                for _ in range(amount):
                    box.add(event(made), now)
                    made += 1
            case "time":
                now += amount
                taken = taken or box.take(now)
            case "sent" if taken is not None:
                box.was_sent(now)
                say(taken)
                taken = None
            case "not sent" if taken is not None:
                box.was_not_sent(now)
                taken = None
        timer = box.get_timer()
        assert taken is None or timer is None
        assert timer is None or timer >= now - 1000
    while box.state is not State.EMPTY:
        timer = box.get_timer()
        if timer is not None:
            now = max(now, timer)
            taken = box.take(now)
        assert taken is not None
        box.was_sent(now)
        say(taken)
    assert set(said.values()) <= {1}
    assert len(said) + counted + box.given_up == made
