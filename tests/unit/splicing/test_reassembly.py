# SPDX-License-Identifier: Apache-2.0
"""Reassembly against a naive model, and its bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from splicing.reassembly import PIECES_MAX, Reassembly

FIRST = 0xFFFFFFF0
pieces = st.lists(st.tuples(st.integers(-5, 60), st.binary(max_size=20)), max_size=30)


def add(reassembly: Reassembly, offset: int, octets: bytes, *, fin: bool = False) -> int:
    return reassembly.add(FIRST + offset & 0xFFFFFFFF, octets, fin=fin)


@settings(max_examples=60)
@given(pieces)
def test_it_is_what_a_naive_model_is(segments: list[tuple[int, bytes]]) -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    naive: dict[int, int] = {}
    for offset, octets in segments:
        had = len(reassembly.data)
        fresh = add(reassembly, offset, octets)
        for at, octet in enumerate(octets, offset):
            if at >= 0:
                naive.setdefault(at, octet)
        length = 0
        while length in naive:
            length += 1
        assert bytes(reassembly.data) == bytes(naive[at] for at in range(length))
        assert fresh == length - had
        later = {at: octet for at, octet in naive.items() if at > length}
        kept = {
            at: octet
            for start, piece in reassembly.pieces()
            for at, octet in enumerate(piece, start)
        }
        assert kept == later


@settings(max_examples=60)
@given(pieces, st.integers(1, 30), st.integers(0, 30))
def test_it_is_bounded(segments: list[tuple[int, bytes]], limit: int, buffer: int) -> None:
    reassembly = Reassembly(FIRST, limit, buffer)
    naive: dict[int, int] = {}
    for offset, octets in segments:
        add(reassembly, offset, octets)
        for at, octet in enumerate(octets, offset):
            naive.setdefault(at, octet)
        assert len(reassembly.data) <= limit + buffer
        assert sum(len(piece) for _, piece in reassembly.pieces()) <= buffer
        ends = [start + len(piece) for start, piece in reassembly.pieces()]
        starts = [start for start, _ in reassembly.pieces()]
        assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
        assert all(start > len(reassembly.data) for start in starts) or reassembly.is_full


def test_small_pieces_are_counted() -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    for at in range(PIECES_MAX + 10):
        add(reassembly, 2 + 2 * at, b"x")
    assert len(reassembly.pieces()) == PIECES_MAX
    add(reassembly, 3, b"y")  # joins two
    assert len(reassembly.pieces()) == PIECES_MAX - 1


def test_fin() -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    add(reassembly, 10, b"", fin=True)
    before = reassembly.is_whole
    add(reassembly, 5, b"0123456789")  # five of them are behind the FIN
    add(reassembly, 0, b"abcde")
    assert bytes(reassembly.data) == b"abcde01234"
    assert (before, reassembly.is_whole) == (False, True)
    add(reassembly, 12, b"", fin=True)
    assert reassembly.fin == 10


def test_a_fin_before_what_is_here_is_none() -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    add(reassembly, 0, b"abcde")
    add(reassembly, 8, b"ij")
    found = []
    for offset in (2, 5, 9, 10):
        add(reassembly, offset, b"", fin=True)
        found.append(reassembly.fin)
    assert found == [None, None, None, 10]


def test_blocks() -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    add(reassembly, 10, b"a")
    add(reassembly, 20, b"b")
    add(reassembly, 30, b"c")
    add(reassembly, 21, b"d")
    number = reassembly.number
    assert reassembly.blocks(2) == ((number(20), number(22)), (number(10), number(11)))


def test_forgetting() -> None:
    reassembly = Reassembly(FIRST, 1000, 1000)
    add(reassembly, 0, b"a")
    add(reassembly, 10, b"a")
    reassembly.forget()
    assert (bytes(reassembly.data), reassembly.pieces()) == (b"", [])
