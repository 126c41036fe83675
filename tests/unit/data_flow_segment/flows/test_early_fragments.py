# SPDX-License-Identifier: Apache-2.0
"""Later fragments that come before their first one: held for a moment, a bounded number."""

from __future__ import annotations

from data_flow_segment.flows.early_fragments import HELD_MAX, HOLD_S, EarlyFragments
from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import EarlyFragment, PutBackFragment
from data_flow_segment.timers import SLOT_S


def fragment(number: int) -> EarlyFragment:
    return EarlyFragment(7, number.to_bytes(2, "big"))


def test_they_are_put_back_in_their_order_and_once() -> None:
    outbox = Outbox()
    early = EarlyFragments(outbox)
    assert early.held.get_timer() is None
    for number in range(3):
        early.came(fragment(number), 10.0 + number / 1000)
    early.handle_timer(10.0 + HOLD_S / 2)
    assert outbox.commands == []
    due = early.held.get_timer()
    assert due is not None
    assert 10.0 + HOLD_S <= due <= 10.0 + HOLD_S + 2 * SLOT_S
    early.handle_timer(10.1)
    assert outbox.commands == [PutBackFragment(fragment(number)) for number in range(3)]
    early.handle_timer(11.0)
    assert len(outbox.commands) == 3
    assert early.held.get_timer() is None


def test_not_more_are_held_than_there_is_room_for() -> None:
    outbox = Outbox()
    early = EarlyFragments(outbox)
    for number in range(HELD_MAX + 5):
        early.came(fragment(number), 10.0)
    assert outbox.counters["early_fragments"] == HELD_MAX
    assert outbox.counters["drop_early_fragment"] == 5
    early.handle_timer(11.0)
    assert len(outbox.commands) == HELD_MAX
    early.came(fragment(0), 12.0)
    assert outbox.counters["early_fragments"] == HELD_MAX + 1
