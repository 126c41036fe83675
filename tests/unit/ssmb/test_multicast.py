# SPDX-License-Identifier: Apache-2.0
"""Datagrams to a multicast group: origin, key, and where a receiver begins (12.9, 11.2)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmb.constants import SEAL_SIZE, SSMB_DGRAM_MAX
from ssmb.errors import BadTag, Replayed, SealError, TooOld
from ssmb.multicast import (
    MESSAGE_MAX,
    MISSED,
    ORIGIN_SIZE,
    GroupSealer,
    GroupStream,
    Origin,
    group_key,
    origin_of,
)

KEY: Final = bytes(range(16))
ORIGIN: Final = Origin(segment_id=1, group_id=1, dfs_id=256, boot_id=0x01020304)
INTERVAL_MS: Final = 50
PATIENCE_S: Final = MISSED * INTERVAL_MS / 1000
PAGE: Final = Path(__file__).parents[3] / "docs/protocols/authentication.md"


def stream(floor: int = 1) -> GroupStream:
    made = GroupStream(KEY, ORIGIN, floor)
    made.announce(floor - 1, INTERVAL_MS, 1)
    return made


def datagrams(count: int) -> list[bytes]:
    sealer = GroupSealer(KEY, ORIGIN)
    return [sealer.seal(b"message %d" % number) for number in range(1, count + 1)]


def test_the_document_has_a_datagram_of_this_code() -> None:
    page = PAGE.read_text()
    section = page[page.index("## 12.9") : page.index("## The seal of CSMB")]
    found = re.findall(r"```hex\n(.*?)```", section, re.S)
    query = bytes.fromhex("01000000 00000101 c6336407 cb00710a 9c400050 06000200 0001e240")
    assert [bytes.fromhex(each) for each in found] == [GroupSealer(KEY, ORIGIN).seal(query)]


def test_a_datagram_says_who_sent_it_and_which_dfs_is_meant() -> None:
    (datagram,) = datagrams(1)
    assert origin_of(datagram) == ORIGIN
    assert stream().open(datagram, 0.0) == b"message 1"


def test_the_longest_message_fits_into_a_mac_frame() -> None:
    datagram = GroupSealer(KEY, ORIGIN).seal(bytes(MESSAGE_MAX))
    assert len(datagram) == SSMB_DGRAM_MAX


@pytest.mark.parametrize(
    "other",
    [{"segment_id": 2}, {"group_id": 2}, {"dfs_id": 257}, {"boot_id": 5}],
    ids=lambda other: next(iter(other)),
)
def test_every_part_of_the_origin_is_in_the_key(other: dict[str, int]) -> None:
    changed = ORIGIN._replace(**other)
    assert group_key(KEY, changed) != group_key(KEY, ORIGIN)
    (datagram,) = datagrams(1)
    at = len(datagram) - SEAL_SIZE - ORIGIN_SIZE
    forged = datagram[:at] + changed.octets + datagram[-SEAL_SIZE:]
    with pytest.raises(BadTag):
        GroupStream(KEY, changed, 1).open(forged, 0.0)


def test_boots_of_several_css_have_different_numbers() -> None:
    origins = [ORIGIN._replace(segment_id=cs, boot_id=boot) for cs in (1, 127) for boot in (1, 2)]
    assert len({origin.number for origin in origins}) == 4


@given(st.binary(max_size=80))
def test_any_octets_have_an_origin_or_none_and_open_to_an_error(octets: bytes) -> None:
    origin = origin_of(octets)
    if origin is None:
        assert len(octets) <= ORIGIN_SIZE + SEAL_SIZE
        return
    with pytest.raises(SealError):
        GroupStream(KEY, origin, 1).open(octets, 0.0)


def test_what_was_sent_before_a_receiver_listened_is_too_old() -> None:
    listening = stream(floor=4)
    sent = datagrams(5)
    for early in sent[:3]:
        with pytest.raises(TooOld):
            listening.open(early, 0.0)
    assert not listening.hears(0.0)
    assert listening.open(sent[4], 0.0) == b"message 5"
    assert listening.open(sent[3], 0.0) == b"message 4"  # overtaken
    with pytest.raises(Replayed):
        listening.open(sent[3], 0.0)


def test_it_hears_the_group_while_datagrams_come() -> None:
    listening = stream()
    first, second, third, fourth = datagrams(4)
    assert not listening.hears(0.0)
    listening.open(first, 10.0)
    assert listening.since == 1
    assert listening.hears(10.0 + PATIENCE_S - 0.001)
    listening.open(second, 10.1)
    assert listening.since == 1
    assert not listening.hears(10.1 + PATIENCE_S)
    with pytest.raises(Replayed):
        listening.open(third[:0] + second, 20.0)
    assert not listening.hears(20.0)  # a recorded one shows nothing
    listening.open(fourth, 20.0)
    assert listening.hears(20.0)
    assert listening.since == 4


def test_it_knows_what_is_missing_also_at_the_end() -> None:
    listening = stream()
    sent = datagrams(10)
    for number in (1, 2, 4, 7):
        listening.open(sent[number - 1], 0.0)
    assert listening.missing(1, 7) == 3  # 3, 5 and 6
    listening.announce(9, INTERVAL_MS, 1)
    assert listening.highest() == 9
    assert listening.missing(1, 9) == 5
    assert listening.missing(8, 9) == 2
    assert listening.missing(4, 4) == 0


def test_before_the_first_everything_that_was_announced_is_missing() -> None:
    listening = stream(floor=5)
    listening.announce(7, INTERVAL_MS, 1)
    assert listening.missing(5, 7) == 3
