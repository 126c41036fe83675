# SPDX-License-Identifier: Apache-2.0
"""What waits for the agent: bounded, in order, and seen by whoever polls."""

from __future__ import annotations

import select

import pytest
from finsy.proto import p4r

from data_flow_segment.targets.p4runtime import inbox
from data_flow_segment.targets.p4runtime.operations import FenceDone, PacketUp

UP = [PacketUp(p4r.PacketIn(payload=bytes((number,)))) for number in range(9)]


def is_readable(box: inbox.Inbox) -> bool:
    return bool(select.select([box.fileno()], [], [], 0)[0])


def test_it_is_readable_while_something_is_left() -> None:
    box = inbox.Inbox()
    for packet in UP[:5]:
        box.put(packet)
    assert box.take(2) == UP[:2]
    assert is_readable(box)
    assert box.take(2) == UP[2:4]
    assert is_readable(box)
    assert box.take(2) == UP[4:5]
    assert not is_readable(box)
    box.close()


def test_what_is_left_counts() -> None:
    box = inbox.Inbox()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox, "PACKETS_MAX", 3)
        for packet in UP[:3]:
            box.put(packet)
        assert box.take(1) == UP[:1]
        box.put(UP[3])
        box.put(UP[4])  # no room
        box.put(FenceDone(2, answered=True))  # no packet
    assert box.dropped == 1
    assert box.take() == [*UP[1:4], FenceDone(2, answered=True)]
    box.close()
