# SPDX-License-Identifier: Apache-2.0
"""SYNC after a restart of either side, and the challenge before it (wire protocol 11.4, 12)."""

from __future__ import annotations

import pytest

from control_segment.flows import ACTIVE
from control_segment.runtime import admin
from control_segment.sync import AGAIN_PER_S, ANSWER_WAIT_S
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import (
    AuthChallenge,
    AuthResponse,
    Delete,
    FlowState,
    Message,
    Query,
    Sync,
    SyncDone,
    Timeout,
)
from support.segments.dfs_double import ACK, CLIENT, SERVER, DfsDouble, Rig, changed_pool, config
from support.work import lines_run


def state(port: int, *, node: str = "10.1.1.3", serial: int | None = None) -> FlowState:
    return FlowState(
        flags=Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP,
        serial=serial or 1000 + port,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=port,
        dst_port=80,
        protocol=6,
        node_ipaddr=from_text(node),
        node_port=8080,
        idle_ms=2000,
    )


def count(rig: Rig, kind: type[Message]) -> int:
    return sum(isinstance(message, kind) for message in rig.dfs.ssmb)


def is_running(rig: Rig) -> bool:
    return rig.cs.peers[256].sync.is_running


def dfs_with(*flows: FlowState) -> DfsDouble:
    dfs = DfsDouble()
    dfs.flows = list(flows)
    return dfs


def test_a_started_cs_learns_the_flows_of_the_dfs() -> None:
    rig = Rig(None, dfs_with(state(1), state(2), state(3, node="10.1.1.4")))
    assert rig.active() == {"web1": 0, "web2": 2, "web3": 1}
    assert not is_running(rig)
    reply = rig.dfs.query(rig, port=1, serial=9, tcp_flags=ACK)
    assert reply is not None
    assert reply.node_ipaddr == from_text("10.1.1.3")
    assert reply.node_port == 8080


def test_the_reply_of_a_flow_told_by_sync_is_the_one_it_had() -> None:
    before = Rig()
    first = before.dfs.query(before, serial=5)
    assert first is not None
    told = FlowState(*first[:22])  # REPLY's fields, in the same order
    after = Rig(None, dfs_with(told))
    assert after.dfs.query(after, serial=5) == first
    (flow,) = after.cs.table.by_key.values()
    assert flow.tail is flow.virtual_server.answer(flow.node)[1]  # one copy for all


def test_a_flow_of_a_node_that_is_not_configured_any_more_goes_on() -> None:
    rig = Rig(None, dfs_with(state(1, node="10.9.9.9")))
    reply = rig.dfs.query(rig, port=1, serial=9, tcp_flags=ACK)
    assert reply is not None
    assert reply.node_ipaddr == from_text("10.9.9.9")
    nodes = admin.handle(rig.cs, "nodes", {}, rig.now)
    assert isinstance(nodes, list)
    assert [node.state for node in nodes].count("removed") == 1
    rig.cs.table.end(next(iter(rig.cs.table.by_key.values())))
    rig.advance(2)
    assert len(rig.cs.model.every_node()) == 3


def test_a_flow_of_a_virtual_server_that_is_not_configured_any_more_goes_on() -> None:
    rig = Rig(None, dfs_with(state(1)._replace(dst_port=8888)))
    reply = rig.dfs.query(rig, port=1, dst_port=8888, serial=9, tcp_flags=ACK)
    assert reply is not None
    assert reply.error_code == 0
    assert reply.node_ipaddr == from_text("10.1.1.3")
    (flow,) = rig.cs.table.by_key.values()
    assert flow.virtual_server.name == "(not configured)"


def test_lost_flow_states_are_asked_for_again_and_the_told_ones_count() -> None:
    lost = {3, 7, 11, 12}
    dfs = dfs_with(*(state(port) for port in range(1, 21)))

    def loses(message: Message) -> bool:
        assert isinstance(message, FlowState)
        if message.src_port in lost:
            lost.discard(message.src_port)
            return True
        return False

    dfs.loses = loses
    rig = Rig(None, dfs)
    assert len(rig.cs.table) == 16
    assert is_running(rig)
    rig.advance(0.2)
    assert len(rig.cs.table) == 20
    assert not is_running(rig)
    assert count(rig, Sync) == 2


