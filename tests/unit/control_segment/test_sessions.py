# SPDX-License-Identifier: Apache-2.0
"""Flows come and go, sessions stay: the incarnation rules of wire protocol 6.7, and 9.8."""

from __future__ import annotations

import pytest

from control_segment.flows import ACTIVE, SESSION, Flow
from control_segment.runtime import admin
from ssmb.constants import CloseReason, ErrorCode, Flag, ResetReason
from ssmb.messages import Delete, Reset, Stats
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    SERVER,
    SYN,
    DfsDouble,
    Rig,
    changed_pool,
    changed_server,
    config,
)


def delete(serial: int, reason: CloseReason, *, port: int = 40000, **fields: int) -> Delete:
    fields = {"flags": Flag.HAS_STATS, "pkts_in": 3, "pkts_out": 3, **fields}
    return Delete(
        serial=serial,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=port,
        dst_port=80,
        protocol=6,
        detail=reason,
        **fields,
    )


def only_flow(rig: Rig) -> Flow:
    (flow,) = rig.cs.table.by_key.values()
    return flow


def test_a_repeated_query_gets_the_same_reply_and_counts_once() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    again = rig.dfs.query(rig, serial=5, flags=Flag.RETRY)
    assert again == first
    assert rig.active() == {"web1": 1, "web2": 0, "web3": 0}
    assert rig.cs.model.pools["web"].nodes["web1"].total == 1


def test_a_syn_with_another_serial_is_a_new_session() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    second = rig.dfs.query(rig, serial=6)
    assert first is not None
    assert second is not None
    assert second.node_ipaddr != first.node_ipaddr
    assert rig.active() == {"web1": 0, "web2": 1, "web3": 0}
    assert len(rig.cs.table) == 1


def test_another_serial_without_a_syn_is_the_same_session() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    second = rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    assert first is not None
    assert second == first._replace(serial=6)
    assert rig.active() == {"web1": 1, "web2": 0, "web3": 0}


def test_a_late_query_of_the_flow_before_is_stale() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.query(rig, serial=6)
    assert rig.dfs.query(rig, serial=5, flags=Flag.RETRY) is None
    assert only_flow(rig).serial == 6
    assert rig.cs.statistics.drops["stale_query"] == 1


@pytest.mark.parametrize("reason", [CloseReason.IDLE, CloseReason.OVERFLOW])
def test_a_session_whose_flow_idled_or_was_evicted_gets_its_old_node(reason: CloseReason) -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, delete(5, reason))
    assert only_flow(rig).state == SESSION
    assert rig.active()["web1"] == 0  # limits count what can send without being asked about
    rig.advance(3600)
    again = rig.dfs.query(rig, serial=9, tcp_flags=ACK)
    assert first is not None
    assert again == first._replace(serial=9)
    assert only_flow(rig).state == ACTIVE
    assert rig.active()["web1"] == 1


def silent(rig: Rig, how: str, port: int = 1) -> None:
    """A session begins, and its flow ends although the session may go on."""
    reply = rig.dfs.query(rig, serial=port, port=port)
    assert reply is not None
    assert reply.error_code == 0
    if how == "boot":
        rig.dfs.tell(rig, Reset(reset_id=port, detail=ResetReason.BOOT))
        rig.advance(1)
    else:
        rig.dfs.tell(rig, delete(port, CloseReason[how], port=port))


@pytest.mark.parametrize("how", ["IDLE", "OVERFLOW", "boot"])
def test_a_limit_counts_only_connections_that_can_still_send(how: str) -> None:
    rig = Rig(config(virtual_servers=changed_server(connection_limit=1)))
    silent(rig, how)
    other = rig.dfs.query(rig, port=2)
    assert other is not None
    assert other.error_code == 0
    third = rig.dfs.query(rig, port=3)
    assert third is not None
    assert third.error_code == ErrorCode.BUSY
    # An established connection that goes on is not refused, although it is one too many
    again = rig.dfs.query(rig, port=1, serial=50, tcp_flags=ACK)
    assert again is not None
    assert again.error_code == 0
    (server,) = [each for each in rig.cs.model.virtual_servers.values() if each.name == "www"]
    assert (server.active, server.without_flow) == (2, 0)


