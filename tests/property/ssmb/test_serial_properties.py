# SPDX-License-Identifier: Apache-2.0
"""Serials: in the originator's range, never one in use, never zero."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssmb.serials import SerialAllocator, is_cs_originated


@given(st.none() | st.integers(1, 127), st.integers(0, 0xFFFF_FFFF), st.data())
def test_serials_are_new_and_in_range(cs_id: int | None, start: int, data: st.DataObject) -> None:
    allocator = SerialAllocator(cs_id=cs_id, start=start)
    in_use = {(start + step) & 0x7FFF_FFFF for step in data.draw(st.sets(st.integers(1, 50)))}
    given_out = [allocator.next(in_use.__contains__) for _ in range(30)]
    assert len(set(given_out)) == len(given_out)
    assert not in_use & set(given_out)
    for serial in given_out:
        assert 0 < serial <= 0xFFFF_FFFF
        assert is_cs_originated(serial) is (cs_id is not None)
        if cs_id is not None:
            assert serial >> 24 == 0x80 | cs_id
