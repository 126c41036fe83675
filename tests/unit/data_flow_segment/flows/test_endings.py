# SPDX-License-Identifier: Apache-2.0
"""The table of 9.8: every way in which a flow ends, and what the CS hears."""

from collections.abc import Callable

import pytest

from csmb.messages import Config
from packets.parse import Packet, parse
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, ErrorCode, Flag, ForwardMode, ResetScope
from ssmb.messages import Delete, FlowSignature, FlowState, Query, Reap, Reset, Stats, Sync, Timeout
from support.octets.frames import ACK, FIN, RST, SYN, ends_of
from support.segments.agent_rig import (
    CLIENT,
    NODE,
    TRANSLATE,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    ready_rig,
    vs_list,
    web_server,
)

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)


def established(**fields: int) -> tuple[AgentRig, FakeCs, Query]:
    """A flow whose handshake is done."""
    rig, cs = ready_rig(**fields)
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    cs.answer(query)
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)
    return rig, cs, query


def close(rig: AgentRig) -> None:
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.node_sends(FIN | ACK, seq=10, ack=3)
    rig.client_sends(ACK, seq=3, ack=11)


def only_delete(rig: AgentRig, cs: FakeCs) -> Delete:
    rig.advance(0.02)
    return cs.one(Delete)


def test_four_steps_send_delete_fin_with_the_counters() -> None:
    rig, cs, query = established()
    close(rig)
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.error_code, delete.serial) == (
        CloseReason.FIN,
        0,
        query.serial,
    )
    assert delete.signature == SIGNATURE
    assert delete.flags & Flag.HAS_STATS
    assert (delete.pkts_in, delete.pkts_out) == (4, 2)
    assert (delete.bytes_in, delete.bytes_out) == (160, 80)
    assert delete.tcp_flags == SYN | ACK | FIN


def test_a_closed_flow_lingers_for_two_seconds_and_late_packets_are_translated() -> None:
    rig, cs, _ = established()
    close(rig)
    rig.advance(1.9)
    ((_, frame),) = rig.node_sends(FIN | ACK, seq=10, ack=3)
    assert ends_of(frame) == (VIP, CLIENT, 6)
    rig.advance(0.2)
    assert rig.target.flow_count() == 1  # only silence ends it
    rig.advance(2)
    assert rig.target.flow_count() == 0
    assert len(cs.take(Delete)) == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_flow_that_goes_on_after_its_reset_is_given_back_to_the_cs(told: bool) -> None:
    """It was not its client's own; the CS has forgotten the session."""
    rig, cs, query = established()
    rig.client_sends(RST, seq=2)
    assert only_delete(rig, cs).detail == CloseReason.RST
    rig.client_sends(ACK, seq=2, ack=10, payload=b"on")
    if not told:  # the event was lost; the entry is to be taken out
        rig.agent.outbox.take_commands()
        rig.target.events()
    rig.advance(2.1)
    rig.advance(0.02)
    (state,) = cs.take(FlowState)
    assert (state.serial, state.node_ipaddr) == (query.serial, NODE[0])
    assert rig.agent.counters()["flows_reopened"].value == 1
    rig.client_sends(RST, seq=4)
    assert only_delete(rig, cs).detail == CloseReason.RST
    rig.advance(2.1)
    assert rig.target.flow_count() == 0


@pytest.mark.parametrize("answered", [False, True])
def test_a_half_open_flow_ends_early_and_says_that_it_was_never_established(
    answered: bool,
) -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    cs.answer(query)
    if answered:
        rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.advance(4, sweep=True)
    assert rig.target.flow_count() == 1
    rig.advance(2, sweep=True)
    delete = only_delete(rig, cs)
    flags = SYN | ACK if answered else SYN
    assert (delete.detail, delete.tcp_flags) == (CloseReason.IDLE, flags)
    assert delete.idle_ms < 60_000  # earlier than its idle timeout
    assert rig.agent.counters()["flows_half_open"].value == 1
    assert rig.agent.counters()["flows_idle"].value == 0
    rig.advance(2)
    assert cs.take(Delete) == []  # no session is kept, so it is not said again
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict()))
    assert only_delete(rig, cs).detail == CloseReason.UNSPECIFIED


