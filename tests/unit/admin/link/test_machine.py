# SPDX-License-Identifier: Apache-2.0
"""When a segment opens its link, and what it may be told."""

from __future__ import annotations

import pytest

from admin.link.machine import (
    ASKS_MAX,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    RETRY_REFUSED_S,
    STABLE_S,
    TRANSITIONS,
    Do,
    Happens,
    Machine,
    State,
)
from admin.link.messages import Ask, Change, Welcome

WELCOME = Welcome(release="1", generation=3)
CHANGE = Change(generation=4, since=3, made_at=0.0)


def machine(*, is_cs: bool = True) -> Machine:
    return Machine(100.0, lambda: 1.0, is_cs=is_cs)


def linked(*, is_cs: bool = True) -> Machine:
    it = machine(is_cs=is_cs)
    assert it.happens(Happens.DUE, 100.0) is Do.OPEN
    assert it.opened(100.0) is Do.GREET
    assert it.received(WELCOME, 100.0) is Do.BEGIN
    return it


def test_a_segment_opens_its_link_at_once_greets_and_is_linked_when_it_is_welcome() -> None:
    assert machine().due == 100.0
    assert linked().state is State.LINKED


def test_each_failure_doubles_the_wait_up_to_a_limit() -> None:
    it, waits = machine(), []
    for _ in range(10):
        it.happens(Happens.DUE, 100.0)
        it.lost(100.0)
        waits.append(it.due - 100.0)
    assert waits[:3] == pytest.approx([RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S])
    assert waits[-1] == pytest.approx(RETRY_MAX_S)


def test_the_wait_has_jitter_of_half_of_it() -> None:
    it = Machine(0.0, lambda: 0.0, is_cs=False)
    it.happens(Happens.DUE, 0.0)
    it.lost(0.0)
    assert it.due == pytest.approx(RETRY_FIRST_S / 2)


def test_a_link_that_lasted_is_opened_again_soon_and_one_that_did_not_counts_as_a_failure() -> None:
    it = linked()
    for _ in range(8):
        it.lost(100.0)
        it.happens(Happens.DUE, 100.0)
        it.opened(100.0)
        it.received(WELCOME, 100.0)
    it.lost(100.0 + STABLE_S / 2)
    assert it.due - 100.0 - STABLE_S / 2 == pytest.approx(RETRY_MAX_S)
    it.happens(Happens.DUE, 200.0)
    it.opened(200.0)
    it.received(WELCOME, 200.0)
    it.lost(200.0 + STABLE_S)
    assert it.due - 200.0 - STABLE_S == pytest.approx(RETRY_FIRST_S)


def test_a_refused_token_is_not_tried_again_and_again() -> None:
    it = machine()
    it.happens(Happens.DUE, 100.0)
    it.lost(100.0, refused=True)
    assert it.due - 100.0 >= RETRY_REFUSED_S


def test_one_change_at_a_time_is_applied() -> None:
    it = linked()
    assert it.received(CHANGE, 100.0) is Do.APPLY
    assert it.received(CHANGE, 100.0) is Do.HANG_UP
    assert it.applied(100.0) is None
    assert it.received(b"whole", 100.0) is Do.APPLY


def test_a_dfs_is_sent_no_configuration() -> None:
    assert linked(is_cs=False).received(CHANGE, 100.0) is Do.HANG_UP


def test_who_is_applying_a_change_greets_when_that_is_over() -> None:
    it = linked()
    assert it.received(CHANGE, 100.0) is Do.APPLY
    it.lost(100.0)
    it.happens(Happens.DUE, 101.0)
    assert it.opened(101.0) is None
    assert it.state is State.HELD
    assert it.applied(102.0) is Do.GREET


def test_a_change_that_ends_while_there_is_no_link_greets_nobody() -> None:
    it = linked()
    it.received(CHANGE, 100.0)
    it.lost(100.0)
    assert it.applied(101.0) is None
    it.happens(Happens.DUE, 102.0)
    assert it.opened(102.0) is Do.GREET


def test_questions_are_answered_up_to_a_limit() -> None:
    it = linked()
    ask = Ask(id=1, command="status")
    assert {it.received(ask, 100.0) for _ in range(ASKS_MAX)} == {Do.ANSWER}
    assert it.received(ask, 100.0) is Do.TURN_AWAY
    it.answered()
    assert it.received(ask, 100.0) is Do.ANSWER


@pytest.mark.parametrize("message", [Ask(id=1, command="status"), CHANGE, b"whole"])
def test_before_the_welcome_nothing_else_belongs_here(message: Ask | Change | bytes) -> None:
    it = machine()
    it.happens(Happens.DUE, 100.0)
    it.opened(100.0)
    assert it.received(message, 100.0) is Do.HANG_UP


def test_a_second_welcome_does_not_belong_here() -> None:
    assert linked().received(WELCOME, 100.0) is Do.HANG_UP


def test_every_state_ends_and_an_ended_one_stays_so() -> None:
    for state in State:
        if state is not State.ENDED:
            assert TRANSITIONS[state, Happens.STOP] == (State.ENDED, Do.CLOSE)
    it = linked()
    it.happens(Happens.STOP, 100.0)
    it.lost(101.0)
    assert (it.state, it.happens(Happens.DUE, 200.0)) == (State.ENDED, None)
