# SPDX-License-Identifier: Apache-2.0
"""A SYN that its node does not answer is asked about again, and may go elsewhere (6.7, rule 8)."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.memory.syns import ASK_AGAIN_S
from ssmb.addresses import from_text
from ssmb.constants import Asking, ErrorCode, Flag, ForwardMode
from ssmb.messages import FlowSignature, Query
from support.octets.frames import ACK, RST, SYN, ends_of
from support.segments.agent_rig import NODE, AgentRig, FakeCs, ready_rig

OTHER = from_text("10.1.1.3")


def unanswered(**reply: int) -> tuple[AgentRig, FakeCs, Query]:
    """A flow whose first SYN went to its node, which said nothing for a second."""
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    cs.answer(query, **reply)
    rig.advance(1)
    return rig, cs, query


def destination(frames: list[tuple[int, bytes]]) -> bytes:
    ((_, frame),) = frames
    return ends_of(frame)[1][0]


def test_the_second_syn_is_asked_about_under_the_same_serial() -> None:
    rig, cs, first = unanswered()
    assert rig.client_sends(SYN, seq=1) == []
    query = cs.one(Query)
    assert (query.serial, query.detail) == (first.serial, Asking.UNANSWERED)
    assert query.timestamp == first.timestamp
    before = len(rig.sent)
    cs.answer(query)
    assert destination(rig.sent[before:]) == NODE[0]
    assert rig.target.flow_count() == 1
    assert (rig.count("flows_asked_again"), rig.count("flows_moved")) == (1, 0)


def test_the_cs_may_send_it_elsewhere_and_the_connection_is_made_there() -> None:
    rig, cs, _ = unanswered()
    rig.client_sends(SYN, seq=1)
    before = len(rig.sent)
    cs.answer(cs.one(Query), node_ipaddr=OTHER)
    assert destination(rig.sent[before:]) == OTHER
    rig.node_sends(SYN | ACK, node=(OTHER, NODE[1]), seq=9, ack=2)
    assert destination(rig.client_sends(ACK, seq=2, ack=10)) == OTHER
    state = rig.target.lookup(cs_signature(rig))
    assert state is not None
    assert (state.counters.pkts_in, state.counters.pkts_out) == (2, 1)  # the new node's alone
    assert rig.count("flows_moved") == 1


def cs_signature(rig: AgentRig) -> FlowSignature:
    states, _ = rig.target.scan(None, 10)
    (state,) = states
    return state.entry.signature


def test_the_same_port_again_and_again_within_a_second_is_asked_about() -> None:
    """A client that gives up after 0.7 s and connects again: another connection each time."""
    rig, cs, _ = unanswered()
    for number in range(3):
        rig.advance(0.7)
        assert rig.client_sends(SYN, seq=1000 * number) == []
        cs.answer(cs.one(Query))


def test_a_flood_of_one_flows_syns_is_not_asked_about() -> None:
    rig, cs, _ = unanswered()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    for _ in range(100):
        rig.advance(ASK_AGAIN_S / 2)
        assert destination(rig.client_sends(SYN, seq=1)) == NODE[0]
    assert cs.take(Query) == []


def test_a_refusal_ends_the_flow() -> None:
    rig, cs, _ = unanswered()
    rig.client_sends(SYN, seq=1)
    before = len(rig.sent)
    cs.answer(cs.one(Query), error_code=ErrorCode.NOTAVAIL, flags=0)
    assert rig.target.flow_count() == 0
    ((_, frame),) = rig.sent[before:]
    assert frame[47] & RST


@pytest.mark.parametrize("is_there", [True, False])
def test_without_an_answer_the_syn_goes_to_its_node(is_there: bool) -> None:
    rig, cs, _ = unanswered()
    if not is_there:
        cs.leave()
    before = len(rig.sent)
    rig.client_sends(SYN, seq=1)
    rig.advance(1)  # the repeats of the QUERY are spent
    assert destination(rig.sent[before:]) == NODE[0]
    assert rig.target.flow_count() == 1


def test_a_flow_that_ended_meanwhile_is_not_made_again() -> None:
    rig, cs, _ = unanswered()
    rig.client_sends(SYN, seq=1)
    again = cs.one(Query)
    rig.node_sends(RST | ACK, seq=0, ack=2)
    cs.answer(again, node_ipaddr=OTHER)
    rig.advance(2.1)
    assert rig.target.flow_count() == 0


def test_a_connection_whose_node_fell_silent_says_so() -> None:
    rig, cs, _ = unanswered()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)
    rig.advance(5)
    assert len(rig.client_sends(SYN, seq=7000)) == 1  # may be anybody's
    rig.advance(1)
    assert rig.client_sends(SYN, seq=7000) == []
    assert cs.one(Query).detail == Asking.SILENT


def test_with_direct_return_the_clients_second_packet_counts_as_an_answer() -> None:
    direct = {"forward_mode": int(ForwardMode.L2), "flags": int(Flag.ROUTE_BY_DST_IP)}
    rig, cs, _ = unanswered(**direct)
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    assert query.detail == Asking.UNANSWERED
    cs.answer(query, **direct)
    rig.client_sends(ACK, seq=2, ack=10)
    rig.advance(1)
    assert len(rig.client_sends(SYN, seq=7000)) == 1
    rig.advance(1)
    rig.client_sends(SYN, seq=7000)
    assert cs.one(Query).detail == Asking.SILENT


def test_a_node_that_answered_and_died_before_the_client_went_on() -> None:
    rig, cs, _ = unanswered()
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.advance(1)
    assert rig.client_sends(SYN, seq=7000) == []
    query = cs.one(Query)
    assert query.detail == Asking.HALF_OPEN
    before = len(rig.sent)
    cs.answer(query, node_ipaddr=OTHER)
    assert destination(rig.sent[before:]) == OTHER
    state = rig.target.lookup(cs_signature(rig))
    assert state is not None
    assert (state.half_open, state.counters.pkts_in) == (True, 1)