def test_a_valid_reset_sends_delete_rst() -> None:
    rig, cs, _ = established()
    rig.node_sends(RST, seq=10)
    assert only_delete(rig, cs).detail == CloseReason.RST


def test_idle_flows_send_delete_idle() -> None:
    rig, cs, query = established()
    rig.advance(299, sweep=True)
    assert rig.target.flow_count() == 1
    rig.advance(2, sweep=True)
    assert rig.target.flow_count() == 0
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.serial) == (CloseReason.IDLE, query.serial)
    assert delete.idle_ms >= 300_000


def test_a_flow_whose_node_becomes_a_virtual_address_is_ended() -> None:
    """Its packets would come back to this DFS until their time to live ends."""
    rig, cs, query = established()
    rig.sweep()
    cs.tell(vs_list(web_server(), web_server(virt_ipaddr=NODE[0])))
    assert rig.target.flow_count() == 1
    rig.sweep()
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.serial) == (CloseReason.UNSPECIFIED, query.serial)
    assert rig.target.flow_count() == 0
    assert rig.agent.counters()["flows_looping"].value == 1
    rig.sweep()
    assert cs.take(Delete) == []


def test_a_half_closed_flow_is_deleted_after_close_timeout_and_may_come_back() -> None:
    rig, cs, _ = established()
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.node_sends(ACK, seq=10, ack=3)
    rig.advance(239, sweep=True)
    assert rig.target.flow_count() == 1
    rig.advance(2, sweep=True)
    assert only_delete(rig, cs).detail == CloseReason.IDLE  # the CS keeps a session record


def test_a_session_that_was_idle_asks_again_in_the_middle() -> None:
    rig, cs, first = established()
    rig.advance(301, sweep=True)
    rig.client_sends(ACK, seq=2, ack=10, payload=b"again")
    query = cs.one(Query)
    assert query.tcp_flags == ACK
    assert query.serial != first.serial
    cs.answer(query)
    assert rig.sent[-1][1].endswith(b"again")


@pytest.mark.parametrize("kind", [Reap, Timeout])
def test_an_inactive_flow_is_deleted_when_the_cs_asks(kind: type[Reap] | type[Timeout]) -> None:
    rig, cs, query = established()
    rig.advance(10)
    cs.send(kind(serial=query.serial, **SIGNATURE._asdict(), idle_limit=9000))
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.error_code) == (CloseReason.REAPED, 0)
    assert rig.target.flow_count() == 0


@pytest.mark.parametrize("kind", [Reap, Timeout])
def test_an_active_flow_is_kept_and_the_cs_hears_connalive(
    kind: type[Reap] | type[Timeout],
) -> None:
    rig, cs, query = established()
    rig.advance(10)
    cs.send(kind(serial=query.serial, **SIGNATURE._asdict(), idle_limit=11000))
    rig.advance(0.02)
    stats = cs.one(Stats)
    assert (stats.error_code, stats.pkts_in, stats.idle_ms) == (ErrorCode.CONNALIVE, 2, 10_000)
    assert rig.target.flow_count() == 1


def test_an_idle_limit_of_zero_is_the_flows_own_timeout() -> None:
    rig, cs, query = established()
    rig.advance(200)
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict()))
    rig.advance(0.02)
    assert cs.one(Stats).error_code == ErrorCode.CONNALIVE
    rig.advance(100)
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict()))
    assert only_delete(rig, cs).detail == CloseReason.REAPED


def test_a_flow_in_the_middle_of_its_close_is_active() -> None:
    rig, cs, query = established()
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.advance(30)
    cs.send(Reap(serial=query.serial, **SIGNATURE._asdict(), idle_limit=1))
    rig.advance(0.02)
    assert cs.one(Stats).error_code == ErrorCode.CONNALIVE


