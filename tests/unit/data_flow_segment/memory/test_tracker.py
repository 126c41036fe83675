# SPDX-License-Identifier: Apache-2.0
"""The close tracker alone: orders of segments that no pair of honest ends would send, too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_flow_segment.targets.contract import CloseCause
from data_flow_segment.targets.memory.tracker import CloseTracker
from packets.parse import ACK, FIN, RST, SYN

CLIENT, NODE = 0, 1
WORD = st.integers(0, 0xFFFFFFFF)


def opened(scale: int = 0, window: int = 1000) -> CloseTracker:
    """Client at 101, node at 501, both windows `window << scale`."""
    tracker = CloseTracker()
    assert tracker.observe(CLIENT, SYN, 100, 0, window, 0, scale) is None
    assert tracker.observe(NODE, SYN | ACK, 500, 101, window, 0, scale) is None
    assert tracker.observe(CLIENT, ACK, 101, 501, window, 0, 0) is None
    assert not tracker.closing
    return tracker


def test_the_four_steps() -> None:
    tracker = opened()
    assert tracker.observe(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0) is None
    assert tracker.closing
    assert tracker.observe(NODE, ACK, 501, 102, 1000, 0, 0) is None
    assert tracker.observe(NODE, FIN | ACK, 501, 102, 1000, 0, 0) is None
    assert tracker.observe(CLIENT, ACK, 102, 502, 1000, 0, 0) == CloseCause.FIN
    assert (tracker.closing, tracker.cause) == (False, CloseCause.FIN)


def test_after_the_end_nothing_is_told() -> None:
    tracker = opened()
    assert tracker.observe(CLIENT, RST, 101, 0, 0, 0, 0) == CloseCause.RST
    assert tracker.observe(CLIENT, RST, 101, 0, 0, 0, 0) is None
    assert tracker.observe(NODE, FIN | ACK, 501, 101, 0, 0, 0) is None
    assert tracker.cause == CloseCause.RST


def test_a_reset_must_lie_in_the_receivers_window() -> None:
    for scale, distance, valid in (
        (0, 0, True),
        (0, 0xFFFF, True),  # the minimum, because scales may be unknown
        (0, 0x10000, False),
        (7, 127_999, True),
        (7, 128_000, False),
        (7, -1, False),
    ):
        tracker = opened(scale)
        seq = (101 + distance) & 0xFFFFFFFF
        cause = tracker.observe(CLIENT, RST, seq, 0, 0, 0, 0)
        assert (cause == CloseCause.RST) is valid, (scale, distance)


def test_an_answer_to_a_syn_must_acknowledge_it() -> None:
    for ack, valid in ((101, True), (100, False), (102, False)):
        tracker = CloseTracker()
        tracker.observe(CLIENT, SYN, 100, 0, 1000, 0, 0)
        cause = tracker.observe(NODE, RST | ACK, 0, ack, 0, 0, 0)
        assert (cause == CloseCause.RST) is valid, ack


def test_a_client_that_gives_up_before_any_answer() -> None:
    tracker = CloseTracker()
    tracker.observe(CLIENT, SYN, 100, 0, 1000, 0, 0)
    assert tracker.observe(CLIENT, RST, 5000, 0, 0, 0, 0) is None
    assert tracker.observe(CLIENT, RST, 101, 0, 0, 0, 0) == CloseCause.RST


def test_a_new_syn_forgets_the_close_that_was_under_way_once_it_is_answered() -> None:
    tracker = opened()
    tracker.observe(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0)
    tracker.observe(CLIENT, SYN, 9000, 0, 1000, 0, 0)
    assert tracker.closing  # anybody may have sent it
    tracker.observe(NODE, SYN | ACK, 70000, 9001, 1000, 0, 0)
    assert not tracker.closing


def test_a_repeated_syn_forgets_nothing() -> None:
    tracker = CloseTracker()
    tracker.observe(CLIENT, SYN, 100, 0, 1000, 0, 0)
    tracker.observe(CLIENT, SYN, 100, 0, 1000, 0, 0)
    assert tracker.observe(NODE, RST | ACK, 0, 101, 0, 0, 0) == CloseCause.RST


def test_old_acknowledgements_do_not_close() -> None:
    tracker = opened()
    tracker.observe(CLIENT, FIN | ACK, 101, 501, 1000, 0, 0)
    tracker.observe(NODE, FIN | ACK, 501, 101, 1000, 0, 0)
    assert tracker.observe(CLIENT, ACK, 102, 501, 1000, 0, 0) is None
    assert tracker.observe(NODE, ACK, 502, 101, 1000, 0, 0) is None
    assert tracker.observe(CLIENT, ACK, 102, 502, 1000, 0, 0) is None
    assert tracker.observe(NODE, ACK, 502, 102, 1000, 0, 0) == CloseCause.FIN


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
def test_any_segments_end_a_flow_at_most_once(
    segments: list[tuple[int, int, int, int, int, int, int]],
) -> None:
    tracker = CloseTracker()
    told = [cause for segment in segments if (cause := tracker.observe(*segment)) is not None]
    assert len(told) <= 1
    assert tracker.cause == (told[0] if told else None)
    assert not (tracker.closing and told)
