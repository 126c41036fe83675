# SPDX-License-Identifier: Apache-2.0
from data_flow_segment.timers import SLOT_S, Wheel


def test_an_item_is_told_once_and_not_before_its_deadline() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.schedule(10.05, "query")
    assert wheel.due(10.05) == []
    assert wheel.due(10.05 + SLOT_S) == ["query"]
    assert wheel.due(11.0) == []


def test_the_timer_is_at_most_a_slot_late() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.schedule(10.051, "query")
    timer = wheel.get_timer()
    assert timer is not None
    assert 10.051 < timer <= 10.051 + SLOT_S
    assert wheel.due(timer) == ["query"]


def test_items_come_in_the_order_of_their_deadlines_whatever_the_order_of_their_setting() -> None:
    wheel: Wheel[int] = Wheel()
    for number in (5, 1, 3, 2, 4):
        wheel.schedule(10 + number, number)
    assert wheel.due(13.5) == [1, 2, 3]
    assert wheel.due(20.0) == [4, 5]


def test_an_empty_wheel_has_no_timer() -> None:
    wheel: Wheel[int] = Wheel()
    assert wheel.get_timer() is None
    wheel.schedule(1.0, 1)
    wheel.due(2.0)
    assert wheel.get_timer() is None