def test_a_pending_flow_is_active() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict(), idle_limit=1))
    rig.advance(0.02)
    stats = cs.one(Stats)
    assert stats.error_code == ErrorCode.CONNALIVE
    assert not stats.flags & Flag.HAS_STATS


def test_a_flow_that_was_installed_in_the_same_wake_up_is_seen() -> None:
    """The command waits yet; the look-up must not miss it."""
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    reply = cs.seal(_encoded(cs, query))
    rig.agent.receive_datagram(reply, cs.endpoint, rig.now)
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict()))
    rig.advance(0.02)
    assert cs.one(Stats).error_code == ErrorCode.CONNALIVE


def _encoded(cs: FakeCs, query: Query) -> bytes:
    from ssmb.codec import encode
    from support.segments.agent_rig import reply_to

    return encode(reply_to(query), cs.version)


@pytest.mark.parametrize("kind", [Reap, Timeout])
def test_an_unknown_flow_or_an_old_serial_is_answered_noflow(
    kind: type[Reap] | type[Timeout],
) -> None:
    rig, cs, query = established()
    cs.send(kind(serial=query.serial + 1, **SIGNATURE._asdict()))
    cs.send(kind(serial=5, **SIGNATURE._replace(src_port=1)._asdict()))
    rig.advance(0.02)
    deletes = cs.take(Delete)
    assert [each.error_code for each in deletes] == [ErrorCode.NOFLOW] * 2
    assert [each.serial for each in deletes] == [query.serial + 1, 5]
    assert rig.target.flow_count() == 1


def test_a_lost_delete_is_repeated_with_its_reason_when_the_cs_asks() -> None:
    """With NOFLOW alone the CS would forget a session that only was idle here."""
    rig, cs, query = established()
    rig.deliver_to = lambda endpoint, octets: False
    rig.advance(301, sweep=True)
    rig.advance(2)
    rig.deliver_to = lambda endpoint, octets: True
    cs.send(Timeout(serial=query.serial, **SIGNATURE._asdict()))
    delete = only_delete(rig, cs)
    assert (delete.error_code, delete.detail) == (ErrorCode.NOFLOW, CloseReason.IDLE)


def test_the_delete_of_a_session_that_may_go_on_is_said_twice() -> None:
    rig, cs, _ = established()
    rig.advance(301, sweep=True)
    first = only_delete(rig, cs)
    rig.advance(1)
    again = only_delete(rig, cs)
    assert again.flags & Flag.RETRY
    assert again._replace(flags=first.flags) == first
    rig.advance(5)
    assert cs.take(Delete) == []


def test_another_group_cannot_reap() -> None:
    rig, _, query = established()
    other = rig.cs(2, group_id=2)
    other.send(Reap(serial=query.serial, **SIGNATURE._asdict(), idle_limit=1))
    rig.advance(1)
    assert rig.target.flow_count() == 1
    assert rig.count("drop_other_group") == 1


def test_deletes_wait_for_companions_up_to_ten_milliseconds() -> None:
    rig, cs = ready_rig()
    for number in range(20):
        cs.send(newflow_for(0x81000001 + number, src_port=1000 + number))
    rig.advance(301)
    before = rig.count("datagrams_sent")
    rig.sweep()
    assert rig.count("datagrams_sent") == before + 1  # 13 fill a datagram of version 2
    rig.advance(0.011)
    assert rig.count("datagrams_sent") == before + 2
    assert len(cs.take(Delete)) == 20


def test_an_urgent_message_takes_the_waiting_ones_along_behind_it() -> None:
    rig, cs, _ = established()
    close(rig)
    assert cs.take(Delete) == []
    rig.client_sends(SYN, client=(CLIENT[0], 40001))
    assert [type(message).__name__ for message in cs.inbox] == ["Query", "Delete"]


