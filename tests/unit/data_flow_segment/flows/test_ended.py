# SPDX-License-Identifier: Apache-2.0
"""Why flows ended is remembered for so many and at no growing cost."""

from __future__ import annotations

import time

from data_flow_segment.flows.ended import REASONS_MAX, EndedFlows
from data_flow_segment.flows.table import RecentFlows
from ssmb.addresses import from_text
from ssmb.constants import TCP, CloseReason, Flag
from ssmb.messages import Query, Session
from support.octets.frames import ACK, FIN, SYN
from support.segments.agent_rig import CLIENT, TRANSLATE, AgentRig, FakeCs, ready_rig

SOURCE = (from_text("10.1.1.1"), 6000)
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


# --- source ports: given out again while the DFS still translates late packets -------------------


def translated(rig: AgentRig, cs: FakeCs, client: tuple[bytes, int]) -> None:
    """A connection through the only source port, from SYN to the last ACK."""
    rig.client_sends(SYN, seq=1, client=client)
    query = cs.one(Query)
    flags = TRANSLATE | int(Flag.TRANSLATE_SRC)
    cs.answer(query, flags=flags, snat_ipaddr=SOURCE[0], snat_port=SOURCE[1])
    rig.node_sends(SYN | ACK, client=SOURCE, seq=9, ack=2)
    rig.client_sends(ACK, client=client, seq=2, ack=10)
    rig.client_sends(FIN | ACK, client=client, seq=2, ack=10)
    rig.node_sends(FIN | ACK, client=SOURCE, seq=10, ack=3)
    rig.client_sends(ACK, client=client, seq=3, ack=11)


def test_a_lingering_flow_gives_way_to_one_with_its_source_port() -> None:
    rig, cs = ready_rig()
    for number in range(5):
        translated(rig, cs, (CLIENT[0], 5000 + number))
        rig.advance(0.1)
    assert rig.count("install_failures") == 0
    assert rig.count("lingering_replaced") == 4
    assert rig.count("flows_closed") == 5
    assert rig.target.flow_count() == 1
    rig.advance(2.1)
    assert rig.target.flow_count() == 0
    ended = rig.agent.endings.ended
    assert (ended.lingering, ended.backs, ended._back_of) == ({}, {}, {})


def test_a_living_flow_does_not_give_way() -> None:
    rig, cs = ready_rig()
    flags = TRANSLATE | int(Flag.TRANSLATE_SRC)
    for number in range(2):
        rig.client_sends(SYN, seq=1, client=(CLIENT[0], 5000 + number))
        query = cs.one(Query)
        cs.answer(query, flags=flags, snat_ipaddr=SOURCE[0], snat_port=SOURCE[1])
    assert rig.count("install_failures") == 1
    assert rig.target.flow_count() == 1
