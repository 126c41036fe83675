# SPDX-License-Identifier: Apache-2.0
"""Limits at the DFS: CONNLIMIT, BUSY, and WAIT for a place (9.9)."""

from __future__ import annotations

import pytest

from csmb.messages import Config
from ssmb.constants import LIMIT_HOLD_MS, ErrorCode
from ssmb.messages import Query
from support.octets.frames import ACK, RST, SYN, ends_of
from support.segments.agent_rig import NODE, AgentRig, FakeCs, ready_rig, vs_list, web_server


def asked() -> tuple[AgentRig, FakeCs, Query]:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    return rig, cs, cs.one(Query)


def waiting(seconds: int = 5) -> tuple[AgentRig, FakeCs, Query]:
    rig, cs, query = asked()
    cs.answer(query, error_code=ErrorCode.WAIT, flags=0, idle_timeout=seconds)
    return rig, cs, query


@pytest.mark.parametrize("code", [ErrorCode.CONNLIMIT, ErrorCode.BUSY])
def test_after_a_limit_the_next_syn_is_asked_about_before_a_client_repeats_it(
    code: ErrorCode,
) -> None:
    rig, cs, query = asked()
    cs.answer(query, error_code=code, flags=0)
    resets = [frame for _, frame in rig.sent if frame[47] & RST]
    assert len(resets) == (1 if code == ErrorCode.BUSY else 0)
    rig.client_sends(SYN)
    assert cs.take(Query) == []
    rig.advance(LIMIT_HOLD_MS / 1000)
    rig.client_sends(SYN)
    assert cs.one(Query).serial != query.serial


def test_a_datagram_that_a_limit_refused_is_not_asked_about_for_a_second() -> None:
    rig, cs = ready_rig()
    cs.tell(Config())
    cs.tell(vs_list(web_server(protocol=17)))
    rig.client_sends_udp()
    cs.answer(cs.one(Query), error_code=ErrorCode.BUSY, flags=0)
    assert rig.count("unreachable_sent") == 1
    rig.advance(0.9)
    rig.client_sends_udp()
    assert cs.take(Query) == []


def test_a_waiting_flow_is_held_and_goes_to_its_place_at_once() -> None:
    rig, cs, query = waiting()
    assert rig.sent == []
    rig.advance(0.5)
    assert cs.take(Query) == []  # nothing is repeated meanwhile
    cs.answer(query)  # unasked
    ((_, frame),) = rig.sent
    assert ends_of(frame)[1] == NODE
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    assert rig.count("flows_waited") == 1


def test_a_waiting_flow_asks_again_every_second_under_the_same_serial() -> None:
    rig, cs, query = waiting()
    for left in (4, 3, 2):
        rig.advance(1.01)
        again = cs.one(Query)
        assert again.serial == query.serial
        cs.answer(again, error_code=ErrorCode.WAIT, flags=0, idle_timeout=left)
    cs.answer(query)
    assert rig.target.flow_count() == 1


def test_a_flow_that_waits_in_vain_is_reset_when_its_time_is_over() -> None:
    rig, cs, query = waiting(3)
    for _ in range(2):
        rig.advance(1.01)
        cs.answer(cs.one(Query), error_code=ErrorCode.WAIT, flags=0, idle_timeout=60)
    rig.advance(1)
    ((_, frame),) = rig.sent
    assert frame[47] & RST
    assert (rig.count("wait_timeouts"), len(rig.agent.new_flows.pending)) == (1, 0)
    cs.answer(query, error_code=ErrorCode.BUSY, flags=0)  # what the CS finds a moment later
    assert len(rig.sent) == 1


def test_a_waiting_flow_outlives_a_cs_that_is_silent_for_a_while() -> None:
    rig, cs, query = waiting()
    rig.advance(2.5)  # its questions are not answered
    assert len(cs.take(Query)) == 2
    cs.answer(query)
    assert rig.target.flow_count() == 1


def test_a_limit_that_ends_the_wait_is_obeyed() -> None:
    rig, cs, query = waiting()
    cs.answer(query, error_code=ErrorCode.NOTAVAIL, flags=0)
    assert rig.sent[0][1][47] & RST
    assert len(rig.agent.new_flows.pending) == 0