def test_a_full_table_evicts_the_flow_that_was_idle_longest() -> None:
    rig, cs = ready_rig(flow_capacity=3)
    for number in range(3):
        cs.send(newflow_for(0x81000001 + number, src_port=1000 + number))
        rig.advance(1)
    rig.client_sends(ACK, client=(CLIENT[0], 1000))  # the oldest one moves
    cs.send(newflow_for(0x81000009, src_port=2000))
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.serial) == (CloseReason.OVERFLOW, 0x81000002)
    assert rig.target.flow_count() == 3
    assert rig.count("evictions") == 1


def test_closed_flows_are_evicted_first_and_in_silence() -> None:
    rig, cs, _ = established(flow_capacity=2)
    cs.send(newflow_for(0x81000001, src_port=1000))
    rig.advance(5)
    close(rig)
    rig.advance(0.02)
    cs.take(Delete)
    cs.send(newflow_for(0x81000002, src_port=1001))
    rig.advance(0.02)
    assert cs.take(Delete) == []
    assert rig.count("evictions") == 0
    assert rig.target.flow_count() == 2


def test_a_flood_beyond_the_table_evicts_one_for_each() -> None:
    rig, cs = ready_rig(flow_capacity=50)
    for number in range(200):
        rig.client_sends(SYN, client=(CLIENT[0], 1000 + number))
        cs.answer(cs.one(Query))
    rig.advance(0.02)
    assert rig.target.flow_count() == 50
    assert len(cs.take(Delete)) == 150
    assert rig.count("install_failures") == 0


def test_reset_deletes_every_flow_is_acknowledged_and_tells_nobody() -> None:
    rig, cs, _ = established()
    cs.send(newflow_for(0x81000001, src_port=1000))
    cs.send(Reset(reset_id=7, reset_scope=ResetScope.ALL))
    answer = cs.one(Reset)
    assert (answer.reset_id, answer.flags & Flag.ACK) == (7, Flag.ACK)
    assert rig.target.flow_count() == 0
    rig.advance(5)
    assert cs.take(Delete) == []
    assert rig.count("flows_reset") == 2


def test_a_repeated_reset_is_acknowledged_and_not_carried_out_again() -> None:
    rig, cs, _ = established()
    cs.send(Reset(reset_id=7))
    cs.send(newflow_for(0x81000001, src_port=1000))
    cs.send(Reset(reset_id=7, flags=int(Flag.RETRY)))
    assert len(cs.take(Reset)) == 2
    assert rig.target.flow_count() == 1


def test_a_reset_of_one_group_leaves_the_others() -> None:
    rig, _, _ = established()
    other = rig.cs(2, group_id=2)
    other.send(newflow_for(0x82000001, src_port=1000))
    other.send(Reset(reset_id=1, reset_scope=ResetScope.GROUP))
    assert rig.target.lookup(SIGNATURE) is not None
    assert rig.target.flow_count() == 1


def test_virtual_servers_survive_a_reset() -> None:
    rig, cs, _ = established()
    cs.send(Reset(reset_id=7))
    rig.client_sends(SYN, client=(CLIENT[0], 40002))
    assert len(cs.take(Query)) == 1


def test_stats_of_flows_that_moved_and_only_of_those() -> None:
    rig, cs, query = established()
    cs.send(newflow_for(0x81000001, src_port=1000))
    rig.sweep(stats=True)
    rig.advance(0.02)
    stats = cs.one(Stats)
    assert (stats.serial, stats.error_code, stats.pkts_in) == (query.serial, 0, 2)
    rig.sweep(stats=True)
    rig.advance(0.02)
    assert cs.take(Stats) == []


def test_a_cs_that_wants_no_stats_gets_none() -> None:
    rig, cs, _ = established()
    cs.tell(Config(stats_interval=0))
    rig.sweep(stats=True)
    rig.advance(0.02)
    assert cs.take(Stats) == []


def test_without_a_cs_ends_are_counted_and_the_flow_is_gone_all_the_same() -> None:
    rig, cs, _ = established()
    cs.leave()
    close(rig)
    rig.advance(3)
    assert rig.count("deletes_unsent") == 1
    assert rig.target.flow_count() == 0


