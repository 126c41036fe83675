# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.constants import Outcome
from data_flow_segment.targets.p4runtime.counters import Counters


def place(number: int, packets: int) -> p4r.Entity:
    """What the switch says of one place of `outcomes`."""
    entity = p4r.Entity()
    entity.counter_entry.index.index = number
    entity.counter_entry.data.packet_count = packets
    return entity


def values(counters: Counters) -> dict[str, int]:
    return {name: counter.value for name, counter in counters.as_mapping().items() if counter.value}


def test_a_switch_that_restarted_begins_at_zero_and_we_do_not() -> None:
    counters = Counters()
    counters.read([place(Outcome.FLOW_PACKETS, 5)])
    counters.forgotten()
    assert values(counters) == {"flow_packets": 5}
    counters.read([place(Outcome.FLOW_PACKETS, 2)])
    assert values(counters) == {"flow_packets": 7}


def test_a_correction_of_what_was_never_read_makes_no_counter_negative() -> None:
    counters = Counters()
    counters.instead("drop_no_neighbour", "resolve_waited")
    counters.forgotten()  # and with it the drop that the switch had counted
    assert values(counters) == {"resolve_waited": 1}


def test_what_comes_by_again_is_one_packet() -> None:
    counters = Counters()
    interface = p4r.Entity()
    interface.table_entry.counter_data.packet_count = 5
    counters.read([interface, place(Outcome.AGAIN, 2), place(Outcome.PASSED, 3)])
    assert values(counters) == {"packets": 3, "passed": 3}