def begun(*told: FlowState) -> tuple[Rig, DfsDouble, int]:
    """Return a CS in the middle of a SYNC that has told some flows, and its sync_id."""
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    for message in told:
        dfs.tell(rig, message)
    asked = next(message for message in dfs.ssmb if isinstance(message, Sync))
    return rig, dfs, asked.sync_id


def latest_sync(dfs: DfsDouble) -> int:
    return [message for message in dfs.ssmb if isinstance(message, Sync)][-1].sync_id


def ended(port: int) -> Delete:
    return Delete(
        serial=1000 + port,
        src_ipaddr=CLIENT,
        dst_ipaddr=SERVER,
        src_port=port,
        dst_port=80,
        protocol=6,
        detail=CloseReason.FIN,
    )


def test_a_flow_that_began_during_the_sync_counts_when_the_dfs_tells_it_too() -> None:
    rig, dfs, sync_id = begun(state(1))
    assert dfs.query(rig, port=2, serial=1002) is not None
    dfs.tell(rig, state(2, node="10.1.1.2"))
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=2))
    assert not is_running(rig)
    assert count(rig, Sync) == 1


def test_a_flow_that_began_during_the_sync_makes_up_for_no_lost_one() -> None:
    rig, dfs, sync_id = begun(state(1))
    assert dfs.query(rig, port=2, serial=1002) is not None
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=2))  # state(3) was lost
    assert is_running(rig)
    rig.advance(0.2)
    assert count(rig, Sync) == 2


def test_a_flow_that_ended_during_the_sync_still_counts_in_its_try() -> None:
    rig, dfs, sync_id = begun(state(1), state(2))
    dfs.tell(rig, ended(1))
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=2))
    assert not is_running(rig)
    assert len(rig.cs.table) == 1


def test_a_flow_that_ended_between_two_tries_makes_up_for_no_lost_one() -> None:
    rig, dfs, sync_id = begun(state(1), state(2))  # and state(3) was lost
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=3))
    rig.advance(0.2)
    assert count(rig, Sync) == 2
    dfs.tell(rig, ended(1))
    dfs.tell(rig, state(2))  # and state(3) was lost again
    dfs.tell(rig, SyncDone(sync_id=latest_sync(dfs), flow_count=2))
    assert is_running(rig)
    rig.advance(0.2)
    assert count(rig, Sync) == 3
    dfs.tell(rig, state(3))  # and state(2) was lost, which we know
    dfs.tell(rig, SyncDone(sync_id=latest_sync(dfs), flow_count=2))
    assert not is_running(rig)
    assert len(rig.cs.table) == 2


def test_a_flow_told_twice_makes_up_for_no_lost_one() -> None:
    rig, dfs, sync_id = begun(state(1), state(1))
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=2))
    assert is_running(rig)


def test_a_flow_state_that_its_delete_has_overtaken_enters_nothing_but_counts() -> None:
    rig, dfs, sync_id = begun(state(2))
    dfs.tell(rig, ended(1))
    dfs.tell(rig, state(1))
    assert len(rig.cs.table) == 1
    dfs.tell(rig, SyncDone(sync_id=sync_id, flow_count=2))
    assert not is_running(rig)


def test_a_dfs_that_never_ends_its_sync_is_given_up() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    rig.advance(60)
    assert count(rig, Sync) == 10
    assert not is_running(rig)


def test_a_dfs_that_has_reported_much_may_pause_for_as_long_as_a_new_start_would_take() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)

    def silence_s() -> float:
        """Until it is asked again."""
        before, begun = count(rig, Sync), rig.now
        while count(rig, Sync) == before:
            rig.advance(0.1)
        return rig.now - begun

    dfs.send(rig, state(1))
    assert silence_s() == pytest.approx(ANSWER_WAIT_S, abs=0.11)
    flows = ANSWER_WAIT_S * AGAIN_PER_S * 2
    sync = rig.cs.peers[256].sync
    for serial in range(int(flows)):
        sync.flow_reported(serial, rig.now)
    assert silence_s() == pytest.approx(2 * ANSWER_WAIT_S, abs=0.11)


def test_sessions_under_way_wait_for_sync_and_new_ones_do_not() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    assert dfs.query(rig, port=1, tcp_flags=ACK) is None
    assert rig.cs.statistics.drops["waits_for_sync"] == 1
    reply = dfs.query(rig, port=2)
    assert reply is not None
    assert reply.error_code == 0


