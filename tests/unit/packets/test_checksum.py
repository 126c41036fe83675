# SPDX-License-Identifier: Apache-2.0
"""The big-integer arithmetic against RFC 1071's loop, and RFC 1624 against starting over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packets import checksum
from support.octets.packets import ones_sum

EVEN = st.binary(max_size=80).map(lambda octets: octets[: len(octets) & ~1])


def test_the_example_of_rfc_1071() -> None:
    octets = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum.word_sum(octets) == 0xDDF2
    assert checksum.compute(octets) == 0x220D


@given(octets=st.binary(max_size=200))
def test_the_sum_is_the_loops(octets: bytes) -> None:
    # 0 and 0xffff are both zero to one's complement; the loop keeps the second.
    assert checksum.word_sum(octets) == ones_sum(octets) % 0xFFFF
    assert 0 <= checksum.compute(octets) <= 0xFFFF


@given(pieces=st.lists(EVEN, max_size=4), last=st.binary(max_size=20))
def test_pieces_count_as_one(pieces: list[bytes], last: bytes) -> None:
    assert checksum.compute(*pieces, last) == checksum.compute(b"".join(pieces) + last)


@given(before=EVEN, after=EVEN)
def test_what_contains_its_checksum_is_right(before: bytes, after: bytes) -> None:
    total = checksum.compute(before, b"\0\0", after)
    assert checksum.is_right(before, total.to_bytes(2, "big"), after)


@given(octets=EVEN.filter(any), flip=st.integers(0, 10_000))
def test_a_flipped_bit_is_noticed(octets: bytes, flip: int) -> None:
    total = checksum.compute(octets)
    damaged = bytearray(octets)
    damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    assert not checksum.is_right(damaged, total.to_bytes(2, "big"))


@given(old=st.binary(min_size=12, max_size=12), new=st.binary(min_size=12, max_size=12), rest=EVEN)
def test_a_change_is_as_good_as_starting_over(old: bytes, new: bytes, rest: bytes) -> None:
    changed = checksum.adjusted(checksum.compute(old, rest), old, new)
    assert checksum.is_right(new, rest, changed.to_bytes(2, "big"))


@given(
    old=st.binary(min_size=8, max_size=8),
    new=st.binary(min_size=8, max_size=8),
    rest=EVEN,
    error=st.integers(1, 0xFFFE),
)
def test_a_wrong_checksum_stays_as_wrong(old: bytes, new: bytes, rest: bytes, error: int) -> None:
    wrong = (checksum.compute(old, rest) + error) & 0xFFFF
    if checksum.is_right(old, rest, wrong.to_bytes(2, "big")):
        return  # the other zero
    changed = checksum.adjusted(wrong, old, new)
    assert not checksum.is_right(new, rest, changed.to_bytes(2, "big"))


@given(value=st.integers(0, 0xFFFF), octets=EVEN)
def test_no_change_changes_nothing(value: int, octets: bytes) -> None:
    assert checksum.adjusted(value, octets, octets) == value


def test_both_families_pseudo_headers_have_what_their_rfcs_say() -> None:
    assert checksum.pseudo_header(b"AAAA", b"BBBB", 6, 20) == b"AAAABBBB\0\0\0\x14\0\0\0\x06"
    long = checksum.pseudo_header(bytes(16), bytes(16), 58, 70000)
    assert long[32:] == (70000).to_bytes(4, "big") + b"\0\0\0\x3a"