def test_the_source_port_of_a_node_that_two_flows_would_share_is_refused() -> None:
    """Both would have the same return key; the second is told to the CS, the first lives."""
    rig, cs, _ = established()
    cs.send(
        newflow_for(
            0x81000001, dst_port=81, node_ipaddr=NODE[0], src_ipaddr=from_text("198.51.100.7")
        )
    )
    delete = only_delete(rig, cs)
    assert delete.error_code == ErrorCode.NORESOURCE
    assert rig.target.flow_count() == 1


# --- REAP with a reason: what the flow goes to is down or gone ----------------------------------


def test_a_flow_whose_node_is_gone_ends_although_its_sender_goes_on() -> None:
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(protocol=17)))
    rig.client_sends_udp()
    query = cs.one(Query)
    cs.answer(query)
    rig.client_sends_udp()  # this very moment
    reap = Reap(serial=query.serial, **query.signature._asdict(), idle_limit=1)
    cs.send(reap)  # a CS that only supposes so
    rig.advance(0.02)
    assert cs.one(Stats).error_code == ErrorCode.CONNALIVE
    rig.client_sends_udp()
    cs.send(reap._replace(detail=CloseReason.NODE_FAIL))
    delete = only_delete(rig, cs)
    assert (delete.detail, delete.serial, delete.pkts_in) == (
        CloseReason.NODE_FAIL,
        query.serial,
        3,
    )
    assert rig.target.flow_count() == 0
    rig.client_sends_udp()
    again = cs.one(Query)
    assert again.serial != query.serial
    other = from_text("10.1.1.3"), NODE[1]
    ((_, frame),) = rig_sent(rig, lambda: cs.answer(again, node_ipaddr=other[0]))
    assert ends_of(frame) == (CLIENT, other, 17)


def rig_sent(rig: AgentRig, act: Callable[[], object]) -> list[tuple[int, bytes]]:
    before = len(rig.sent)
    act()
    return rig.sent[before:]


@pytest.mark.parametrize("mode", [ForwardMode.NAT, ForwardMode.L2])
def test_both_ends_of_a_connection_that_the_cs_ends_are_reset(mode: ForwardMode) -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    flags = int(Flag.ROUTE_BY_DST_IP) if mode else TRANSLATE
    cs.answer(query, forward_mode=mode, flags=flags)
    if mode == ForwardMode.NAT:
        rig.node_sends(SYN | ACK, seq=900, ack=2)
    rig.client_sends(ACK, seq=2, ack=901)
    reap = Reap(serial=query.serial, **query.signature._asdict(), detail=CloseReason.NODE_FAIL)
    sent = [parse(frame) for _, frame in rig_sent(rig, lambda: cs.send(reap))]
    assert all(packet.tcp_flags == RST and packet.checksums_are_right() for packet in sent)
    seen = {(packet.dst, packet.ports, sequence_of(packet)) for packet in sent}
    expected = {(CLIENT[0], (VIP[1], CLIENT[1]), 901)}
    if mode == ForwardMode.NAT:
        expected.add((NODE[0], (CLIENT[1], NODE[1]), 2))
    assert seen == expected
    assert rig.count("reset_sent") == len(expected)


def sequence_of(packet: Packet) -> int:
    return int.from_bytes(packet.data[packet.l4 + 4 : packet.l4 + 8], "big")


def test_a_connection_that_no_cs_knows_any_more_is_reset_and_not_left_hanging() -> None:
    rig, cs = ready_rig()
    cs.send(Sync(sync_id=9))
    rig.advance(0.1)
    rig.client_sends(ACK, seq=700, ack=9000)
    ((_, frame),) = rig_sent(
        rig, lambda: cs.answer(cs.one(Query), error_code=ErrorCode.UNKNOWN, flags=0)
    )
    packet = parse(frame)
    assert (packet.tcp_flags, sequence_of(packet)) == (RST, 9000)
    ((_, frame),) = rig.client_sends(ACK, seq=700, ack=9000)  # within NEG_HOLD
    assert parse(frame).tcp_flags == RST
