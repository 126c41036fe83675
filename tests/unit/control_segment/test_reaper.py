# SPDX-License-Identifier: Apache-2.0
"""REAP, TIMEOUT and forgetting (wire protocol 10.2; checklist N10 to N17)."""

from __future__ import annotations

from control_segment.flows import ACTIVE, ASKED, REAPED
from control_segment.reaper import AWAY_S, HOLD_S, RECORDS_AT_ONCE
from control_segment.wire import signature_of
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, ErrorCode
from ssmb.messages import Delete, FlowState, Message, Query, Reap, Stats, Timeout
from support.segments.dfs_double import ACK, CLIENT, SERVER, DfsDouble, Rig, config

INACTIVITY_S = 300 + 60 + 5  # idle, statistics, grace


def timeouts(rig: Rig) -> list[Message]:
    return [message for message in rig.dfs.ssmb if isinstance(message, Timeout)]


def one_flow() -> Rig:
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    return rig


def answer(kind: type[Delete] | type[Stats], **fields: int) -> Message:
    return kind(
        serial=5,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=40000,
        dst_port=80,
        protocol=6,
        **fields,
    )


def test_a_quiet_flow_is_asked_about_and_stays_active_meanwhile() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S - 1)
    assert timeouts(rig) == []
    rig.advance(2.5)
    (message,) = timeouts(rig)
    assert isinstance(message, Timeout)
    assert (message.serial, message.src_port, message.idle_limit) == (5, 40000, 300_000)
    assert rig.active()["web1"] == 1


def test_a_flow_that_the_dfs_calls_alive_is_asked_again_only_after_the_whole_time() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 1.5)
    rig.dfs.tell(rig, answer(Stats, error_code=ErrorCode.CONNALIVE))
    (flow,) = rig.cs.table.by_key.values()
    assert flow.state == ACTIVE
    rig.advance(INACTIVITY_S - 1)
    assert len(timeouts(rig)) == 1
    rig.advance(1.6)
    assert len(timeouts(rig)) == 2


def test_a_flow_that_the_dfs_does_not_have_is_forgotten() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 1.5)
    rig.dfs.tell(rig, answer(Delete, error_code=ErrorCode.NOFLOW))
    assert len(rig.cs.table) == 0


def test_without_an_answer_a_flow_is_asked_about_three_times_and_forgotten() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 20)
    assert len(timeouts(rig)) == 3
    assert len(rig.cs.table) == 0
    assert rig.active()["web1"] == 0


def test_statistics_restart_the_timer() -> None:
    rig = one_flow()
    for _ in range(10):
        rig.advance(60)
        rig.dfs.tell(rig, answer(Stats))
    assert timeouts(rig) == []


def test_a_query_repeated_while_asked_makes_the_flow_active_again() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 1.5)
    (flow,) = rig.cs.table.by_key.values()
    assert flow.state == ASKED
    rig.dfs.query(rig, serial=5)
    assert flow.state == ACTIVE


def test_a_session_without_a_flow_is_forgotten_in_silence() -> None:
    rig = one_flow()
    rig.dfs.tell(rig, answer(Delete, detail=CloseReason.IDLE))
    rig.advance(7439)
    assert len(rig.cs.table) == 1
    rig.advance(3)
    assert len(rig.cs.table) == 0
    assert timeouts(rig) == []


def test_asking_about_many_is_batched_and_done_in_pieces() -> None:
    rig = Rig()
    count = RECORDS_AT_ONCE * 3
    for port in range(1, count + 1):
        rig.dfs.query(rig, port=port)
    rig.advance(INACTIVITY_S - 0.5)
    rig.now += 1
    rig.cs.handle_timer(rig.now)
    asked = [flow for flow in rig.cs.table.by_key.values() if flow.state == ASKED]
    assert len(asked) == RECORDS_AT_ONCE
    assert rig.cs.get_timer() <= rig.now + 0.01
    rig.advance(0.9)
    assert len(timeouts(rig)) == count


def test_under_pressure_quiet_flows_are_asked_to_go_early() -> None:
    rig = Rig(config(settings={"flow_capacity": 20}))
    for port in range(1, 20):
        rig.dfs.query(rig, port=port)
    rig.advance(30)
    reaps = [message for message in rig.dfs.ssmb if isinstance(message, Reap)]
    assert reaps
    assert all(message.idle_limit == 10_000 for message in reaps)


def test_a_reap_that_is_not_answered_is_repeated_as_a_reap() -> None:
    rig = Rig(config(settings={"flow_capacity": 20}))
    for port in range(1, 20):
        rig.dfs.query(rig, port=port)
    rig.advance(30)
    asked: dict[int, list[type]] = {}
    for message in rig.dfs.ssmb:
        if isinstance(message, Reap | Timeout):
            asked.setdefault(message.src_port, []).append(type(message))
    assert len(asked) > 1
    assert set(map(tuple, asked.values())) == {(Reap, Reap, Reap)}


