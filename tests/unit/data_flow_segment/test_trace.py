# SPDX-License-Identifier: Apache-2.0
"""What a DFS says of one flow's story when it is asked (`splitplane trace`)."""

from __future__ import annotations

import pytest

from admin.answers import TRACE
from admin.arguments import Arguments
from data_flow_segment.inspection import COMMANDS
from ssmb.addresses import to_text
from ssmb.constants import ErrorCode
from ssmb.messages import Query, Reap
from support.octets.frames import ACK, RST, SYN
from support.segments.agent_rig import CLIENT, VIP, AgentRig, ready_rig

FLOW = {"client": f"{to_text(CLIENT[0])}:{CLIENT[1]}", "vip": f"{to_text(VIP[0])}:{VIP[1]}"}


def story(rig: AgentRig, **changes: str) -> list[str]:
    arguments = Arguments({**FLOW, "protocol": "tcp", **changes})
    said = COMMANDS.answer(TRACE.name, rig.agent, arguments, lambda: rig.now)
    assert isinstance(said, list)
    return [entry.what.partition(" (serial")[0] for entry in said]


def test_a_flow_that_is_answered_used_and_closed() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    assert story(rig) == ["QUERY sent", "waits for the CS, 1 packets held"]
    rig.advance(0.06)
    cs.answer(cs.take(Query)[-1])
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)
    rig.client_sends(RST, seq=2)
    rig.advance(3)
    before_the_end = ["QUERY sent", "QUERY sent, repeat 1"]
    before_the_end.append("installed from the REPLY, 1 held packets sent")
    assert story(rig)[:3] == before_the_end
    assert story(rig)[3].startswith("closed by RST, reported")
    assert story(rig, client="198.51.100.8:1") == []
    assert story(rig, protocol="udp") == []


def test_flows_that_are_refused_ended_or_given_up() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query), error_code=ErrorCode.NOTAVAIL)
    assert story(rig)[-1] == "the CS refused: NOTAVAIL"
    rig.advance(2)
    rig.client_sends(SYN)
    cs.answer(query := cs.one(Query))
    rig.advance(2)
    cs.send(Reap(serial=query.serial, **query.signature._asdict(), idle_limit=1))
    assert story(rig)[-1].startswith("deleted: REAPED, reported")
    rig.advance(10)
    rig.client_sends(SYN)
    rig.advance(2)
    assert story(rig)[-1] == "no REPLY after 3 repeats, held packets dropped"


def test_both_ends_have_to_be_named() -> None:
    rig, _ = ready_rig()
    with pytest.raises(ValueError, match="give the client and the vip, each as address:port"):
        COMMANDS.answer(TRACE.name, rig.agent, Arguments({"vip": FLOW["vip"]}), lambda: rig.now)