def test_a_done_that_overtakes_the_last_flows_ends_it_when_they_come() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    asked = next(message for message in dfs.ssmb if isinstance(message, Sync))
    dfs.tell(rig, SyncDone(sync_id=asked.sync_id, flow_count=2))
    dfs.tell(rig, state(1))
    assert is_running(rig)
    dfs.tell(rig, state(2))
    assert not is_running(rig)
    assert count(rig, Sync) == 1


def test_a_done_of_another_sync_means_nothing() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    dfs.tell(rig, SyncDone(sync_id=1, flow_count=0))
    assert is_running(rig)


def test_after_a_reconnect_flows_that_the_dfs_no_longer_has_are_asked_about() -> None:
    rig = Rig()
    for port in (1, 2):
        rig.dfs.query(rig, port=port, serial=1000 + port)
    rig.dfs.disconnect(rig)
    rig.now += 5
    rig.dfs.flows = [state(1, node="10.1.1.2")]
    rig.dfs.connect(rig)
    rig.advance(1.1)
    asked = [message for message in rig.dfs.ssmb if isinstance(message, Timeout)]
    assert [message.serial for message in asked] == [1002]


def test_what_came_by_ordinary_messages_since_is_newer_than_sync() -> None:
    dfs = DfsDouble()
    dfs.answers_sync = False
    rig = Rig(None, dfs)
    reply = dfs.query(rig, port=1, serial=50)
    dfs.tell(rig, state(1))  # the flow before, told late
    (flow,) = rig.cs.table.by_key.values()
    assert reply is not None
    assert flow.serial == 50


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_dfss_with_a_flow_of_one_session_it_is_where_it_was_seen_last(first: int) -> None:
    """It moved from one to the other before the CS started; either may report first."""
    left = state(1)._replace(serial=11, idle_ms=9000)
    kept = state(1)._replace(serial=22, idle_ms=100)
    dfss = [DfsDouble(), DfsDouble(1, segment_id=257, address="10.255.0.9")]
    dfss[first].flows, dfss[1 - first].flows = [left], [kept]
    rig = Rig(
        config(data_flow_segments=[{"address": "10.255.0.1"}, {"address": "10.255.0.9"}]), *dfss
    )
    (flow,) = rig.cs.table.by_key.values()
    assert (flow.serial, flow.peer.segment_id) == (22, 257 - first)
    assert rig.active() == {"web1": 0, "web2": 1, "web3": 0}
    dfss[first].tell(rig, Delete(0, 0, 11, *left[3:8], detail=CloseReason.IDLE))
    assert flow.state == ACTIVE


def test_a_new_boot_id_turns_flows_into_sessions() -> None:
    rig = Rig()
    first = rig.dfs.query(rig, serial=5)
    rig.dfs.disconnect(rig)
    dfs = DfsDouble(boot_id=8)
    rig.dfss[0] = dfs
    dfs.connect(rig)
    rig.advance(1.1)
    assert len(rig.cs.table.sessions) == 1
    again = dfs.query(rig, serial=6, tcp_flags=ACK)
    assert first is not None
    assert again == first._replace(serial=6)


def test_translated_source_ports_are_known_after_a_restart() -> None:
    pools = changed_pool(web2=None, web3=None)
    servers = [
        {
            "name": "www",
            "address": "203.0.113.10",
            "port": 80,
            "protocol": "tcp",
            "pool": "web",
            "source_translation": {"address": "10.1.1.254", "ports": "2000-2001"},
        }
    ]
    told = state(1, node="10.1.1.2")._replace(
        flags=Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.TRANSLATE_SRC,
        snat_ipaddr=from_text("10.1.1.254"),
        snat_port=2000,
    )
    rig = Rig(config(pools=pools, virtual_servers=servers), dfs_with(told))
    reply = rig.dfs.query(rig, port=2000)
    assert reply is not None
    assert reply.snat_port == 2001


# --- the challenge --------------------------------------------------------------------------


def test_nothing_is_processed_before_the_dfs_has_answered_a_challenge() -> None:
    dfs = DfsDouble()
    dfs.answers_challenges = False
    rig = Rig(None, dfs)
    assert dfs.query(rig) is None
    assert rig.cs.statistics.drops["not_authenticated"] == 1
    assert count(rig, Sync) == 0
    dfs.answers_challenges = True
    rig.advance(0.1)
    assert count(rig, AuthChallenge) == 2
    assert dfs.query(rig) is not None


