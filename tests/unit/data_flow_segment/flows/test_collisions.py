# SPDX-License-Identifier: Apache-2.0
"""One source port for a virtual server and for the node behind it (docs/operations.md)."""

from __future__ import annotations

from packets.parse import parse
from ssmb.messages import Query
from support.octets.frames import ACK, FIN, RST, SYN, ends_of
from support.segments.agent_rig import CLIENT, NODE, AgentRig, FakeCs, ready_rig


def established() -> tuple[AgentRig, FakeCs]:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)
    return rig, cs


def test_the_direct_connection_is_reset_and_the_other_one_goes_on() -> None:
    rig, cs = established()
    ((_, frame),) = rig.client_sends(SYN, vip=NODE, seq=700)
    packet = parse(frame)
    assert (ends_of(frame)[:2], packet.tcp_flags) == ((NODE, CLIENT), RST | ACK)
    assert rig.count("direct_collisions") == 1
    (line,) = rig.agent.outbox.log
    assert "198.51.100.7 port 40000" in line
    rig.client_sends(SYN, vip=NODE, seq=701)
    assert len(rig.agent.outbox.log) == 1
    ((_, frame),) = rig.client_sends(ACK, seq=2, ack=10)
    assert ends_of(frame)[1] == NODE
    assert cs.take(Query) == []


def test_a_flow_that_only_lingers_gives_way() -> None:
    rig, _ = established()
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.node_sends(FIN | ACK, seq=10, ack=3)
    rig.client_sends(ACK, seq=3, ack=11)
    ((_, frame),) = rig.client_sends(SYN, vip=NODE, seq=700)
    assert ends_of(frame)[:2] == (CLIENT, NODE)
    ((_, frame),) = rig.node_sends(SYN | ACK, seq=50, ack=701)
    assert ends_of(frame)[:2] == (NODE, CLIENT)  # as the node sent it
    assert (rig.count("direct_collisions"), rig.target.flow_count()) == (0, 0)


def test_a_direct_connection_from_another_port_is_routed() -> None:
    rig, _ = established()
    ((_, frame),) = rig.client_sends(SYN, client=(CLIENT[0], 40001), vip=NODE, seq=700)
    assert ends_of(frame)[:2] == ((CLIENT[0], 40001), NODE)
