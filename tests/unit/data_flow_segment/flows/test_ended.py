# SPDX-License-Identifier: Apache-2.0
"""Why flows ended is remembered for so many and at no growing cost."""

from __future__ import annotations

import time

from data_flow_segment.flows.ended import REASONS_MAX, EndedFlows
from data_flow_segment.flows.table import RecentFlows
from ssmb.constants import TCP, CloseReason
from ssmb.messages import Session

IDLE = int(CloseReason.IDLE)


def session(number: int) -> Session:
    return Session(bytes(16), bytes(16), number >> 16, number & 0xFFFF, TCP)


def remember(ended: EndedFlows, first: int, count: int) -> float:
    """How many seconds of this processor it takes."""
    began = time.process_time()
    for number in range(first, first + count):
        ended.remember_reason(session(number), number, IDLE)
    return time.process_time() - began


def test_the_latest_ends_are_remembered() -> None:
    ended = EndedFlows(RecentFlows())
    remember(ended, 0, REASONS_MAX + 10)
    assert len(ended._reasons) == REASONS_MAX
    assert ended.reason_of(session(9), 9) == 0
    assert ended.reason_of(session(10), 10) == IDLE
    assert ended.reason_of(session(REASONS_MAX + 9), REASONS_MAX + 9) == IDLE


def test_forgetting_the_oldest_costs_the_same_however_many_were_forgotten() -> None:
    """A plain dict looks for its first entry among all that were deleted before it."""
    ended = EndedFlows(RecentFlows())
    filling = remember(ended, 0, REASONS_MAX)
    for first in range(1, 4):
        last = remember(ended, first * REASONS_MAX, REASONS_MAX)
    assert last < 10 * filling
