# SPDX-License-Identifier: Apache-2.0
"""What standbys get copies of: what was carried out, once, in order (wire protocol 11.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.targets.contract import FinishedMessages
from ssmb.addresses import from_text
from ssmb.codec import encode, struct_of
from ssmb.constants import CloseReason, ErrorCode, Flag, GrantContent, MessageType
from ssmb.grants import DECISION_SIZE, flows_of, nodes_of, pack_decisions, pack_nodes
from ssmb.messages import (
    Delete,
    FlowState,
    Grant,
    Lease,
    Message,
    Query,
    Reply,
    Sync,
    Taken,
    Translation,
)
from support.octets.frames import ACK, RST, SYN, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    NODE,
    ROUTER_MAC,
    TRANSLATE,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    redundant_rig,
    reply_to,
)

OTHER = from_text("10.1.1.3")
FLAGS = int(CsmbFlag.SYNC_CAP | CsmbFlag.GRANTS | CsmbFlag.HEARTBEATS)
SERIAL = 0x81000010
GENERATION = 5
ROW = (0, TRANSLATE, struct_of(Translation, 2).pack(*Translation(NODE[0], node_port=NODE[1])))


def rig_of(*, standby_flags: int = FLAGS, **fields: Any) -> tuple[AgentRig, FakeCs, FakeCs]:
    """A rig whose standby has read what comes at its beginning."""
    rig, active, standby = redundant_rig(FLAGS, standby_flags=standby_flags, **fields)
    standby.inbox.clear()
    return rig, active, standby


def kinds(messages: Iterable[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


def grant(lease: Lease, part: int, decisions: int, **changes: Any) -> Grant:
    """Decisions to NODE, each with a source port, a hundred serials to a part."""
    fields: dict[str, Any] = {
        "serial": SERIAL + 100 * part,
        "virt_ipaddr": VIP[0],
        "virt_port": VIP[1],
        "protocol": 6,
        "generation": GENERATION,
        "lease_id": lease.lease_id,
        "part": part,
        "node_count": 1,
        "grant_data": pack_nodes([ROW])
        + pack_decisions([(0, 5000 + number) for number in range(decisions)]),
        **changes,
    }
    return Grant(**fields)


def leased(cs: FakeCs) -> Lease:
    asked = cs.take(Lease)[-1]
    cs.send(asked._replace(valid_ms=50))
    return asked


# --- decisions -----------------------------------------------------------------------------------


def test_a_reply_that_comes_when_its_flow_is_over_is_no_standbys_business() -> None:
    """It would enter a flow there that no DELETE ends."""
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    reply = active.answer(active.one(Query))
    rig.node_sends(RST | ACK, seq=1, ack=2)
    rig.advance(0.02)
    assert kinds(standby.inbox) == ["Reply", "Delete"]
    active.send(reply)
    assert rig.count("replies_stale") == 1
    assert kinds(standby.inbox) == ["Reply", "Delete"]


def test_a_reply_to_no_question_is_no_standbys_business() -> None:
    _, active, standby = rig_of()
    active.send(Reply(serial=0x81000001), newflow_for(0))
    assert standby.inbox == []


def test_the_frame_of_a_reply_is_for_the_dfs_alone() -> None:
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    query = active.one(Query)
    frame = rig.agent.new_flows.pending.by_session[query.session].packets[0].frame
    active.send(reply_to(query, flags=TRANSLATE | int(Flag.PARKED), frame=frame))
    (copy,) = standby.take(Reply)
    assert copy.flags & ~Flag.ADDR16 == TRANSLATE | Flag.REPLICA
    assert (copy.frame, copy.node_ipaddr, copy.serial) == (b"", NODE[0], query.serial)


def test_a_flow_that_moves_to_another_node_ends_at_the_standby_before_it_begins() -> None:
    """Under one serial the second REPLY were a repeat."""
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    active.answer(active.one(Query))
    rig.advance(1)
    rig.client_sends(SYN, seq=1)
    standby.inbox.clear()
    active.inbox = [message for message in active.inbox if isinstance(message, Query)]
    active.answer(active.one(Query), node_ipaddr=OTHER)
    rig.advance(0.02)
    ended, begun = standby.inbox
    assert isinstance(ended, Delete)
    assert isinstance(begun, Reply)
    assert (ended.serial, ended.detail) == (begun.serial, CloseReason.NODE_FAIL)
    assert ended.flags & Flag.REPLICA
    assert begun.node_ipaddr == OTHER
    assert active.inbox == []


def test_a_flow_that_the_cs_refuses_when_asked_again_ends_at_the_standby() -> None:
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    query = active.one(Query)
    active.answer(query)
    rig.advance(1)
    rig.client_sends(SYN, seq=1)
    standby.inbox.clear()
    active.answer(active.one(Query), error_code=int(ErrorCode.NOTAVAIL))
    assert standby.take(Delete)[0].serial == query.serial
    assert active.take(Delete) == []


def test_deletes_that_the_target_wrote_travel_together_to_the_standby_too() -> None:
    rig, _, standby = rig_of()
    deletes = [Delete(serial=serial) for serial in range(1, 11)]
    octets = b"".join(encode(each, 2) for each in deletes)
    before = rig.count("datagrams_sent")
    rig.agent.handle_events([FinishedMessages(1, int(MessageType.DELETE), octets)], rig.now)
    rig.advance(0.02)
    copies = standby.take(Delete)
    assert [each.serial for each in copies] == list(range(1, 11))
    assert all(each.flags & Flag.REPLICA for each in copies)
    assert rig.count("datagrams_sent") == before + 2  # to either CS


# --- grants --------------------------------------------------------------------------------------


def test_a_grant_is_copied_when_it_is_carried_out_and_once() -> None:
    """In the order of its parts, although the first one came by a repeat."""
    _, active, standby = rig_of()
    lease = leased(active)
    active.send(grant(lease, 2, 5))
    assert standby.take(Grant) == []
    active.send(grant(lease, 1, 5, flags=int(Flag.RETRY)), grant(lease, 2, 5))
    active.send(grant(lease, 1, 5, flags=int(Flag.RETRY)))
    copies = standby.take(Grant)
    assert [each.part for each in copies] == [1, 2]
    assert {each.flags & ~Flag.ADDR16 for each in copies} == {int(Flag.REPLICA)}


def test_a_standby_that_takes_no_grants_gets_none() -> None:
    rig, active, standby = rig_of(standby_flags=int(CsmbFlag.SYNC_CAP))
    active.send(grant(leased(active), 1, 5))
    rig.client_sends(SYN)
    rig.advance(0.011)
    assert active.take(Taken)
    assert kinds(standby.inbox) == []


def test_a_taken_is_copied_once_however_often_it_is_repeated() -> None:
    """Whoever has missed it asks for all flows."""
    rig, active, standby = rig_of()
    active.send(grant(leased(active), 1, 5))
    rig.client_sends(SYN)
    rig.advance(0.5)
    assert len(active.take(Taken)) > 2
    copied = [flow for each in standby.take(Taken) for flow in flows_of(each.taken_data)]
    assert len([flow for flow in copied if not flow.error_code]) == 1


def test_a_standby_that_asks_for_all_flows_gets_the_grants_in_force_first() -> None:
    rig, active, standby = rig_of()
    lease = leased(active)
    active.send(grant(lease, 1, 5), grant(lease, 2, 3))
    rig.client_sends(SYN)
    late = rig.cs(3, active=False, flags=FLAGS)
    late.inbox.clear()
    late.send(Sync(sync_id=9))
    rig.advance(0.1)
    told = [each for each in late.inbox if isinstance(each, Grant)]
    assert kinds(late.inbox[: len(told)]) == ["Grant"] * len(told)
    assert {(each.generation, each.lease_id, each.content) for each in told} == {
        (GENERATION, lease.lease_id, GrantContent.DECISIONS)
    }
    assert all(each.flags & Flag.REPLICA for each in told)
    (nodes,) = [nodes_of(each) for each in told if each.node_count]
    assert [(node.place, node.translation.node_ipaddr) for node in nodes] == [(0, NODE[0])]
    decisions = {
        each.serial: len(each.grant_data) // DECISION_SIZE for each in told if not each.node_count
    }
    assert decisions == {SERIAL + 100: 5, SERIAL + 200: 3}
    assert len([each for each in late.inbox if isinstance(each, FlowState)]) == 1
    assert standby.take(FlowState) == []


def test_the_active_cs_needs_no_grants_told() -> None:
    rig, active, _ = rig_of()
    active.send(grant(leased(active), 1, 5))
    active.inbox.clear()
    active.send(Sync(sync_id=9))
    rig.advance(0.1)
    assert active.take(Grant) == []


# --- what comes to light when another CS is active already ---------------------------------------


def replace(rig: AgentRig, standby: FakeCs) -> None:
    """The standby claims, and the DFS obeys: nothing is carried out yet."""
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    assert rig.agent.peers.active_of(1) is rig.agent.peers.by_identity[2, 1]
    rig.agent.flush(rig.now)
    rig.target.apply(rig.agent.outbox.take_commands())


def replies(*messages: Reply) -> list[FinishedMessages]:
    octets = b"".join(encode(each, 2) for each in messages)
    return [FinishedMessages(1, int(MessageType.REPLY), octets)]


def test_a_reply_of_the_cs_before_that_is_known_late_is_told_to_the_new_one() -> None:
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    reply = active.answer(active.one(Query))
    standby.inbox.clear()
    replace(rig, standby)
    rig.agent.handle_events(replies(reply), rig.now)
    rig.advance(0.02)
    told = standby.one(FlowState)
    assert (told.serial, told.node_ipaddr) == (reply.serial, NODE[0])
    assert not told.flags & Flag.REPLICA
    assert active.one(FlowState).flags & Flag.REPLICA
    assert standby.take(Reply) == []
    assert rig.count("flows_told_late") == 1


def test_afterwards_replies_are_copied_to_the_standbys_again() -> None:
    rig, active, standby = rig_of()
    replace(rig, standby)
    rig.agent.handle_events([], rig.now)  # nothing was left
    rig.settle()
    active.inbox.clear()
    reply = Reply(serial=5, src_ipaddr=VIP[0], dst_ipaddr=VIP[0])
    rig.agent.handle_events(replies(reply), rig.now)
    rig.settle()
    assert active.one(Reply).flags & Flag.REPLICA
    assert rig.count("flows_told_late") == 0


def test_what_the_target_says_before_it_knows_of_the_new_cs_does_not_end_the_wait() -> None:
    rig, active, standby = rig_of()
    rig.client_sends(SYN, seq=1)
    reply = active.answer(active.one(Query))
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    rig.agent.handle_events([], rig.now)
    rig.agent.flush(rig.now)
    rig.agent.handle_events(replies(reply), rig.now)
    rig.advance(0.02)
    assert standby.one(FlowState).serial == reply.serial


def test_a_grant_of_the_cs_before_that_was_taken_is_told_to_the_new_one() -> None:
    rig, active, standby = rig_of()
    active.send(grant(leased(active), 1, 5))
    frame = framed(tcp_packet(CLIENT, VIP, SYN), ROUTER_MAC, EXTERNAL_MAC)
    assert len(rig.target.receive(EXTERNAL, frame)) == 1  # on the way to its node, and not told yet
    taken = rig.target.events()
    standby.inbox.clear()
    replace(rig, standby)
    rig.agent.handle_events(taken, rig.now)
    rig.advance(0.02)
    assert standby.one(FlowState).serial == SERIAL + 100
    assert standby.take(Taken) == []
    assert rig.count("taken_unsent") == 1


def test_a_grant_that_was_taken_when_the_cs_died_is_told_to_the_standbys() -> None:
    rig, active, standby = rig_of()
    active.send(grant(leased(active), 1, 5))
    frame = framed(tcp_packet(CLIENT, VIP, SYN), ROUTER_MAC, EXTERNAL_MAC)
    rig.target.receive(EXTERNAL, frame)
    taken = rig.target.events()
    active.is_there = False
    rig.agent.connections.receive(active.number, b"", rig.now)
    rig.agent.handle_events(taken, rig.now)
    rig.advance(0.02)
    assert standby.one(FlowState).flags & Flag.REPLICA
