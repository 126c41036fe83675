# SPDX-License-Identifier: Apache-2.0
"""HEALTH between CSs: what is told is what comes, and only fresh ones of CSs that have the key
count (11.9, 12.8)."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.group import health_message
from control_segment.group.health_message import ENTRIES_MAX, Entry, Health
from control_segment.group.health_sharing import entry_of, said_by
from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target, fingerprint
from ssmb.constants import SSMB_DGRAM_MAX
from ssmb.messages import Heartbeat
from support.octets.protocol_tables import DOCUMENTS

DOCUMENT: Final = DOCUMENTS / "state-sharing.md"
KEY: Final = b"a key of the group's own"
FIRST: Final = ("10.0.0.1", 61019)
SECOND: Final = ("10.0.0.2", 61019)
DOWN: Final = Entry(7, 2, 0, 100)

ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 0xFFFF),
    ),
    max_size=ENTRIES_MAX,
)
IDS = st.integers(0, 0xFFFF)


@given(st.builds(Health, st.integers(0, 2**32 - 1), IDS, IDS, IDS, st.integers(0), ENTRIES))
def test_what_is_encoded_is_decoded(message: Health) -> None:
    message = message._replace(echo=message.echo % (1 << 64))
    octets = health_message.encode(message)
    assert health_message.decode(octets) == message
    assert len(octets) + 16 <= SSMB_DGRAM_MAX


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_none(octets: bytes) -> None:
    message = health_message.decode(octets)
    assert message is None or octets[0] == health_message.MSG_TYPE


def test_the_example_of_the_document_is_what_is_sent() -> None:
    target = Target("web", "10.1.1.2", 8080)
    entry = entry_of(target, Said("down", reason="connection refused"))
    assert entry == Entry(fingerprint(target), 2, 0, 100)
    octets = health_message.encode(Health(1, 1, 3, 0x01020304, 5, [entry]))
    text = DOCUMENT.read_text().split("## 11.9 HEALTH", 1)[1].split("```hex\n", 1)[1]
    assert octets == bytes.fromhex(text.split("```", 1)[0])


def test_what_a_later_release_says_is_left_out() -> None:
    message = Health(1, 1, 1, 1, 1, [Entry(1, 3, 0, 100), DOWN, Entry(2, 1, 9, 100)])
    decoded = health_message.decode(health_message.encode(message))
    assert decoded is not None
    assert decoded.entries == [DOWN]


@pytest.mark.parametrize(
    "said",
    [
        Said("up"),
        Said("unknown"),
        Said("up", percent=50, order=Order.DRAIN),
        Said("down", order=Order.MAINTENANCE),
    ],
)
def test_what_is_said_of_a_node_is_told_whole(said: Said) -> None:
    told = said_by(entry_of(Target("m", "fd00::1", 0), said), "it was")
    assert told == said._replace(reason="it was" if said.health == "down" else "")


def pair(key: bytes = KEY) -> tuple[DirectHeartbeats, DirectHeartbeats]:
    """Two CSs that have heard each other."""
    dice = random.Random(1)
    first = DirectHeartbeats(1, [(2, SECOND)], key, dice.randbytes, 0.5)
    second = DirectHeartbeats(2, [(1, FIRST)], key, dice.randbytes, 0.5)
    for _ in range(2):
        first.open(second.datagrams(Heartbeat(segment_id=2), 0.0)[0][0], SECOND, 0.0)
        second.open(first.datagrams(Heartbeat(segment_id=1), 0.0)[0][0], FIRST, 0.0)
    return first, second


def tell(sender: DirectHeartbeats, boot_id: int = 1) -> bytes:
    ((octets, address),) = sender.health([DOWN], 1, 3, boot_id)
    assert address == SECOND
    return octets


def test_it_is_sealed_and_fresh() -> None:
    first, second = pair()
    opened = second.open(tell(first), FIRST, 0.1)
    assert isinstance(opened, Health)
    assert list(opened.entries) == [DOWN]


def test_none_is_sent_to_a_cs_that_does_not_know_it() -> None:
    first, second = pair()
    assert first.takes_health
    ((octets, _),) = second.datagrams(Heartbeat(segment_id=2), 0.1)
    older = DirectHeartbeats(1, [(2, SECOND)], KEY, random.Random(2).randbytes, 0.5)
    assert older.health([DOWN], 1, 3, 1) == []  # it has not been heard yet
    assert isinstance(first.open(octets, SECOND, 0.1), Heartbeat)


def test_a_changed_or_a_foreign_one_is_a_wrong_seal() -> None:
    first, second = pair()
    octets = bytearray(tell(first))
    octets[30] ^= 1
    assert second.open(bytes(octets), FIRST, 0.1) == "bad_seal"
    stranger, _ = pair(b"another key altogether")
    assert second.open(tell(stranger), FIRST, 0.1) == "bad_seal"


def test_a_recorded_one_and_one_that_was_overtaken_are_not_taken() -> None:
    first, second = pair()
    early, late = tell(first), tell(first)
    assert isinstance(second.open(late, FIRST, 0.1), Health)
    assert second.open(early, FIRST, 0.1) == "stale_health"
    assert second.open(late, FIRST, 0.1) == "stale_health"
    assert isinstance(second.open(tell(first, boot_id=2), FIRST, 0.1), Health)  # begins anew
    assert second.open(tell(first), FIRST, 5.0) == "stale_health"  # its nonce is too old