def test_a_nodes_limit_counts_likewise() -> None:
    pools = changed_pool(web1={"connection_limit": 1}, web2=None, web3=None)
    rig = Rig(config(pools=pools))
    silent(rig, "IDLE")
    other = rig.dfs.query(rig, port=2)
    assert other is not None
    assert other.error_code == 0
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert (node.active, node.without_flow, node.has_room) == (1, 1, False)
    rig.advance(7441)  # session_timeout_s, and nobody came back
    assert node.without_flow == 0


def test_vanished_clients_are_no_load_and_a_drained_node_shows_them_apart() -> None:
    rig = Rig(config(pools=changed_pool("least_connections", web3=None)))
    for port in range(1, 11):
        rig.advance(1)
        silent(rig, "IDLE", port)
    for port in range(11, 41):
        rig.dfs.query(rig, port=port)
    assert rig.active() == {"web1": 15, "web2": 15}
    nodes = admin.handle(rig.cs, "nodes", {}, rig.now)
    assert isinstance(nodes, list)
    assert [node.sessions_without_flow for node in nodes] == [5, 5]


def test_a_removed_node_is_kept_while_a_silent_session_may_come_back() -> None:
    rig = Rig()
    silent(rig, "IDLE")
    rig.cs.apply_config(config(pools=changed_pool(web1=None)), rig.now)
    rig.advance(10)
    (node,) = rig.cs.model.pools["web"].leaving.values()
    assert (node.name, node.without_flow) == ("web1", 1)


@pytest.mark.parametrize(
    "reason",
    [CloseReason.FIN, CloseReason.RST, CloseReason.REAPED, CloseReason.NODE_FAIL],
)
def test_a_session_that_ended_is_forgotten(reason: CloseReason) -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, delete(5, reason))
    assert len(rig.cs.table) == 0
    assert rig.active()["web1"] == 0
    assert not rig.cs.table.wheel


def test_an_idle_udp_flow_leaves_nothing() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5, dst_port=53, protocol=17)
    ended = delete(5, CloseReason.IDLE)._replace(dst_port=53, protocol=17)
    rig.dfs.tell(rig, ended)
    assert len(rig.cs.table) == 0


def test_a_syn_that_nobody_answered_leaves_no_session() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, delete(5, CloseReason.IDLE, pkts_in=1, pkts_out=0, tcp_flags=SYN))
    assert len(rig.cs.table) == 0


def test_a_later_flow_of_a_session_keeps_it_with_a_single_packet() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.tell(rig, delete(5, CloseReason.IDLE))
    rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    rig.dfs.tell(rig, delete(6, CloseReason.IDLE, pkts_in=1, pkts_out=0, tcp_flags=ACK))
    assert only_flow(rig).state == SESSION


def test_udp_flows_with_another_serial_stay_at_their_node() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5, dst_port=53, protocol=17)
    second = rig.dfs.query(rig, serial=6, dst_port=53, protocol=17)
    assert first is not None
    assert second == first._replace(serial=6)


def test_a_delete_of_an_earlier_serial_is_discarded() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    rig.dfs.query(rig, serial=6)
    rig.dfs.tell(rig, delete(5, CloseReason.RST))
    assert only_flow(rig).serial == 6
    assert rig.cs.statistics.drops["stale_serial"] == 1


def test_a_spliced_sessions_offsets_come_back() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    ended = delete(
        5,
        CloseReason.IDLE,
        flags=Flag.ADD_TCP_OFFSETS,
        seq_offset=7,
        ack_offset=0xFFB3B50D,
        ts_offset=3,
        wscale_shift=-2,
    )
    rig.dfs.tell(rig, ended)
    again = rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    assert again is not None
    assert again.flags & Flag.ADD_TCP_OFFSETS
    assert (again.seq_offset, again.ack_offset) == (7, 0xFFB3B50D)
    assert (again.ts_offset, again.wscale_shift) == (3, -2)
    assert again.node_port == 8080


