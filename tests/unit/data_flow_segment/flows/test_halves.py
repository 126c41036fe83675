# SPDX-License-Identifier: Apache-2.0
"""Half of a flow, as an agent leaves it that is killed between two entries: the CS has the rest."""

from __future__ import annotations

from data_flow_segment.targets.contract import FlowHalf, RemoveFlow
from ssmb.constants import ErrorCode
from ssmb.messages import FlowSignature, Query, Sync
from support.octets.frames import ACK
from support.segments.agent_rig import CLIENT, NODE, VIP, AgentRig, FakeCs, ready_rig, reply_to

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)


def find_half(rig: AgentRig, signature: FlowSignature = SIGNATURE) -> list[RemoveFlow]:
    """The target reports it; what is taken out because of that."""
    rig.agent.handle_events([FlowHalf(signature)], rig.now)
    removed = [each for each in rig.agent.outbox.commands if isinstance(each, RemoveFlow)]
    rig.settle()
    return removed


def waiting_for_sync() -> tuple[AgentRig, FakeCs]:
    rig, cs = ready_rig()
    (peer,) = rig.agent.peers.by_identity.values()
    peer.synced = False
    return rig, cs


def test_the_cs_is_asked_in_mid_session_and_completes_it() -> None:
    rig, cs = ready_rig()
    assert find_half(rig) == []
    query = cs.one(Query)
    assert (query.signature.session, query.tcp_flags) == (SIGNATURE.session, ACK)
    cs.answer(query)
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.node_ipaddr == NODE[0]
    assert rig.sent == []  # no packet waited


def test_it_waits_until_the_cs_knows_its_flows() -> None:
    rig, cs = waiting_for_sync()
    find_half(rig)
    rig.advance(3)
    assert cs.take(Query) == []
    cs.send(Sync(sync_id=3))
    rig.advance(0.1)
    assert cs.take(Query)[0].signature.session == SIGNATURE.session


def test_a_half_that_the_cs_does_not_know_goes() -> None:
    rig, cs = ready_rig()
    find_half(rig)
    query = cs.one(Query)
    (peer,) = rig.agent.peers.by_identity.values()
    refusal = reply_to(query, error_code=ErrorCode.UNKNOWN, flags=0)
    rig.agent.answers.reply_came(peer, refusal, rig.now)
    assert rig.agent.outbox.take_commands() == [RemoveFlow(SIGNATURE)]
    assert rig.sent == []


def test_a_half_of_udp_or_of_no_virtual_server_goes_at_once() -> None:
    rig, cs = ready_rig()
    other = SIGNATURE._replace(dst_port=99)
    datagrams = SIGNATURE._replace(protocol=17)
    assert find_half(rig, other) == [RemoveFlow(other)]
    assert find_half(rig, datagrams) == [RemoveFlow(datagrams)]
    assert cs.take(Query) == []


def test_a_client_that_sends_first_completes_it() -> None:
    rig, cs = waiting_for_sync()
    find_half(rig)
    rig.client_sends(ACK, seq=5, ack=9)
    cs.send(Sync(sync_id=3))
    rig.advance(0.01)
    cs.answer(cs.one(Query))
    assert rig.target.flow_count() == 1
    assert len(rig.sent) == 1


def test_a_cs_that_does_not_answer_is_asked_when_it_has_synchronised_again() -> None:
    rig, cs = ready_rig()
    find_half(rig)
    rig.advance(2)
    assert len(cs.take(Query)) == 4
    cs.send(Sync(sync_id=3))
    rig.advance(0.1)
    assert len(cs.take(Query)) >= 1
