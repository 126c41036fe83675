# SPDX-License-Identifier: Apache-2.0
"""Serials of a CS's own range, given in rows and never twice at a time."""

from __future__ import annotations

import pytest

from control_segment.grant_serials import GrantSerials
from ssmb.errors import LocalProtocolError
from ssmb.serials import is_cs_originated

LAST = (1 << 24) - 1


def test_rows_follow_each_other_in_the_range_of_the_cs() -> None:
    serials = GrantSerials(5, 1000)
    assert [serials.take(10), serials.take(3), serials.take(1)] == [
        0x85000000 + 1000, 0x85000000 + 1010, 0x85000000 + 1013,
    ]  # fmt: skip
    assert is_cs_originated(0x85000000)


def test_a_row_does_not_go_round_the_end() -> None:
    serials = GrantSerials(1, LAST - 2)
    assert serials.take(4) == 0x81000000
    serials = GrantSerials(1, LAST - 2)
    assert serials.take(3) == 0x81000000 + LAST - 2
    assert serials.take(1) == 0x81000000


def test_what_is_in_use_is_passed_over_until_it_is_released() -> None:
    serials = GrantSerials(1, LAST - 9)
    first = serials.take(10)
    serials.release(first + 4)
    for living in (3, 17, 18):
        serials.mark(0x81000000 + living)
    serials.mark(0x82000000 + 5)  # of another CS: not of this range
    assert serials.take(3) == 0x81000000
    assert serials.take(14) == 0x81000000 + 19  # 4 to 16 are one too few
    serials.release(0x81000000 + 17)
    serials.release(0x81000000 + 18)


def test_a_range_that_is_used_up_is_an_error() -> None:
    serials = GrantSerials(1, 0)
    serials.take(1 << 23)
    serials.take(1 << 23)
    with pytest.raises(LocalProtocolError, match="no 1 consecutive serials"):
        serials.take(1)
    serials.release(0x81000000 + 77)
    assert serials.take(1) == 0x81000000 + 77