def test_a_reap_is_answered_like_a_timeout() -> None:
    rig = Rig(config(settings={"flow_capacity": 20}))
    for port in range(1, 20):
        rig.dfs.query(rig, port=port)
    rig.advance(1.5)
    flow = next(flow for flow in rig.cs.table.by_key.values() if flow.state == REAPED)
    signature = signature_of(flow.key)
    rig.dfs.tell(rig, Stats(ErrorCode.CONNALIVE, 0, flow.serial, *signature))
    assert flow.state == ACTIVE


def test_under_pressure_sessions_without_a_flow_go_first() -> None:
    rig = Rig(config(settings={"flow_capacity": 20}))
    for port in range(1, 20):
        rig.dfs.query(rig, port=port)
    first = next(iter(rig.cs.table.by_key.values()))
    rig.cs.table.detach(first, rig.now)
    rig.cs.handle_timer(rig.now + 1)
    assert first.key not in rig.cs.table.by_key
    assert not any(isinstance(message, Reap) for message in rig.dfs.ssmb)


def test_a_reset_of_many_flows_never_looks_at_all_of_them_at_once() -> None:
    rig = Rig()
    for port in range(1, RECORDS_AT_ONCE * 4):
        rig.dfs.query(rig, port=port)
    rig.cs.peers[256].lost_its_flows(keeps_sessions=False)
    rig.cs.reaper.check_all(rig.now)
    before = len(rig.cs.table)
    rig.cs.handle_timer(rig.now)
    assert 0 < before - len(rig.cs.table) <= RECORDS_AT_ONCE + 100
    rig.advance(1)
    assert len(rig.cs.table) == 0
    assert rig.active() == {"web1": 0, "web2": 0, "web3": 0}


def test_a_query_is_no_reason_to_file_a_record_anew_but_its_time_counts() -> None:
    rig = one_flow()
    rig.advance(200)
    rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    rig.advance(INACTIVITY_S - 1)
    assert not [message for message in timeouts(rig) if not isinstance(message, Query)]


# --- a DFS that is away ----------------------------------------------------------------------


def told_flow() -> FlowState:
    return FlowState(
        serial=5,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=40000,
        dst_port=80,
        protocol=6,
        node_ipaddr=from_text("10.1.1.2"),
        node_port=8080,
    )


def test_no_try_is_spent_on_a_dfs_that_is_away() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S - 1)
    rig.dfs.disconnect(rig)
    rig.advance(60)
    assert timeouts(rig) == []
    assert rig.active()["web1"] == 1


def test_tries_that_a_dfs_did_not_hear_before_it_went_do_not_count() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 3.5)
    assert len(timeouts(rig)) == 2
    rig.dfs.disconnect(rig)
    rig.advance(1)
    rig.dfs.connect(rig)  # whose SYNC does not tell the flow
    rig.advance(5)
    assert len(timeouts(rig)) == 2 + 3
    assert len(rig.cs.table) == 1
    rig.advance(2)
    assert len(rig.cs.table) == 0


def test_a_flow_that_sync_tells_after_the_dfs_came_back_goes_on() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S + 3.5)
    rig.dfs.disconnect(rig)
    rig.advance(HOLD_S * 2)
    rig.dfs.flows = [told_flow()]
    (flow,) = rig.cs.table.by_key.values()
    rig.dfs.connect(rig)
    rig.advance(HOLD_S + 10)
    assert list(rig.cs.table.by_key.values()) == [flow]
    assert len(timeouts(rig)) == 2  # it was told to be moving, and is not asked about at once


def test_a_dfs_that_has_not_proved_itself_on_ssmb_is_away() -> None:
    rig = one_flow()
    rig.advance(INACTIVITY_S - 1)
    rig.dfs.disconnect(rig)
    rig.dfs.answers_challenges = False
    rig.dfs.connect(rig)
    rig.advance(60)
    assert timeouts(rig) == []
    assert len(rig.cs.table) == 1


def test_losing_one_of_two_connections_to_a_dfs_is_no_event() -> None:
    rig = Rig(
        config(data_flow_segments=[{"address": "10.255.0.1"}, {"address": "10.255.1.1"}]),
        DfsDouble(),
        DfsDouble(1, address="10.255.1.1"),
    )
    peer = rig.cs.peers[256]
    rig.dfss[0].disconnect(rig)
    assert peer.is_connected
    rig.dfss[1].disconnect(rig)
    assert not peer.is_connected


def test_a_dfs_that_never_comes_back_is_given_up() -> None:
    rig = one_flow()
    rig.dfs.disconnect(rig)
    rig.advance(INACTIVITY_S + AWAY_S - 10)
    assert len(rig.cs.table) == 1
    rig.advance(HOLD_S + 20)
    assert len(rig.cs.table) == 0
    assert rig.active()["web1"] == 0


def test_under_pressure_overdue_flows_of_a_dfs_that_is_away_are_given_up() -> None:
    rig = Rig(config(settings={"flow_capacity": 20}))
    for port in range(1, 20):
        rig.dfs.query(rig, port=port)
    rig.dfs.disconnect(rig)
    rig.advance(INACTIVITY_S - 5)
    assert len(rig.cs.table) == 19
    rig.advance(60)
    assert len(rig.cs.table) < 19
    assert not any(isinstance(message, Reap) for message in rig.dfs.ssmb)
