# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of 9.6, against the protocol's example and against what targets do to packets."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packets import rewrite
from packets.parse import ACK, SYN, Packet, parse_ipv4
from packets.tcp import Options, Segment, read, write
from splicing.instructions import Agreed, Offsets
from splicing.offsets import offsets, to_client, to_node
from ssmb.addresses import from_text
from ssmb.constants import TCP
from ssmb.messages import Session

ENDS: Final = Session(from_text("198.51.100.9"), from_text("203.0.113.10"), 40001, 80, TCP)
AGREED: Final = Agreed(1000, 5_000_000, 1460, 7, True, 9000, False)

numbers = st.integers(0, 0xFFFFFFFF)
segments = st.builds(
    Segment,
    seq=numbers,
    ack=numbers,
    flags=st.sampled_from([0, ACK, SYN | ACK]),
    window=st.integers(0, 65535),
    options=st.builds(
        Options,
        mss=st.none(),
        window_scale=st.none(),
        sack_permitted=st.just(False),
        sack=st.just(()) | st.tuples(st.tuples(numbers, numbers)),
        timestamps=st.none() | st.tuples(numbers, numbers),
    ),
    payload=st.binary(max_size=3),
    urgent=st.just(0),
    tos=st.just(0),
)
constants = st.builds(Offsets, numbers, numbers, numbers, st.integers(-14, 14))


def answer(isn: int, **options: int | tuple[int, int]) -> Segment:
    """A node's SYN-ACK."""
    return Segment(isn, 1001, SYN | ACK, 65535, Options(**options))  # type: ignore[arg-type]


def test_the_protocols_example() -> None:
    by = offsets(AGREED, answer(77), inserted=0, said=0, swallowed=0)
    assert (by.seq_offset, by.ack_offset) == (0, 0xFFB3B50D)
    assert to_node(Segment(1001, 5_000_001, ACK), by).ack == 78
    assert to_client(Segment(78, 1001, ACK), by).seq == 5_000_001


def test_what_was_inserted_said_and_swallowed() -> None:
    by = offsets(AGREED, answer(77), inserted=28, said=40, swallowed=60)
    assert to_node(Segment(1001, 5_000_041, ACK), by) == Segment(1029, 138, ACK)
    assert to_client(Segment(138, 1029, ACK), by)[:3] == (5_000_041, 1001, ACK)
    fewer = offsets(AGREED, answer(77), inserted=-5, said=0, swallowed=0)
    assert fewer.seq_offset == 0xFFFFFFFB


@pytest.mark.parametrize(
    ("agreed", "options", "time", "shift"),
    [
        (AGREED, {"timestamps": (500, 1), "window_scale": 9}, 8500, 2),
        (AGREED, {"timestamps": (9001, 1), "window_scale": 0}, 0xFFFFFFFF, -7),
        (AGREED, {}, 0, -7),
        # what was not agreed with the client was not offered to the node
        (AGREED._replace(own_timestamp=None), {"timestamps": (500, 1)}, 0, -7),
        (AGREED._replace(window_scale=None), {"window_scale": 9}, 0, 0),
    ],
)
def test_options(
    agreed: Agreed, options: dict[str, int | tuple[int, int]], time: int, shift: int
) -> None:
    by = offsets(agreed, answer(77, **options), inserted=0, said=0, swallowed=0)
    assert (by.ts_offset, by.wscale_shift) == (time, shift)


@settings(max_examples=50)
@given(segments, constants)
def test_segments_get_what_targets_do_to_packets(segment: Segment, by: Offsets) -> None:
    there = rewrite.Translation(
        has_offsets=True, seq=by.seq_offset, ack=by.ack_offset, ts_echo=-by.ts_offset
    )
    back = rewrite.Translation(
        has_offsets=True,
        seq=-by.ack_offset,
        ack=-by.seq_offset,
        ts_value=by.ts_offset,
        window_shift=by.wscale_shift,
    )
    for change, moved in ((there, to_node(segment, by)), (back, to_client(segment, by))):
        packet = Packet(write(segment, ENDS))
        packet.end = len(packet.data)
        parse_ipv4(packet)
        rewrite.translate(packet, change)
        assert packet.checksums_are_right()
        assert read(packet) == moved