def test_a_session_under_way_that_nobody_knows_is_not_guessed_at() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig, tcp_flags=ACK)
    assert reply is not None
    assert reply.error_code == ErrorCode.UNKNOWN


@pytest.mark.parametrize("method", ["maglev", "source_hash"])
def test_a_consistent_method_finds_the_node_of_an_unknown_session(method: str) -> None:
    before, after = (Rig(config(pools=changed_pool(method))) for _ in range(2))
    first = before.dfs.query(before, serial=5)
    again = after.dfs.query(after, serial=5, tcp_flags=ACK)
    assert again == first


def test_the_session_of_a_node_that_is_down_is_not_continued() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    admin.handle(rig.cs, "set_node", {"pool": "web", "node": "web1", "state": "down"}, rig.now)
    reply = rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    assert reply is not None
    assert reply.error_code == ErrorCode.NOTAVAIL
    assert len(rig.cs.table) == 0


def test_another_dfs_gets_the_same_node_for_the_same_session() -> None:
    second = DfsDouble(1, segment_id=257, address="10.255.0.9")
    dfss = [{"address": "10.255.0.1"}, {"address": "10.255.0.9"}]
    rig = Rig(config(data_flow_segments=dfss), DfsDouble(), second)
    here = rig.dfs.query(rig, serial=5)
    there = second.query(rig, serial=5, tcp_flags=ACK)
    assert here is not None
    assert there == here
    assert only_flow(rig).peer.segment_id == 257
    # what the first one says of it now is about a flow that is no longer ours
    rig.dfs.tell(rig, delete(5, CloseReason.IDLE))
    assert only_flow(rig).state == ACTIVE


def test_after_a_dfs_boot_sessions_get_their_nodes_again_and_udp_is_forgotten() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    rig.dfs.query(rig, serial=6, dst_port=53, protocol=17)
    answers = rig.dfs.tell(rig, Reset(reset_id=1, detail=ResetReason.BOOT))
    assert answers == [Reset(reset_id=1, detail=ResetReason.BOOT, flags=Flag.ACK)]
    rig.advance(0.1)
    assert only_flow(rig).state == SESSION
    again = rig.dfs.query(rig, serial=7, tcp_flags=ACK)
    assert first is not None
    assert again == first._replace(serial=7)


def test_a_reset_is_acknowledged_each_time_and_executed_once() -> None:
    rig = Rig()
    rig.dfs.tell(rig, Reset(reset_id=1))
    rig.dfs.query(rig, serial=5)
    assert rig.dfs.tell(rig, Reset(reset_id=1, flags=Flag.RETRY))
    rig.advance(0.1)
    assert len(rig.cs.table) == 1
    rig.dfs.tell(rig, Reset(reset_id=2))
    reply = rig.dfs.query(rig, serial=6, tcp_flags=ACK)  # before anybody looked at the record
    assert reply is not None
    assert reply.error_code == ErrorCode.UNKNOWN
    assert rig.active() == {"web1": 0, "web2": 0, "web3": 0}


def test_a_replica_of_a_reset_is_not_acknowledged() -> None:
    rig = Rig()
    assert rig.dfs.tell(rig, Reset(reset_id=1, flags=Flag.REPLICA)) == []


def test_counters_are_cumulative_and_old_ones_change_nothing() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    signature = delete(5, CloseReason.FIN)[3:9]
    new, old = (
        Stats(0, Flag.HAS_STATS, 5, *signature, pkts_in=n, bytes_in=n * 100, pkts_out=n)
        for n in (10, 4)
    )
    for message in (old, new, old):
        rig.dfs.tell(rig, message)
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert (node.pkts_in, node.bytes_in, node.pkts_out) == (10, 1000, 10)
    rig.dfs.tell(rig, delete(5, CloseReason.FIN, pkts_in=12, bytes_in=1300, pkts_out=11))
    assert (node.pkts_in, node.bytes_in, node.pkts_out) == (12, 1300, 11)


def test_queries_with_the_flags_of_a_syn_are_told_from_others() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5, tcp_flags=SYN)
    rig.dfs.query(rig, serial=6, tcp_flags=SYN | ACK)
    assert rig.cs.model.pools["web"].nodes["web1"].total == 1
