# SPDX-License-Identifier: Apache-2.0
"""Who numbers a flow, and how."""

from __future__ import annotations

import pytest

from ssmb.errors import LocalProtocolError
from ssmb.serials import NO_FLOW, SerialAllocator, is_cs_originated


def free(_serial: int) -> bool:
    return False


def test_a_dfs_counts_in_31_bits_and_never_gives_zero() -> None:
    allocator = SerialAllocator(cs_id=None, start=0x7FFF_FFFD)
    assert [allocator.next(free) for _ in range(4)] == [0x7FFF_FFFE, 0x7FFF_FFFF, 1, 2]


def test_a_cs_puts_its_id_behind_the_top_bit() -> None:
    allocator = SerialAllocator(cs_id=1, start=4)
    assert allocator.next(free) == 0x8100_0005  # the wire protocol's worked example


def test_a_cs_counts_in_24_bits() -> None:
    allocator = SerialAllocator(cs_id=127, start=0xFF_FFFE)
    assert [allocator.next(free) for _ in range(3)] == [0xFFFF_FFFF, 0xFF00_0000, 0xFF00_0001]


def test_any_start_will_do() -> None:
    assert SerialAllocator(cs_id=None, start=0xFFFF_FFFF).next(free) == 1
    assert SerialAllocator(cs_id=2, start=0xFFFF_FFFF).next(free) == 0x8200_0000


def test_a_serial_in_use_is_skipped() -> None:
    allocator = SerialAllocator(cs_id=None, start=10)
    assert allocator.next({11, 12, 14}.__contains__) == 13
    assert allocator.next({11, 12, 14}.__contains__) == 15


def test_it_gives_up_rather_than_search_for_ever() -> None:
    allocator = SerialAllocator(cs_id=None, start=0)
    with pytest.raises(LocalProtocolError):
        allocator.next(lambda _serial: True)


def test_bit_31_says_who_began() -> None:
    assert is_cs_originated(0x8100_0005)
    assert not is_cs_originated(0x7FFF_FFFF)
    assert not is_cs_originated(NO_FLOW)
