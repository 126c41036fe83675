# SPDX-License-Identifier: Apache-2.0
"""Flows that several DFSs hold (wire protocol 14): who is sent what, and what ends what."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.flows import ACTIVE, SESSION
from control_segment.pairs.pairs import ROUNDS
from control_segment.pairs.spares import SPARE_IDLE_S
from control_segment.peers import Filling
from ssmb.constants import CloseReason, ErrorCode, Flag, ResetReason
from ssmb.messages import Delete, FlowState, Message, NewFlow, Reap, Reply, Reset, Stats, Timeout
from support.segments.dfs_double import ACK, SYN, DfsDouble, Rig, config

PORT = 40000


def team_rig(kind: str = "pair", count: int = 2, **settings: Any) -> Rig:
    dfss = [
        DfsDouble(number, segment_id=256 + number, address=f"10.255.0.{101 + number}")
        for number in range(count)
    ]
    rig = Rig(
        config(
            data_flow_segments=[{"address": dfs.address[0], kind: "edge"} for dfs in dfss],
            settings={"grants": False, **settings},
        ),
        *dfss,
    )
    rig.settle()
    rig.advance(1)
    for dfs in dfss:
        dfs.ssmb.clear()
    return rig


def got(dfs: DfsDouble, kind: type[Message]) -> list[Any]:
    found = [message for message in dfs.ssmb if isinstance(message, kind)]
    dfs.ssmb = [message for message in dfs.ssmb if not isinstance(message, kind)]
    return found


def delete(like: Reply | NewFlow, reason: int, **fields: Any) -> Delete:
    counts = {"pkts_in": 5, "pkts_out": 4, "bytes_in": 500, "bytes_out": 400, "tcp_flags": 0x1B}
    flags = Flag.ADDR16 | Flag.HAS_STATS
    return Delete(0, flags, like.serial, *like.signature, detail=reason, **{**counts, **fields})


def stats(like: Reply | NewFlow, **fields: Any) -> Stats:
    flags = Flag.ADDR16 | Flag.HAS_STATS
    return Stats(0, flags, like.serial, *like.signature)._replace(**fields)


def states(rig: Rig) -> list[Filling]:
    return [member.filling for member in rig.cs.dispatch.pairs.teams["edge"].members]


def test_a_flow_is_decided_once_and_entered_at_every_member() -> None:
    rig = team_rig("multipath", 3)
    first, *others = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    assert got(first, NewFlow) == []
    for dfs in others:
        (spare,) = got(dfs, NewFlow)
        assert spare.serial == reply.serial
        assert spare.signature == reply.signature
        assert spare.translation._replace(idle_timeout=0) == reply.translation._replace(
            idle_timeout=0
        )
        assert spare.idle_timeout == SPARE_IDLE_S > reply.idle_timeout
    assert sum(rig.active().values()) == 1


def test_a_repeated_query_changes_nothing_at_the_others() -> None:
    rig = team_rig()
    first, second = rig.dfss
    first.query(rig, serial=7)
    assert len(got(second, NewFlow)) == 1
    first.query(rig, serial=7)
    assert got(second, NewFlow) == []


@pytest.mark.parametrize("reason", [CloseReason.FIN, CloseReason.RST])
@pytest.mark.parametrize("seen_by", [0, 1])
def test_whoever_sees_the_end_ends_it_at_all(reason: CloseReason, seen_by: int) -> None:
    rig = team_rig()
    reply = rig.dfs.query(rig)
    assert reply is not None
    seer, other = rig.dfss[seen_by], rig.dfss[1 - seen_by]
    got(other, NewFlow)
    seer.tell(rig, delete(reply, reason))
    rig.advance(0.1)
    (reap,) = got(other, Reap)
    assert (reap.serial, reap.signature, reap.detail) == (reply.serial, reply.signature, 0)
    assert reap.idle_limit == 1
    assert len(rig.cs.table) == 0
    # which answers
    other.tell(rig, delete(reply, CloseReason.REAPED, pkts_in=0, pkts_out=0))
    assert sum(rig.active().values()) == 0


def test_the_others_are_asked_before_an_idle_flow_is_over() -> None:
    """Its packets go past another DFS by now."""
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    got(second, NewFlow)
    first.tell(rig, delete(reply, CloseReason.IDLE, idle_ms=300_000))
    rig.advance(0.1)
    (asked,) = got(second, Timeout)
    assert (asked.serial, asked.idle_limit) == (reply.serial, 300_000)
    (flow,) = rig.cs.table.by_key.values()
    assert sum(rig.active().values()) == 1
    second.tell(rig, stats(reply, error_code=ErrorCode.CONNALIVE, pkts_in=3, bytes_in=300))
    rig.advance(0.1)
    assert flow.state == ACTIVE
    assert flow.peer.segment_id == second.segment_id
    # it is to say when the flow is idle, and the first one gets a spare
    (timed,), (spare,) = got(second, NewFlow), got(first, NewFlow)
    assert timed.serial == spare.serial == reply.serial
    assert (timed.idle_timeout, spare.idle_timeout) == (300, SPARE_IDLE_S)
    second.tell(rig, stats(reply, pkts_in=9, bytes_in=900))
    assert got(second, NewFlow) == []
    node = flow.node
    assert (node.pkts_in, node.bytes_in) == (5 + 9, 500 + 900)


def test_if_none_of_them_has_packets_the_session_is_kept_without_a_flow() -> None:
    rig = team_rig("multipath", 3)
    first, second, third = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    first.tell(rig, delete(reply, CloseReason.IDLE, idle_ms=300_000))
    rig.advance(0.1)
    assert len(got(second, Timeout)) == 1
    assert got(third, Timeout) == []
    second.tell(rig, delete(reply, CloseReason.REAPED, pkts_in=0, pkts_out=0, tcp_flags=0))
    rig.advance(0.1)
    assert len(got(third, Timeout)) == 1
    # a spare that was entered a moment ago is alive, but has seen nothing
    third.tell(rig, stats(reply, error_code=ErrorCode.CONNALIVE))
    rig.advance(0.1)
    (flow,) = rig.cs.table.by_key.values()
    assert flow.state == SESSION
    assert len(got(third, Reap)) == 1
    assert sum(rig.active().values()) == 0
    again = second.query(rig, tcp_flags=ACK)
    assert again is not None
    assert again.node_ipaddr == reply.node_ipaddr


def test_a_handshake_that_nobody_went_on_with_leaves_nothing() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    syn_only = {"idle_ms": 5000, "pkts_in": 1, "pkts_out": 0, "tcp_flags": SYN}
    first.tell(rig, delete(reply, CloseReason.IDLE, **syn_only))
    rig.advance(0.1)
    assert len(got(second, Timeout)) == 1
    second.tell(rig, stats(reply, error_code=ErrorCode.CONNALIVE))
    rig.advance(0.1)
    assert len(rig.cs.table) == 0
    assert len(got(second, Reap)) == 1


def test_a_spare_that_ends_by_itself_is_sent_again_unless_there_is_no_room() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    got(second, NewFlow)
    second.tell(rig, delete(reply, CloseReason.IDLE, pkts_in=0, pkts_out=0))
    (spare,) = got(second, NewFlow)
    second.tell(rig, delete(spare, CloseReason.OVERFLOW, pkts_in=0, pkts_out=0))
    assert got(second, NewFlow) == []
    assert got(second, Reap) == got(first, Reap) == []
    (flow,) = rig.cs.table.by_key.values()
    assert (flow.state, flow.peer.segment_id) == (ACTIVE, first.segment_id)


def test_counters_of_several_dfss_are_added_up_once() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    for count in (1, 2, 3):
        first.tell(rig, stats(reply, pkts_in=10 * count, bytes_in=1000 * count))
        second.tell(rig, stats(reply, pkts_out=20 * count, bytes_out=2000 * count))
    (flow,) = rig.cs.table.by_key.values()
    assert (flow.node.pkts_in, flow.node.pkts_out) == (30, 60)
    assert (flow.node.bytes_in, flow.node.bytes_out) == (3000, 6000)
    assert rig.cs.statistics.drops["stale_serial"] == 0


def test_a_question_of_another_member_gets_the_same_node_and_serials_follow() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig, serial=7)
    assert reply is not None
    got(second, NewFlow)
    moved = second.query(rig, tcp_flags=ACK, serial=9)
    assert moved is not None
    assert (moved.serial, moved.node_ipaddr) == (9, reply.node_ipaddr)
    (spare,) = got(first, NewFlow)
    assert spare.serial == 9
    assert sum(rig.active().values()) == 1


def test_a_syn_repeated_past_another_member_gets_the_same_node() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    rig.advance(3)
    again = second.query(rig)
    assert reply is not None
    assert again is not None
    assert again.node_ipaddr == reply.node_ipaddr
    rig.advance(5)  # later it is another connection
    other = first.query(rig)
    assert other is not None
    assert other.node_ipaddr != reply.node_ipaddr


def test_a_member_that_lost_its_flows_is_filled_and_its_flows_live_on_at_the_other() -> None:
    rig = team_rig()
    first, second = rig.dfss
    replies = [first.query(rig, port=PORT + number) for number in range(3)]
    assert states(rig) == [Filling.COMPLETE] * 2
    got(second, NewFlow)
    first.tell(rig, Reset(reset_id=5, detail=ResetReason.BOOT))
    second.flows = [flow_state(reply) for reply in replies if reply is not None]
    rig.advance(0.3)
    spares = got(first, NewFlow)
    assert {each.serial for each in spares} == {each.serial for each in replies if each}
    assert states(rig)[0] is not Filling.COMPLETE  # nothing has confirmed them
    first.flows = [flow_state(each) for each in spares]
    rig.advance(40)
    assert states(rig) == [Filling.COMPLETE] * 2
    assert sum(rig.active().values()) == 3
    assert {flow.peer.segment_id for flow in rig.cs.table.by_key.values()} == {257}


def flow_state(like: Reply | NewFlow, idle_ms: int = 0) -> FlowState:
    fields = (0, like.flags, like.serial, *like.signature, 0, 0, *like.translation, 0, idle_ms)
    return FlowState._make(fields)


def filled_in_vain() -> tuple[Rig, DfsDouble, Reply]:
    """A member comes back, and confirms nothing of the other's flow."""
    rig = team_rig()
    first, second = rig.dfss
    second.disconnect(rig)
    reply = first.query(rig)
    assert reply is not None
    first.flows = [flow_state(reply)]
    second.connect(rig)
    return rig, second, reply


