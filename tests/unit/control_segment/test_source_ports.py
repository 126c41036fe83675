# SPDX-License-Identifier: Apache-2.0
"""Source ports: unique while in use, and rested for as long as there are others (9.2)."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from control_segment.source_ports import RESTING_MAX, Scope, SourcePort, SourcePorts

SCOPE: Final[Scope] = (bytes(16), bytes(16), 80, 6)


def take(ports: SourcePorts, wanted: int, first: int, last: int) -> SourcePort:
    taken = ports.take(SCOPE, wanted, first, last)
    assert taken is not None
    return taken


def test_the_clients_own_port_is_kept() -> None:
    assert take(SourcePorts(), 5003, 5000, 5009).number == 5003


def test_a_port_that_was_given_back_is_taken_after_all_others() -> None:
    ports = SourcePorts()
    taken = [take(ports, 1, 5000, 5003) for _ in range(3)]
    for port in taken:
        port.release()
    fresh = take(ports, 1, 5000, 5003).number
    assert fresh not in {port.number for port in taken}
    # and then in the order in which they were given back
    again = [take(ports, taken[2].number, 5000, 5003).number for _ in range(3)]
    assert again == [port.number for port in taken]
    assert ports.take(SCOPE, 1, 5000, 5003) is None


def test_what_a_client_wants_is_rested_too() -> None:
    ports = SourcePorts()
    take(ports, 5001, 5000, 5003).release()
    assert take(ports, 5001, 5000, 5003).number != 5001


def test_a_port_outside_the_range_of_now_is_not_taken() -> None:
    ports = SourcePorts()
    take(ports, 5001, 5000, 5003).release()  # before a reload
    assert [take(ports, 1, 6000, 6001).number for _ in range(2)] == [6001, 6000]
    assert ports.take(SCOPE, 1, 6000, 6001) is None


def test_what_rests_is_bounded() -> None:
    ports = SourcePorts()
    for _ in range(RESTING_MAX + 100):
        take(ports, 1, 1024, 65535).release()
    assert len(ports._scopes[SCOPE].resting) == RESTING_MAX


@given(
    st.lists(st.tuples(st.booleans(), st.integers(4998, 5012)), max_size=200),
)
def test_no_port_is_given_to_two_and_none_is_lost(steps: list[tuple[bool, int]]) -> None:
    ports, held = SourcePorts(), dict[int, SourcePort]()
    for takes, wanted in steps:
        if takes:
            taken = ports.take(SCOPE, wanted, 5000, 5009)
            assert (taken is None) == (len(held) == 10)
            if taken is not None:
                assert taken.number not in held
                assert 5000 <= taken.number <= 5009
                held[taken.number] = taken
        elif held:
            held.pop(min(held)).release()
