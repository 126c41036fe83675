# SPDX-License-Identifier: Apache-2.0
"""Who gets a place, and whose (7.7, rule 1)."""

from __future__ import annotations

import itertools

import pytest

from csmb.connection import Connection
from csmb.constants import Role
from csmb.settings import ConnectionSettings
from data_flow_segment.peers.admission import (
    FRESH_S,
    KNOCKERS_MAX,
    KNOWN_SOURCES_MAX,
    NONCES_MAX,
    SOURCE_MAX,
    STRANGERS_MAX,
    Admission,
    source_key,
)
from support.segments.csmb_pair import KEY, CountingRandom

NONE = (False, None)
_randoms = itertools.count(1, 1000)


def knock() -> bytes:
    settings = ConnectionSettings(segment_id=1, key=KEY, knocks=True)
    random_octets = CountingRandom(next(_randoms))
    return Connection(Role.CS, settings, random_octets=random_octets, now=0.0).data_to_send()


def fill(admission: Admission, count: int, *, sources: int, now: float = 0.0) -> None:
    for number in range(count):
        has_place, _ = admission.enter(number, f"192.0.2.{number % sources}", b"", now)
        assert has_place


@pytest.fixture
def admission() -> Admission:
    return Admission(KEY)


def test_one_source_has_a_part_of_the_places_only(admission: Admission) -> None:
    fill(admission, SOURCE_MAX, sources=1)
    assert admission.enter(100, "192.0.2.0", b"", 0.0) == NONE
    assert admission.enter(101, "192.0.2.0", b"", FRESH_S) == (True, 0)
    assert admission.enter(102, "192.0.2.1", b"", 0.0) == (True, None)
    assert len(admission) == SOURCE_MAX + 1


def test_an_ipv6_source_is_its_64_and_an_ipv4_one_its_address() -> None:
    assert source_key("2001:db8::1") == source_key("2001:db8::ffff:1")
    assert source_key("2001:db8::1") != source_key("2001:db8:0:1::1")
    assert source_key("fe80::1%eth0") == source_key("fe80::2")
    assert source_key("192.0.2.1") != source_key("192.0.2.2")
    assert source_key("::ffff:192.0.2.1") == source_key("192.0.2.1")


def test_when_all_are_taken_who_holds_most_yields(admission: Admission) -> None:
    """A newcomer from somewhere else is not the one that suffers."""
    fill(admission, STRANGERS_MAX, sources=STRANGERS_MAX // SOURCE_MAX)
    assert admission.enter(100, "198.51.100.7", b"", 0.0) == NONE
    has_place, yields = admission.enter(100, "198.51.100.7", b"", FRESH_S)
    assert (has_place, yields) == (True, 0)
    taken = [admission.enter(200 + each, f"203.0.113.{each}", b"", 1.0)[1] for each in range(40)]
    assert 100 not in taken
    assert len(admission) == STRANGERS_MAX


def test_who_knocks_competes_with_none_of_them(admission: Admission) -> None:
    fill(admission, STRANGERS_MAX, sources=STRANGERS_MAX // SOURCE_MAX)
    assert admission.enter(100, "192.0.2.0", knock(), 0.0) == (True, None)
    for number in range(1000):
        admission.enter(1000 + number, "192.0.2.0", b"", 1.0 + number)
    admission.leave(100)
    assert len(admission) == STRANGERS_MAX


def test_a_knock_may_come_behind_the_connection(admission: Admission) -> None:
    fill(admission, SOURCE_MAX, sources=1)
    assert admission.spoke(0, knock(), 0.1) is None
    assert admission.enter(100, "192.0.2.0", b"", 0.1) == (True, None)  # a place is free again
    assert admission.spoke(1, b"something else", 0.1) is None
    assert admission.spoke(1, knock(), 0.1) is None  # not its first octets
    assert admission.enter(101, "192.0.2.0", b"", 0.1) == (True, 1)


def test_a_knock_is_good_once(admission: Admission) -> None:
    seen = knock()
    assert admission.enter(1, "192.0.2.1", seen, 0.0) == (True, None)
    for number in range(SOURCE_MAX):
        assert admission.enter(10 + number, "192.0.2.66", seen, 0.0) == (True, None)
    assert admission.enter(99, "192.0.2.66", seen, 0.0) == NONE


def test_those_that_knock_are_bounded_too(admission: Admission) -> None:
    for number in range(KNOCKERS_MAX):
        assert admission.enter(number, "192.0.2.1", knock(), 0.0) == (True, None)
    assert admission.enter(1000, "192.0.2.1", knock(), 0.0) == (True, 0)
    assert len(admission) == KNOCKERS_MAX


def test_the_address_of_a_cs_that_proved_itself_has_places_of_its_own(admission: Admission) -> None:
    admission.enter(1, "198.51.100.7", b"", 0.0)
    admission.proved(1, "198.51.100.7")
    assert len(admission) == 0
    fill(admission, STRANGERS_MAX, sources=STRANGERS_MAX // SOURCE_MAX)
    assert admission.enter(100, "198.51.100.7", b"", 0.0) == (True, None)


def test_what_is_remembered_is_bounded(admission: Admission) -> None:
    for number in range(KNOWN_SOURCES_MAX + 50):
        admission.proved(number, f"10.0.{number >> 8}.{number & 255}")
    assert len(admission._known) == KNOWN_SOURCES_MAX
    for number in range(NONCES_MAX + 50):
        admission.enter(number, "192.0.2.1", knock(), 0.0)
        admission.leave(number)
    assert len(admission._nonces) == len(admission._nonces_by_age) == NONCES_MAX
    assert admission._places == {}
    assert admission._silent == set()