def test_what_a_filling_sends_in_vain_is_sent_again_and_then_complained_about() -> None:
    rig, second, reply = filled_in_vain()
    rig.advance(20)
    assert states(rig)[1] is not Filling.COMPLETE
    assert len(got(second, NewFlow)) > 1
    assert any("still lacks 1 flows" in line for line in rig.cs.log)
    second.flows = [flow_state(reply)._replace(idle_ms=5000)]
    rig.advance(60)
    assert states(rig)[1] is Filling.COMPLETE


def test_who_loses_for_a_moment_what_it_is_sent_is_complete_soon_after() -> None:
    """As a machine that is busy does: it has room, and need not wait for half a minute."""
    rig, second, reply = filled_in_vain()
    rig.advance(1.2)
    assert len(got(second, NewFlow)) > ROUNDS
    assert states(rig)[1] is not Filling.COMPLETE
    assert not any("still lacks" in line for line in rig.cs.log)
    second.flows = [flow_state(reply)._replace(idle_ms=5000)]
    rig.advance(3)
    assert states(rig)[1] is Filling.COMPLETE


def test_a_flow_whose_dfs_is_gone_for_good_goes_to_the_other() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = first.query(rig)
    assert reply is not None
    first.disconnect(rig)
    rig.advance(400)
    assert len(got(second, Timeout)) >= 1
    second.tell(rig, delete(reply, CloseReason.REAPED, pkts_in=0, pkts_out=0, tcp_flags=0))
    rig.advance(10)
    assert len(rig.cs.table) == 0


