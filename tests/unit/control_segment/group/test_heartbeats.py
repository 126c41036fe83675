# SPDX-License-Identifier: Apache-2.0
"""HEARTBEATs between CSs: fresh ones count, and nobody else can make one (11.8, 12.8)."""

from __future__ import annotations

import random
from typing import Final

import pytest

from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.group.recall_messages import Recall, Records
from ssmb.codec import encode
from ssmb.messages import Heartbeat, Sync

KEY: Final = b"a key of the group's own"
FIRST: Final = ("10.0.0.1", 61019)
SECOND: Final = ("10.0.0.2", 61019)
FRESH_S: Final = 0.5


def pair(key: bytes = KEY, other_key: bytes = KEY) -> tuple[DirectHeartbeats, DirectHeartbeats]:
    dice = random.Random(1)
    return (
        DirectHeartbeats(1, [(2, SECOND)], key, dice.randbytes, FRESH_S),
        DirectHeartbeats(2, [(1, FIRST)], other_key, dice.randbytes, FRESH_S),
    )


def beat(sender: DirectHeartbeats, segment_id: int, now: float) -> bytes:
    ((octets, _),) = sender.datagrams(Heartbeat(segment_id=segment_id, reach=3), now)
    return octets


def acquainted(first: DirectHeartbeats, second: DirectHeartbeats, now: float = 0.0) -> None:
    """Each has a nonce of the other."""
    first.open(beat(second, 2, now), SECOND, now)
    second.open(beat(first, 1, now), FIRST, now)


def test_a_heartbeat_that_repeats_the_last_nonce_is_fresh() -> None:
    first, second = pair()
    assert first.open(beat(second, 2, 0.0), SECOND, 0.0) == "stale_heartbeat"  # nothing to repeat
    answer = second.open(beat(first, 1, 0.05), FIRST, 0.05)
    assert answer == "stale_heartbeat" or isinstance(answer, Heartbeat)
    opened = first.open(beat(second, 2, 0.1), SECOND, 0.1)
    assert isinstance(opened, Heartbeat)
    assert (opened.segment_id, opened.reach) == (2, 3)


def test_a_recorded_heartbeat_keeps_nobody_alive() -> None:
    first, second = pair()
    acquainted(first, second)
    recorded = beat(second, 2, 0.1)
    assert isinstance(first.open(recorded, SECOND, 0.1), Heartbeat)
    for step in range(1, 40):
        now = 0.1 + step * 0.05
        beat(first, 1, now)
        opened = first.open(recorded, SECOND, now)
        # The nonce that it repeats is good for as long as one that was late would be
        assert isinstance(opened, Heartbeat) == (now <= FRESH_S)


def test_a_recorded_one_does_not_displace_the_nonce_of_one_that_lives() -> None:
    first, second = pair()
    acquainted(first, second)
    old = beat(second, 2, 0.1)
    for step in range(40):
        now = 0.2 + step * 0.05
        first.open(beat(second, 2, now), SECOND, now)
        first.open(old, SECOND, now)
        assert isinstance(second.open(beat(first, 1, now), FIRST, now), Heartbeat)


@pytest.mark.parametrize("place", [0, 5, 20, 50, 60, 71])
def test_a_changed_octet_is_a_wrong_seal(place: int) -> None:
    first, second = pair()
    acquainted(first, second)
    octets = bytearray(beat(second, 2, 0.1))
    assert len(octets) == 72
    octets[place] ^= 1
    assert first.open(bytes(octets), SECOND, 0.1) == "bad_seal"


def test_another_key_and_ones_own_heartbeat_are_wrong_seals() -> None:
    first, stranger = pair(other_key=b"another key altogether")
    assert first.open(beat(stranger, 2, 0.0), SECOND, 0.0) == "bad_seal"
    assert first.open(beat(first, 1, 0.0), SECOND, 0.0) == "bad_seal"  # reflected


@pytest.mark.parametrize("octets", [b"", b"x", b"y" * 16])
def test_what_is_too_short_for_a_seal_is_counted(octets: bytes) -> None:
    first, _ = pair()
    assert first.open(octets, SECOND, 0.0) == "too_short"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(encode(Sync(sync_id=1), 2), id="another message"),
        pytest.param(encode(Heartbeat(segment_id=9), 2), id="of another CS"),
        pytest.param(encode(Heartbeat(segment_id=2), 2) * 2, id="two"),
        pytest.param(b"\xff\x00\x00\x00", id="nothing known"),
    ],
)
def test_in_a_laboratory_only_one_heartbeat_of_that_cs_is_taken(octets: bytes) -> None:
    first, _ = pair(key=b"")
    assert first.open(octets, SECOND, 0.0) == "invalid_msg"


def test_in_a_laboratory_nothing_is_sealed() -> None:
    first, second = pair(key=b"", other_key=b"")
    acquainted(first, second)
    octets = beat(second, 2, 0.1)
    assert len(octets) == 56
    assert isinstance(first.open(octets, SECOND, 0.1), Heartbeat)


# --- RECALL and RECORDS (11.10) ------------------------------------------------------------------

QUESTION: Final = Recall(16, 0, 1, 3, 1, 0, 7, 0, 60)
ANSWER: Final = Records(True, True, 0, 0, 1, 3, 1, 0, 7, 0, 0, "", b"")


def test_a_question_and_an_answer_are_sealed_and_fresh() -> None:
    first, second = pair()
    acquainted(first, second)
    octets, address = first.recall(QUESTION, 2)
    assert address == SECOND
    opened = second.open(octets, FIRST, 0.1)
    assert isinstance(opened, Recall)
    assert opened._replace(sequence=0, echo=0) == QUESTION
    ((told, _),) = first.records([ANSWER], 2)
    answer = second.open(told, FIRST, 0.1)
    assert isinstance(answer, Records)
    assert answer._replace(echo=0) == ANSWER


def test_a_recorded_question_is_answered_once_and_only_for_a_moment() -> None:
    first, second = pair()
    acquainted(first, second)
    early, late = (first.recall(QUESTION, 2)[0] for _ in range(2))
    assert isinstance(second.open(late, FIRST, 0.1), Recall)
    assert second.open(late, FIRST, 0.1) == "stale_recall"
    assert second.open(early, FIRST, 0.1) == "stale_recall"
    anew, _ = first.recall(QUESTION._replace(boot_id=2), 2)
    assert isinstance(second.open(anew, FIRST, 0.1), Recall)
    old, _ = first.recall(QUESTION, 2)
    assert second.open(old, FIRST, 0.1 + FRESH_S) == "stale_recall"
    ((told, _),) = first.records([ANSWER], 2)
    assert second.open(told, FIRST, 0.1 + FRESH_S) == "stale_recall"


def test_whoever_has_no_key_asks_and_tells_nothing() -> None:
    first, second = pair(KEY, b"another key altogether")
    acquainted(first, second)
    octets, _ = first.recall(QUESTION, 2)
    ((told, _),) = first.records([ANSWER], 2)
    assert second.open(octets, FIRST, 0.1) == "bad_seal"
    assert second.open(told, FIRST, 0.1) == "bad_seal"
    first, second = pair()
    acquainted(first, second)
    octets, _ = first.recall(QUESTION._replace(segment_id=3), 2)
    assert second.open(octets, FIRST, 0.1) == "invalid_msg"


def test_heartbeats_say_who_may_be_asked() -> None:
    first, second = pair()
    assert not first.takes_recall(2)
    acquainted(first, second)
    assert isinstance(first.open(beat(second, 2, 0.1), SECOND, 0.1), Heartbeat)
    assert first.takes_recall(2)
    assert not first.takes_recall(3)