def test_challenges_are_repeated_slower_and_slower() -> None:
    dfs = DfsDouble()
    dfs.answers_challenges = False
    rig = Rig(None, dfs)
    rig.advance(1.5)
    assert count(rig, AuthChallenge) == 5
    rig.advance(10)
    assert count(rig, AuthChallenge) <= 16


def test_a_wrong_answer_is_counted_and_gets_one_challenge_after_a_second() -> None:
    dfs = DfsDouble()
    dfs.answers_challenges = False
    rig = Rig(None, dfs)
    (challenge,) = (message for message in dfs.ssmb if isinstance(message, AuthChallenge))
    dfs.tell(rig, AuthResponse(challenge_id=challenge.challenge_id))
    assert rig.cs.statistics.drops["wrong_proof"] == 1
    rig.advance(0.9)
    assert count(rig, AuthChallenge) == 1
    rig.advance(0.2)
    latest = [message for message in dfs.ssmb if isinstance(message, AuthChallenge)][-1]
    assert latest.error_code == ErrorCode.NOTAUTH


def test_the_dfs_is_challenged_again_every_ten_minutes_and_served_meanwhile() -> None:
    rig = Rig()
    rig.advance(599)
    assert count(rig, AuthChallenge) == 1
    rig.dfs.answers_challenges = False
    rig.advance(2)
    assert count(rig, AuthChallenge) >= 2
    assert rig.dfs.query(rig) is not None


def test_in_a_laboratory_nothing_is_sealed_and_nobody_challenged() -> None:
    configuration = config(key_file=None, laboratory_no_authentication=True)
    rig = Rig(configuration, DfsDouble(laboratory=True))
    assert count(rig, AuthChallenge) == 0
    assert count(rig, Sync) == 1
    assert rig.dfs.query(rig) is not None


# --- hostile datagrams -----------------------------------------------------------------------


def test_forged_replayed_and_truncated_datagrams_change_nothing_and_are_counted() -> None:
    rig = Rig()
    query = Query(serial=1, dst_ipaddr=SERVER, dst_port=80, protocol=6, tcp_flags=2)
    good = rig.dfs.sealed(query)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    for octets, address in (
        (forged, rig.dfs.address),
        (good[:10], rig.dfs.address),
        (b"", rig.dfs.address),
        (good, ("10.9.9.9", 61019)),
        (good, rig.dfs.address),
        (good, rig.dfs.address),
    ):
        rig.cs.receive_datagram(octets, address, rig.now)
    drops = rig.cs.statistics.drops
    assert drops["bad_seal"] == 1
    assert drops["too_short"] == 2
    assert drops["unknown_source"] == 1
    assert drops["replayed"] == 1
    assert len(rig.cs.table) == 1
    (flow,) = rig.cs.table.by_key.values()
    assert flow.state == ACTIVE


def test_messages_that_only_a_cs_sends_are_invalid() -> None:
    rig = Rig()
    for message in (Sync(sync_id=1), Timeout(serial=1), AuthChallenge()):
        assert rig.dfs.tell(rig, message) == []
    assert rig.cs.statistics.drops["invalid_msg"] == 3


def test_flows_of_many_unknown_nodes_cost_no_more_each() -> None:
    """A DFS may report flows of nodes that nobody configured, each of another one."""
    rig = Rig(None, dfs_with())

    def report(port: int) -> int:
        told = state(port, node=f"10.9.{port >> 8}.{port & 255}")
        return lines_run(lambda: rig.dfs.send(rig, told))

    costs = [report(port) for port in range(1, 301)]
    assert costs[-1] == costs[1]


@pytest.mark.parametrize("kind", [FlowState, Delete])
def test_reports_without_end_end_the_sync(kind: type[Message]) -> None:
    """They would take memory without end; later reports enter flows as long as there is room."""
    dfs = dfs_with()
    dfs.answers_sync = False
    rig = Rig(config(settings={"flow_capacity": 10}), dfs)
    assert is_running(rig)
    sent = 0
    while is_running(rig):
        sent += 1
        told = state(1, serial=5000 + sent)
        ended = Delete(0, 0, *told[2:8])
        dfs.send(rig, told if kind is FlowState else ended)
        assert sent <= 21
    assert sent == 21
    assert "more flows than this CS has records (10)" in rig.cs.log[-1]
