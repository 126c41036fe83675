# SPDX-License-Identifier: Apache-2.0
"""Commands to operations: as few messages as the order allows, and fences where it demands them."""

from __future__ import annotations

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime import batch
from data_flow_segment.targets.p4runtime.batch import Batch
from data_flow_segment.targets.p4runtime.operations import Fence, Operation, Read, Send, Write

UPDATE = p4r.Update()
PACKET = p4r.PacketOut()


def shape(operations: list[Operation]) -> list[object]:
    """Writes as the tokens in them, the rest as their class."""
    return [o.token if isinstance(o, Write) else type(o) for o in operations]


def test_updates_that_follow_each_other_are_one_write() -> None:
    made = Batch(10)
    for name in "abc":
        made.write(name, UPDATE, name)
    assert shape(made.take()) == [("a", "b", "c")]
    assert made.take() == []


def test_two_updates_of_one_entry_are_never_in_one_write() -> None:
    """P4Runtime gives the updates of a Write no order."""
    made = Batch(10)
    for name in "abac":
        made.write(name, UPDATE, name)
    assert shape(made.take()) == [("a", "b"), ("a", "c")]


def test_a_write_has_a_bounded_length() -> None:
    made = Batch(10)
    for number in range(2 * batch.UPDATES_MAX + 1):
        made.write(number, UPDATE, number)
    lengths = [len(o.updates) for o in made.take() if isinstance(o, Write)]
    assert lengths == [batch.UPDATES_MAX, batch.UPDATES_MAX, 1]


def test_packets_and_questions_go_behind_the_writes_before_them() -> None:
    made = Batch(10)
    made.write("a", UPDATE, "a")
    made.send(PACKET)
    made.write("b", UPDATE, "b")
    made.read((), "tables")
    assert shape(made.take()) == [("a",), Send, ("b",), Read]


def test_a_write_about_a_packet_in_flight_waits_for_it() -> None:
    made = Batch(10)
    made.put_back(PACKET, "session", now=1.0)
    made.settle("other", now=1.1)
    made.settle("session", now=1.1)
    made.write("a", UPDATE, "a")
    made.settle("session", now=1.2)  # it has landed: once is enough
    operations = made.take()
    assert shape(operations) == [Send, Fence, ("a",)]
    assert isinstance(operations[1], Fence)
    assert operations[1].index == 10


def test_a_small_table_concerns_every_packet_in_flight() -> None:
    made = Batch(10)
    made.settle(None, now=1.0)
    assert made.take() == []
    made.put_back(PACKET, "session", now=1.0)
    made.settle(None, now=1.1)
    assert shape(made.take()) == [Send, Fence]


def test_what_was_put_out_long_ago_needs_no_fence() -> None:
    made = Batch(10)
    made.put_back(PACKET, "session", now=1.0)
    made.settle("session", now=1.0 + batch.FLIGHT_S)
    made.settle(None, now=1.0 + batch.FLIGHT_S)
    assert shape(made.take()) == [Send]
    made.put_back(PACKET, "old", now=1.0)
    made.put_back(PACKET, "new", now=1.9)
    made.forget_landed(now=2.0)
    made.settle("old", now=1.1)  # as if it had never been
    made.settle("new", now=2.0)
    assert shape(made.take()) == [Send, Send, Fence]


def test_nothing_stays_of_what_a_lost_switch_was_told() -> None:
    made = Batch(10)
    made.write("a", UPDATE, "a")
    made.put_back(PACKET, "session", now=1.0)
    made.clear()
    made.settle("session", now=1.1)
    made.write("a", UPDATE, "again")
    assert shape(made.take()) == [("again",)]
