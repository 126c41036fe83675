# SPDX-License-Identifier: Apache-2.0
"""The close tracker alone: orders of segments that no pair of honest ends would send, too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_flow_segment.targets.contract import CloseCause
from data_flow_segment.targets.memory.tracker import CloseTracker as Tracker
from data_flow_segment.targets.memory.tracker import Segment
from packets.parse import ACK, FIN, RST, SYN

CLIENT, NODE = 0, 1
WORD = st.integers(0, 0xFFFFFFFF)


class CloseTracker(Tracker):
    """Tells what a segment ended."""

    def sees(
        self, direction: int, flags: int, seq: int, ack: int, window: int, length: int, scale: int
    ) -> CloseCause | None:
        before = self.cause
        goes_on = self.observe(direction, Segment(flags, seq, ack, window, length, scale))
        return self.cause if goes_on or before is None else None


def opened(scale: int = 0, window: int = 1000) -> CloseTracker:
    """Client at 101, node at 501, both windows `window << scale`."""
    tracker = CloseTracker()
    assert tracker.sees(CLIENT, SYN, 100, 0, window, 0, scale) is None
    assert tracker.sees(NODE, SYN | ACK, 500, 101, window, 0, scale) is None
    assert tracker.sees(CLIENT, ACK, 101, 501, window, 0, 0) is None
    assert not tracker.closing
    return tracker


def test_the_four_steps() -> None:
    tracker = opened()
    assert tracker.sees(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0) is None
    assert tracker.closing
    assert tracker.sees(NODE, ACK, 501, 102, 1000, 0, 0) is None
    assert tracker.sees(NODE, FIN | ACK, 501, 102, 1000, 0, 0) is None
    assert tracker.sees(CLIENT, ACK, 102, 502, 1000, 0, 0) == CloseCause.FIN
    assert (tracker.closing, tracker.cause) == (False, CloseCause.FIN)


def test_after_the_end_nothing_is_told() -> None:
    tracker = opened()
    assert tracker.sees(CLIENT, RST, 101, 0, 0, 0, 0) == CloseCause.RST
    assert tracker.sees(CLIENT, RST, 101, 0, 0, 0, 0) is None
    assert tracker.sees(NODE, FIN | ACK, 501, 101, 0, 0, 0) is None
    assert tracker.cause == CloseCause.RST


def test_a_reset_must_have_the_number_that_the_receiver_expects() -> None:
    for scale, distance, valid in ((0, 0, True), (0, 1, False), (7, 65535, False), (7, -1, False)):
        tracker = opened(scale)
        seq = (101 + distance) & 0xFFFFFFFF
        cause = tracker.sees(CLIENT, RST, seq, 0, 0, 0, 0)
        assert (cause == CloseCause.RST) is valid, (scale, distance)


def test_an_answer_to_a_syn_must_acknowledge_it() -> None:
    for ack, valid in ((101, True), (100, False), (102, False)):
        tracker = CloseTracker()
        tracker.sees(CLIENT, SYN, 100, 0, 1000, 0, 0)
        cause = tracker.sees(NODE, RST | ACK, 0, ack, 0, 0, 0)
        assert (cause == CloseCause.RST) is valid, ack


def test_a_client_that_gives_up_before_any_answer() -> None:
    tracker = CloseTracker()
    tracker.sees(CLIENT, SYN, 100, 0, 1000, 0, 0)
    assert tracker.sees(CLIENT, RST, 5000, 0, 0, 0, 0) is None
    assert tracker.sees(CLIENT, RST, 101, 0, 0, 0, 0) == CloseCause.RST


def test_a_new_syn_forgets_the_close_that_was_under_way_once_it_is_answered() -> None:
    tracker = opened()
    tracker.sees(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0)
    tracker.sees(CLIENT, SYN, 9000, 0, 1000, 0, 0)
    assert tracker.closing  # anybody may have sent it
    tracker.sees(NODE, SYN | ACK, 70000, 9001, 1000, 0, 0)
    assert not tracker.closing


def test_a_repeated_syn_forgets_nothing() -> None:
    tracker = CloseTracker()
    tracker.sees(CLIENT, SYN, 100, 0, 1000, 0, 0)
    tracker.sees(CLIENT, SYN, 100, 0, 1000, 0, 0)
    assert tracker.sees(NODE, RST | ACK, 0, 101, 0, 0, 0) == CloseCause.RST


def test_old_acknowledgements_do_not_close() -> None:
    tracker = opened()
    tracker.sees(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0)
    tracker.sees(NODE, FIN | ACK, 501, 101, 1000, 0, 0)
    assert tracker.sees(CLIENT, ACK, 102, 501, 1000, 0, 0) is None
    assert tracker.sees(NODE, ACK, 502, 101, 1000, 0, 0) is None
    assert tracker.sees(CLIENT, ACK, 102, 502, 1000, 0, 0) is None
    assert tracker.sees(NODE, ACK, 502, 102, 1000, 0, 0) == CloseCause.FIN


SEGMENT = st.tuples(
    st.sampled_from([CLIENT, NODE]),
    st.integers(0, 63),
    WORD,
    WORD,
    st.integers(0, 65535),
    st.integers(0, 1460),
    st.integers(0, 14),
)


@given(segments=st.lists(SEGMENT, max_size=30))
def test_a_flow_ends_again_only_if_it_went_on(
    segments: list[tuple[int, int, int, int, int, int, int]],
) -> None:
    tracker = Tracker()
    for direction, flags, seq, ack, window, length, scale in segments:
        before = tracker.cause
        segment = Segment(flags, seq, ack, window, length, scale)
        goes_on = tracker.observe(direction, segment)
        assert not goes_on or before is not None
        if before is not None and not goes_on:
            assert tracker.cause == before
        assert not (tracker.closing and tracker.cause is not None)


@given(
    segments=st.lists(SEGMENT, max_size=30),
    fin=st.booleans(),
)
def test_segments_of_a_stranger_neither_end_a_connection_nor_hide_its_end(
    segments: list[tuple[int, int, int, int, int, int, int]], fin: bool
) -> None:
    """Any of them, unless one has a right number by chance: those are taken out."""
    tracker = opened()
    for _, flags, seq, ack, window, length, scale in segments:
        if min((seq - 101) % 2**32, (101 - seq) % 2**32) > 70_000:
            tracker.sees(CLIENT, flags, seq, ack, window, length, scale)
    assert (tracker.cause, tracker.closing) == (None, False)
    if not fin:
        assert tracker.sees(NODE, RST, 501, 0, 0, 0, 0) == CloseCause.RST
        return
    assert tracker.sees(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0) is None
    assert tracker.closing
    assert tracker.sees(NODE, FIN | ACK, 501, 102, 1000, 0, 0) is None
    assert tracker.sees(CLIENT, ACK, 102, 502, 1000, 0, 0) == CloseCause.FIN