def test_after_an_ordered_reset_nothing_lives_on_elsewhere() -> None:
    rig = team_rig()
    first, second = rig.dfss
    first.query(rig)
    rig.cs.order_reset(rig.now)
    rig.settle()
    for dfs in (first, second):
        (order,) = got(dfs, Reset)
        dfs.tell(rig, order._replace(flags=Flag.ACK))
    rig.advance(2)
    assert len(rig.cs.table) == 0


def test_a_cs_that_starts_knows_whose_flow_it_is_by_what_moved_last() -> None:
    before = team_rig()
    reply = before.dfs.query(before)
    (spare,) = got(before.dfss[1], NewFlow)
    assert reply is not None
    rig = team_rig()
    first, second = rig.dfss
    for dfs, state in (
        (second, flow_state(spare, idle_ms=60_000)),
        (first, flow_state(reply, idle_ms=10)),
    ):
        dfs.flows = [state]
    rig.cs.order_sync(rig.now)
    rig.settle()
    rig.advance(3)
    (flow,) = rig.cs.table.by_key.values()
    assert flow.peer.segment_id == first.segment_id
    assert flow.idle_s == 300
    assert sum(rig.active().values()) == 1
    assert states(rig) == [Filling.COMPLETE] * 2
    assert got(second, NewFlow) == got(first, NewFlow) == []


def test_without_a_team_nobody_is_sent_anything() -> None:
    dfss = [
        DfsDouble(number, segment_id=256 + number, address=f"10.255.0.{101 + number}")
        for number in range(2)
    ]
    rig = Rig(config(data_flow_segments=[{"address": dfs.address[0]} for dfs in dfss]), *dfss)
    rig.settle()
    assert dfss[0].query(rig) is not None
    rig.advance(1)
    assert got(dfss[1], NewFlow) == []
