# SPDX-License-Identifier: Apache-2.0
"""A node's packet in mid-session that no flow knows: the agent asks the CS whose it is."""

from __future__ import annotations

from csmb.constants import Flag as CsmbFlag
from csmb.messages import NodePlace, Nodes
from data_flow_segment.peers.nodes import HELD_S
from ssmb.constants import ErrorCode, Flag
from ssmb.messages import Query
from support.octets.frames import ACK, RST, SYN, ends_of, framed, tcp_packet, udp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    INTERNAL,
    INTERNAL_MAC,
    NODE,
    NODE_MAC,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    ready_rig,
)

PLACES = Nodes(0, (NodePlace(*NODE, 6),))


def knowing() -> tuple[AgentRig, FakeCs]:
    rig, cs = ready_rig()
    cs.tell(PLACES)
    return rig, cs


def test_it_is_held_and_goes_to_the_client_by_the_flow_that_the_cs_sends() -> None:
    rig, cs = knowing()
    assert rig.node_sends(ACK, seq=10, ack=2, payload=b"news") == []
    query = cs.one(Query)
    assert query.flags & Flag.OUTBOUND
    assert ((query.src_ipaddr, query.src_port), (query.dst_ipaddr, query.dst_port)) == (
        NODE,
        CLIENT,
    )
    rig.node_sends(ACK, seq=14, ack=2, payload=b"more")
    assert cs.take(Query) == []
    before = len(rig.sent)
    cs.send(newflow_for(0x81000001))
    assert [ends_of(frame) for _, frame in rig.sent[before:]] == [(VIP, CLIENT, 6)] * 2
    assert rig.count("nodes_asked") == 1
    ((_, frame),) = rig.client_sends(ACK, seq=2, ack=18)
    assert ends_of(frame)[:2] == (CLIENT, NODE)


def test_a_flow_that_came_meanwhile_lets_it_go_as_well() -> None:
    rig, cs = knowing()
    cs.send(newflow_for(0x81000001))
    frame = framed(tcp_packet(NODE, CLIENT, ACK, seq=10), NODE_MAC, INTERNAL_MAC)
    rig.target.data_path.table.remove(newflow_for(1).signature)
    rig.target.receive(INTERNAL, frame)
    cs.send(newflow_for(0x81000001))
    rig.agent.handle_events(rig.target.events(), rig.now)
    before = len(rig.sent)
    cs.send(newflow_for(0x81000001))
    assert [ends_of(frame) for _, frame in rig.sent[before:]] == [(VIP, CLIENT, 6)]


def test_what_the_cs_does_not_know_is_reset_at_the_node_and_never_leaves() -> None:
    rig, cs = knowing()
    rig.node_sends(ACK, seq=10, ack=2, payload=b"news")
    query = cs.one(Query)
    before = len(rig.sent)
    flags = int(Flag.OUTBOUND)
    cs.answer(query, error_code=ErrorCode.UNKNOWN, flags=flags)
    ((interface, frame),) = rig.sent[before:]
    assert interface == INTERNAL
    assert ends_of(frame)[:2] == (CLIENT, NODE)
    assert frame[14 + 20 + 13] & RST
    assert rig.count("held_packets_refused") == 1


def test_without_an_answer_it_is_dropped_and_counted() -> None:
    rig, cs = knowing()
    rig.node_sends(ACK, seq=10, ack=2, payload=b"news")
    rig.advance(1)
    assert len(cs.take(Query)) == 4
    assert rig.count("held_packets_given_up") == 1
    assert all(interface != EXTERNAL for interface, _ in rig.sent)


def test_another_list_replaces_the_one_before() -> None:
    rig, cs = knowing()
    cs.tell(Nodes(int(CsmbFlag.MORE), (NodePlace(NODE[0], 22, 6),)))
    assert rig.node_sends(ACK, seq=10) == []  # it is not complete
    cs.tell(Nodes(0, ()))
    assert len(cs.take(Query)) == 1
    assert len(rig.node_sends(ACK, seq=10)) in (0, 1)


# --- a data path that began empty ---------------------------------------------------------------


def test_until_a_cs_has_said_where_nodes_are_what_may_be_a_clients_waits() -> None:
    rig = AgentRig()
    rig.settle()
    assert rig.node_sends(ACK, seq=10, payload=b"news") == []
    assert rig.count("drop_nodes_awaited") == 1
    cs = rig.cs(flags=int(CsmbFlag.SYNC_CAP | CsmbFlag.NODES))
    assert rig.node_sends(ACK, seq=10, payload=b"news") == []
    assert rig.count("drop_nodes_awaited") == 2
    cs.tell(PLACES)
    assert rig.node_sends(ACK, seq=10, payload=b"news") == []
    assert rig.count("drop_nodes_awaited") == 2
    assert rig.count("nodes_asked") == 1
    # what is no node's is the routers' again
    assert not rig.target.data_path.outbound_query


def test_what_cannot_be_a_clients_goes_on_meanwhile() -> None:
    rig = AgentRig()
    rig.settle()
    for packet in (tcp_packet(NODE, CLIENT, SYN), udp_packet(NODE, CLIENT)):
        before = len(rig.sent)
        rig.receive(framed(packet, NODE_MAC, INTERNAL_MAC), INTERNAL)
        assert [ends_of(frame)[:2] for _, frame in rig.sent[before:]] == [(NODE, CLIENT)]
    assert rig.count("passed_by_agent") == 2


def test_it_does_not_wait_for_ever() -> None:
    rig = AgentRig()
    rig.advance(HELD_S + 1)
    assert len(rig.node_sends(ACK, seq=10)) == 1


def test_it_does_not_wait_for_a_cs_that_will_not_say() -> None:
    rig = AgentRig()
    rig.cs(flags=int(CsmbFlag.SYNC_CAP))
    assert len(rig.node_sends(ACK, seq=10)) == 1


def test_an_agent_that_adopts_a_table_lets_nothing_wait() -> None:
    rig, _ = knowing()
    other = AgentRig(data_path=rig.target.data_path)
    assert rig.target.data_path.nodes.places
    assert other.agent.nodes.awaited_until is None
    assert not other.target.data_path.outbound_query
