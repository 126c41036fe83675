# SPDX-License-Identifier: Apache-2.0
"""TAKEN on its way to the CS: at once, and repeated until it is confirmed (wire protocol 13.4)."""

from __future__ import annotations

from data_flow_segment.flows.taken import REPEATED_AT_ONCE, UNCONFIRMED_MAX, TakenStream
from ssmb.constants import TAKEN_FLOWS_MAX, Flag
from ssmb.grants import FLOW_SIZE

FULL = TAKEN_FLOWS_MAX * FLOW_SIZE


def flows(count: int, first: int = 0) -> bytes:
    return b"".join(bytes([(first + at) % 251]) * FLOW_SIZE for at in range(count))


def test_what_came_in_one_wake_up_goes_at_once() -> None:
    """It has waited in the target; the DELETEs of these flows are not to overtake it."""
    stream = TakenStream(7)
    stream.add(flows(3), 1.0)
    stream.add(flows(2, 3), 1.0)
    assert stream.get_timer() == 1.0
    (message,) = stream.due(1.0)
    assert (message.lease_id, message.sequence, message.flags) == (7, 1, 0)
    assert (message.taken_data, message.timestamp) == (flows(5), 1000)
    assert stream.due(1.0) == []


def test_datagrams_are_as_full_as_they_can_be() -> None:
    stream = TakenStream(7)
    stream.add(flows(2 * TAKEN_FLOWS_MAX + 1), 1.0)
    sent = stream.due(1.0)
    assert [message.sequence for message in sent] == [1, 2, 3]
    assert [len(message.taken_data) // FLOW_SIZE for message in sent[:2]] == [TAKEN_FLOWS_MAX] * 2
    taken = b"".join(message.taken_data for message in sent)
    assert taken == flows(2 * TAKEN_FLOWS_MAX + 1)
    assert stream.sequence == 3


def test_it_is_repeated_with_the_time_of_sending_until_it_is_confirmed() -> None:
    stream = TakenStream(7)
    stream.add(flows(1), 1.0)
    (first,) = stream.due(1.01)
    assert stream.due(1.039) == []
    (again,) = stream.due(1.041)
    assert again == first._replace(flags=Flag.RETRY, timestamp=1041)
    stream.confirmed(1, 1.05)
    assert stream.is_confirmed
    assert stream.get_timer() is None
    assert stream.due(9.0) == []


def test_a_confirmation_is_of_everything_before_it() -> None:
    stream = TakenStream(7)
    stream.add(flows(4 * TAKEN_FLOWS_MAX), 1.0)
    stream.due(1.0)
    stream.confirmed(3, 1.01)
    assert [message.sequence for message in stream.due(1.05)] == [4]
    stream.confirmed(9, 1.06)  # of what was never sent
    assert not stream.is_confirmed
    stream.confirmed(2, 1.06)  # a late one
    stream.confirmed(4, 1.06)
    assert stream.is_confirmed


def test_repeats_to_a_cs_that_is_gone_are_few_and_far_between() -> None:
    stream = TakenStream(7)
    stream.add(flows(100 * TAKEN_FLOWS_MAX), 1.0)
    stream.due(1.0)
    now, repeats = 1.0, 0
    while now < 11.0:
        timer = stream.get_timer()
        assert timer is not None
        assert timer > now
        now = timer
        sent = stream.due(now)
        assert len(sent) <= REPEATED_AT_ONCE
        repeats += 1
    assert repeats < 30


def test_no_more_are_sent_than_a_cs_remembers_ahead() -> None:
    stream = TakenStream(7)
    stream.add(flows((UNCONFIRMED_MAX + 2) * TAKEN_FLOWS_MAX), 1.0)
    assert len(stream.due(1.0)) == UNCONFIRMED_MAX
    assert all(message.flags for message in stream.due(2.0))  # repeats
    stream.confirmed(1, 2.0)
    assert [each.sequence for each in stream.due(2.0) if not each.flags] == [UNCONFIRMED_MAX + 1]
