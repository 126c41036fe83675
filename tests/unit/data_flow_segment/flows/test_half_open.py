# SPDX-License-Identifier: Apache-2.0
"""Which flows the agent enters half-open (9.7): those that a SYN begins, whatever becomes of it."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP

from data_flow_segment.targets.contract import FlowState, InstallFailed
from packets.parse import parse
from ssmb.constants import Flag
from ssmb.messages import Query
from support.octets.frames import ACK, SYN, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL_MAC,
    ROUTER_MAC,
    VIP,
    AgentRig,
    newflow_for,
    ready_rig,
)

HALF_OPEN_S, IDLE_S = 5, 300


def come_last_hop(rig: AgentRig, flags: int) -> None:
    """The client sends a segment that goes no further: its time to live is over."""
    packet = IP(tcp_packet(CLIENT, VIP, flags, seq=1))
    packet.ttl = 1
    del packet.chksum
    rig.receive(framed(bytes(packet), ROUTER_MAC, EXTERNAL_MAC))


def only_flow(rig: AgentRig) -> FlowState:
    (state,), _ = rig.target.scan(None, 10)
    return state


@pytest.mark.parametrize(("flags", "half_open"), [(SYN, True), (ACK, False)])
def test_a_flow_that_was_asked_about(flags: int, half_open: bool) -> None:
    rig, cs = ready_rig()
    come_last_hop(rig, flags)
    cs.answer(cs.one(Query))
    state = only_flow(rig)
    assert (state.half_open, state.counters.pkts_in) == (half_open, 0)
    rig.advance(HALF_OPEN_S + 1, sweep=True)
    assert rig.target.flow_count() == (0 if half_open else 1)
    assert rig.count("flows_half_open") == half_open
    rig.advance(IDLE_S, sweep=True)
    assert rig.target.flow_count() == 0


@pytest.mark.parametrize("has_frame", [True, False])
def test_a_flow_that_the_target_asked_about_and_left_to_the_agent(has_frame: bool) -> None:
    """Without the SYN itself nothing says that one began it."""
    rig, cs = ready_rig()
    come_last_hop(rig, SYN)
    query = cs.one(Query)
    rig.advance(10)  # the agent's own question is given up
    cs.take(Query)
    frame = framed(tcp_packet(CLIENT, VIP, SYN, seq=1), ROUTER_MAC, EXTERNAL_MAC)
    assert parse(frame).tcp_flags == SYN
    carried = bytes(12) + frame[12:] if has_frame else b""
    flags = int(Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP | Flag.PARKED)
    cs.answer(query, frame=carried, flags=flags)
    assert only_flow(rig).half_open == has_frame


def test_what_a_cs_enters_unasked_is_not_half_open() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(9))
    assert not only_flow(rig).half_open


@pytest.mark.parametrize("half_open", [True, False])
def test_a_flow_that_is_tried_once_more_is_what_it_was(half_open: bool) -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(9))
    entry = only_flow(rig).entry._replace(serial=10)
    event = InstallFailed(entry, table_full=True, reason="full", half_open=half_open)
    rig.agent.handle_events([event], rig.now)
    rig.settle()
    state = only_flow(rig)
    assert (state.entry.serial, state.half_open) == (10, half_open)
