# SPDX-License-Identifier: Apache-2.0
"""CSMB as the agent sees it: who is active, what is configured, restarts of either side, SYNC."""

from dataclasses import replace
from typing import Any

import pytest

from csmb.codec import split_list
from csmb.constants import SEAL_SIZE, SMALLEST_MESSAGE
from csmb.constants import ErrorCode as CsmbError
from csmb.constants import Flag as CsmbFlag
from csmb.messages import AddVs, Config, DelVs, VsEntry, VsList
from csmb.probes import PROBE_WAIT_S
from data_flow_segment.peers.admission import FRESH_S, STRANGERS_MAX
from data_flow_segment.peers.configuration import STEPS_AT_ONCE
from data_flow_segment.targets.contract import VirtualServerKey
from ssmb.addresses import from_text
from ssmb.constants import Flag
from ssmb.messages import Delete, FlowState, NewFlow, Query, Reap, Reset, Sync, SyncDone
from support.octets.frames import ACK, SYN
from support.segments.agent_rig import (
    CLIENT,
    KEY,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    ready_rig,
    vs_list,
    web_server,
)

KEY_OF_VIP = VirtualServerKey(VIP[0], VIP[1], 6)


def sync(cs: FakeCs, sync_id: int = 1) -> tuple[list[FlowState], SyncDone]:
    """Ask for SYNC and collect the answer."""
    cs.send(Sync(sync_id=sync_id))
    cs.rig.advance(1)
    return cs.take(FlowState), cs.one(SyncDone)


# --- configuration -----------------------------------------------------------------------------


def test_each_configuring_message_is_acknowledged_with_its_verdict() -> None:
    rig = AgentRig()
    cs = rig.cs()
    add = AddVs(virt_ipaddr=VIP[0], virt_port=81)
    proxy = add._replace(flags=CsmbFlag.HTTP_PROXY)
    delete = DelVs(virt_ipaddr=VIP[0], virt_port=81)
    for message, code in (
        (Config(), CsmbError.OK),
        (vs_list(), CsmbError.OK),
        (add, CsmbError.OK),
        (proxy, CsmbError.UNSUPPORTED),
        (delete, CsmbError.OK),
        (delete, CsmbError.NOVS),
    ):
        ack = cs.tell(message)
        assert ack is not None
        assert ack.error_code == code
    assert [entry.key for entry in rig.target.virtual_servers()] == [KEY_OF_VIP]
    assert rig.count("vs_refused") == 1


def test_a_list_in_parts_counts_when_it_is_complete() -> None:
    rig, cs = ready_rig()
    entries = [web_server(virt_port=port) for port in (81, 82, 83)]
    cs.tell(VsList(int(CsmbFlag.MORE), 3, tuple(entries[:2])))
    assert [entry.key for entry in rig.target.virtual_servers()] == [KEY_OF_VIP]
    cs.tell(VsList(0, 3, tuple(entries[2:])))
    assert {entry.key.virt_port for entry in rig.target.virtual_servers()} == {81, 82, 83}


def test_a_list_that_lost_a_part_is_refused_as_a_whole() -> None:
    rig, cs = ready_rig()
    ack = cs.tell(VsList(0, 5, (web_server(virt_port=81),)))
    assert ack is not None
    assert ack.error_code == CsmbError.BADMSG
    assert [entry.key for entry in rig.target.virtual_servers()] == [KEY_OF_VIP]


def test_local_addresses_are_those_of_all_css_and_our_own() -> None:
    rig, cs = ready_rig()
    cs.tell(Config(ext_shared_ipaddr=from_text("203.0.113.200")))
    assert rig.target.data_path.local_addresses == {
        from_text("10.255.0.1"),
        from_text("10.255.1.1"),
        from_text("203.0.113.200"),
    }


@pytest.mark.parametrize("field", [name for name in Config._fields if name.endswith("ipaddr")])
def test_a_config_with_no_address_where_one_stands_is_refused(field: str) -> None:
    rig, cs = ready_rig()
    for text in ("::ffff:0.0.0.0", "0.0.0.1", "224.0.0.1", "255.255.255.255", "ff02::1"):
        nowhere: dict[str, Any] = {field: from_text(text)}
        ack = cs.tell(Config(tcp_idle_timeout=99, **nowhere))
        assert ack is not None
        assert ack.error_code == CsmbError.BADMSG
    (peer,) = rig.agent.peers
    assert peer.config.tcp_idle_timeout != 99


def test_a_router_that_is_the_dfs_itself_is_refused() -> None:
    _, cs = ready_rig()
    for text, code in (("127.0.0.1", CsmbError.BADMSG), ("10.1.1.9", CsmbError.OK)):
        ack = cs.tell(Config(default_gw_ipaddr=from_text(text)))
        assert ack is not None
        assert ack.error_code == code


def test_removing_a_virtual_server_leaves_its_flows() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    cs.tell(VsList())
    assert rig.target.virtual_servers() == ()
    assert len(rig.client_sends(ACK, seq=2)) == 1


def test_two_connections_of_one_cs_that_agreed_at_once_speak_one_version_of_ssmb() -> None:
    rig = AgentRig()
    first, second = FakeCs(rig, 1), FakeCs(rig, 1, ssmb_versions=((1, 0),))
    for cs in (first, second):  # both HELLOs, before either is READY
        rig.agent.connections.receive(cs.number, cs.connection.data_to_send(), rig.now)
    for cs in (first, second):
        cs.exchange()
    assert first.closed is None
    assert second.closed is not None
    (peer,) = rig.agent.peers
    assert peer.ssmb_version == (2, 0)
    assert any(
        line.endswith("another connection of this CS speaks SSMB 2, this one SSMB 1")
        for line in rig.agent.connections.take_log()
    )


# --- who is active -----------------------------------------------------------------------------


def test_the_higher_epoch_takes_over_and_gets_what_waits() -> None:
    rig, old = ready_rig()
    rig.client_sends(SYN)
    first = old.one(Query)
    new = rig.cs(2, role_epoch=2)
    (again,) = new.take(Query)
    assert again.serial == first.serial
    assert again.flags & Flag.RETRY
    old.answer(first)
    assert rig.count("drop_not_active") == 1
    assert rig.sent == []
    new.answer(again)
    assert len(rig.sent) == 1


def test_a_lower_claim_is_answered_notactive_and_its_cs_may_stand_by() -> None:
    rig, _ = ready_rig()
    late = FakeCs(rig, 2, role_epoch=0)
    rig.css.append(late)
    late.exchange()
    assert rig.count("cs_not_active") >= 1
    late.connection.announce(active=False, role_epoch=0, now=rig.now)
    late.exchange()
    rig.cs(3, active=False)
    group = rig.agent.peers.groups[1]
    assert group.active is not None
    assert group.active.hello.segment_id == 1
    assert 3 in [peer.hello.segment_id for peer in group.standbys]


def test_at_the_same_epoch_the_lower_segment_id_is_active() -> None:
    rig = AgentRig()
    rig.cs(5, prepare=False)
    rig.cs(3, prepare=False)
    active = rig.agent.peers.groups[1].active
    assert active is not None
    assert active.hello.segment_id == 3


def test_a_cs_that_announces_a_higher_epoch_on_its_connection_takes_over() -> None:
    rig, _ = ready_rig()
    standby = rig.cs(2, active=False)
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    active = rig.agent.peers.groups[1].active
    assert active is not None
    assert active.hello.segment_id == 2


def test_only_the_active_cs_of_a_group_configures() -> None:
    rig, _ = ready_rig()
    waiting = rig.cs(2)
    for message in (
        Config(int(CsmbFlag.OUTBOUND_QUERY), ext_shared_ipaddr=from_text("203.0.113.200")),
        VsList(int(CsmbFlag.MORE), 1),
        VsList(0, 1, (web_server(virt_port=81),)),
        AddVs(virt_ipaddr=VIP[0], virt_port=81),
        DelVs(virt_ipaddr=VIP[0], virt_port=VIP[1]),
    ):
        ack = waiting.tell(message)
        assert ack is not None
        assert ack.error_code == CsmbError.NOTACTIVE
    assert [entry.key for entry in rig.target.virtual_servers()] == [KEY_OF_VIP]
    assert from_text("203.0.113.200") not in rig.target.data_path.local_addresses
    assert not rig.target.data_path.outbound_query
    assert rig.count("configuration_not_active") == 5


def test_what_a_cs_configured_before_another_took_over_is_not_added_to_the_others_list() -> None:
    """The parts of a list come from one active CS, or from none."""
    rig, old = ready_rig()
    old.tell(Config(int(CsmbFlag.OUTBOUND_QUERY)))
    old.tell(VsList(int(CsmbFlag.MORE), 2, (web_server(virt_port=81),)))
    new = rig.cs(2, role_epoch=2)
    assert not rig.target.data_path.outbound_query
    ack = old.tell(VsList(0, 2, (web_server(virt_port=82),)))
    assert ack is not None
    assert ack.error_code == CsmbError.NOTACTIVE
    assert [entry.key for entry in rig.target.virtual_servers()] == [KEY_OF_VIP]
    new.tell(vs_list(web_server(virt_port=83)))
    assert [entry.key.virt_port for entry in rig.target.virtual_servers()] == [83]


def test_a_cs_that_says_it_restarted_without_a_new_connection_is_counted() -> None:
    rig = AgentRig()
    cs = rig.cs()
    for boot_id in (7, 7, 8):
        cs.connection._actions.settings = replace(cs.settings, boot_id=boot_id)
        cs.connection.announce(active=True, role_epoch=1, now=rig.now)
        cs.exchange()
        rig.settle()
    assert rig.count("csmb_boots_changed") == 2
    assert rig.agent.peers.by_identity[1, 1].boot_id == 8


def test_a_second_boot_of_a_living_segment_is_refused() -> None:
    rig, first = ready_rig()
    copy = FakeCs(rig, 1, boot_id=5)
    _reach_auth_wait(rig, copy)
    first.exchange()  # it answers whether it is there
    copy.exchange()
    assert copy.closed is not None
    assert copy.closed.startswith("the DFS refused the connection: DUPID (another segment with")
    assert rig.count("cs_duplicate_id") == 1
    assert rig.agent.peers.by_identity[1, 1].boot_id == first.settings.boot_id
    rig.client_sends(SYN)
    assert len(first.take(Query)) == 1


def test_a_cs_started_again_takes_the_place_of_what_it_was() -> None:
    """After a second, although its connection before was never closed."""
    rig, dead = ready_rig()
    both = FakeCs(rig, 1, group_id=2)  # in both its groups
    both.exchange()
    dead.is_there = False
    again = rig.cs(1, boot_id=5, prepare=False)
    assert len(again.hellos) == 1  # the answer to the unsealed one; the sealed one is held
    early = again.tell(vs_list())
    assert early is not None
    assert early.error_code == CsmbError.NOTAUTH
    rig.advance(PROBE_WAIT_S)
    again.challenge()
    again.acknowledge_resets()
    assert len(again.hellos) == 2
    assert rig.agent.peers.by_identity.keys() == {(1, 1)}
    assert rig.count("cs_duplicate_id") == 0
    assert any("started again" in line for line in rig.agent.connections.take_log())
    rig.client_sends(SYN)
    assert len(again.take(Query)) == 1
    octets, closed = rig.agent.connections.octets_to_send(dead.number)
    assert octets
    assert closed


def test_one_that_is_slow_to_answer_keeps_its_place() -> None:
    """Its answer comes 0.9 s after it was asked, and the second CS with its number is refused."""
    rig, slow = ready_rig()
    slow.is_there = False
    copy = rig.cs(1, boot_id=5, prepare=False)
    rig.css.remove(copy)  # it is elsewhere
    rig.advance(0.9)
    assert copy.connection.is_ready
    rig.client_sends(SYN)
    assert len(slow.take(Query)) == 1
    slow.exchange()
    copy.exchange()
    assert copy.closed is not None
    assert "DUPID" in copy.closed
    assert rig.agent.peers.by_identity[1, 1].boot_id == slow.settings.boot_id
    rig.advance(2 * PROBE_WAIT_S)
    assert rig.count("cs_duplicate_id") == 1


def test_one_that_leaves_while_it_is_asked_is_waited_for_no_longer() -> None:
    rig, dead = ready_rig()
    again = rig.cs(1, boot_id=5, prepare=False)
    dead.leave()
    again.exchange()
    again.challenge()
    assert rig.agent.peers.by_identity[1, 1].boot_id == 5


def test_of_two_that_claim_the_place_of_a_dead_cs_one_gets_it() -> None:
    rig, dead = ready_rig()
    dead.is_there = False
    second = rig.cs(1, boot_id=5, prepare=False)
    third = rig.cs(1, boot_id=6, prepare=False)
    rig.advance(2 * PROBE_WAIT_S + 0.1)
    assert [cs.closed is None for cs in (second, third)] == [True, False]
    assert rig.agent.peers.by_identity[1, 1].boot_id == 5


def test_a_claim_ends_with_its_connection() -> None:
    rig, dead = ready_rig()
    dead.is_there = False
    again = rig.cs(1, boot_id=5, prepare=False)
    again.leave()
    rig.advance(PROBE_WAIT_S)
    assert rig.agent.peers.by_identity[1, 1].boot_id == dead.settings.boot_id
    assert rig.agent.outbox.faults.take_log() == []


def test_who_waits_for_the_verdict_needs_no_place_any_more() -> None:
    """It has proved itself: nobody who has not takes its place meanwhile."""
    rig, dead = ready_rig()
    dead.is_there = False
    again = rig.cs(1, boot_id=5, prepare=False)
    rig.advance(2 * FRESH_S)
    for _ in range(2 * STRANGERS_MAX):  # from its own address
        rig.agent.connections.connection_made(rig.now)
    assert again.connection.is_ready
    rig.advance(PROBE_WAIT_S)
    assert rig.agent.peers.by_identity[1, 1].boot_id == 5


def test_of_several_hellos_that_are_held_the_last_one_counts() -> None:
    rig, dead = ready_rig()
    dead.is_there = False
    again = rig.cs(1, boot_id=5, prepare=False)
    again.connection.announce(active=True, role_epoch=7, now=rig.now)
    again.exchange()
    rig.advance(PROBE_WAIT_S)
    assert rig.agent.peers.by_identity[1, 1].hello.role_epoch == 7
    assert len(again.hellos) == 2


def test_who_has_no_key_displaces_nobody() -> None:
    """He may say HELLO in its name: then it is asked whether it is there, once a second."""
    rig, cs = ready_rig()
    cs.is_there = False  # and even if it does not answer
    for _ in range(50):
        stranger = FakeCs(rig, 1, boot_id=5, key=b"not the key at all!!")
        stranger.exchange()
        assert stranger.closed
    probes, _ = rig.agent.connections.octets_to_send(cs.number)
    assert len(probes) == SMALLEST_MESSAGE + SEAL_SIZE
    cs.connection.receive_data(probes, rig.now)
    cs.exchange()
    assert cs.connection.is_ready
    assert rig.agent.peers.by_identity[1, 1].boot_id == cs.settings.boot_id
    assert rig.count("configuration_not_active") == 0  # an ACK is none


def test_a_cs_started_again_may_speak_another_version() -> None:
    """What it was before does not hold its group to the version."""
    rig = AgentRig()
    old = rig.cs(1, ssmb_versions=((1, 0),))
    old.is_there = False
    assert rig.cs(1, boot_id=5, prepare=False).version == 2
    rig.advance(PROBE_WAIT_S)
    assert rig.agent.peers.by_identity[1, 1].ssmb_version == (2, 0)


def test_nothing_is_obeyed_before_the_first_sealed_hello() -> None:
    rig = AgentRig()
    cs = FakeCs(rig, 1)
    cs.connection._actions.keep_alive = lambda _: None  # type: ignore[method-assign]
    cs.exchange()
    assert rig.agent.peers.by_identity == {}
    ack = cs.tell(vs_list())
    assert ack is not None
    assert ack.error_code == CsmbError.NOTAUTH
    assert rig.target.virtual_servers() == ()


def _reach_auth_wait(rig: AgentRig, cs: FakeCs) -> None:
    """HELLO, and the DFS's answer."""
    rig.agent.connections.receive(cs.number, cs.connection.data_to_send(), rig.now)
    answer, _ = rig.agent.connections.octets_to_send(cs.number)
    cs.connection.receive_data(answer, rig.now)


def test_two_connections_of_one_cs_are_one_cs() -> None:
    rig, first = ready_rig()
    rig.cs(1)
    first.leave()
    assert rig.agent.peers.groups[1].active is not None
    rig.client_sends(SYN)
    assert len(rig.css[-1].take(Query)) == 1


def test_groups_own_their_virtual_servers() -> None:
    rig, web = ready_rig()
    dns = rig.cs(2, group_id=2)
    dns.tell(vs_list(web_server(virt_port=53, protocol=17)))
    refused = dns.tell(AddVs(virt_ipaddr=VIP[0], virt_port=80))
    assert refused is not None
    assert refused.error_code == CsmbError.BADFLAGS
    rig.client_sends(SYN)
    rig.client_sends_udp(vip=(VIP[0], 53))
    assert (len(web.take(Query)), len(dns.take(Query))) == (1, 1)


def test_one_cs_in_two_groups_from_one_socket() -> None:
    rig, web = ready_rig()
    dns = FakeCs(rig, 1, group_id=2)
    rig.css.append(dns)
    dns.exchange()
    assert len(rig.agent.peers.by_endpoint[web.endpoint]) == 2
    web.send(newflow_for(0x81000001))
    dns.send(newflow_for(0x81000002, src_port=9))
    assert rig.count("drop_not_active") == 0
    assert {state.entry.group_id for state in rig.target.scan(None, 9)[0]} == {1, 2}


def test_a_wrong_key_comes_to_nothing() -> None:
    rig = AgentRig()
    intruder = FakeCs(rig, 1, key=KEY[::-1])
    intruder.exchange()
    assert not intruder.connection.is_ready
    assert rig.agent.peers.by_identity == {}
    assert rig.count("csmb_auth_failures") == 1


def test_connections_that_prove_nothing_are_bounded_and_end() -> None:
    rig = AgentRig()
    numbers = [
        rig.agent.connections.connection_made(rig.now, f"192.0.2.{number}")
        for number in range(STRANGERS_MAX + 3)
    ]
    assert numbers.count(None) == 3
    rig.advance(6)
    for number in numbers[:STRANGERS_MAX]:
        assert number is not None
        assert rig.agent.connections.octets_to_send(number)[1]
    assert rig.agent.connections.connection_made(rig.now) is not None


def test_a_silent_cs_is_gone_after_three_intervals() -> None:
    rig, cs = ready_rig()
    cs.is_there = False
    rig.advance(16)
    assert rig.agent.peers.groups[1].active is None
    assert any("no message received" in sentence for sentence in rig.agent.connections.take_log())


def test_laboratory_needs_no_key() -> None:
    rig, cs = ready_rig(laboratory=True)
    rig.client_sends(SYN)
    cs.answer(cs.one(Query))
    assert len(rig.sent) == 1


def test_version_1_serves_ipv4() -> None:
    rig = AgentRig()
    cs = rig.cs(csmb_versions=((1, 0),), ssmb_versions=((1, 0),))
    cs.tell(vs_list())
    rig.client_sends(SYN)
    cs.answer(cs.one(Query))
    assert cs.version == 1
    assert len(rig.sent) == 1


# --- replicas ----------------------------------------------------------------------------------


def test_a_standby_gets_copies_of_what_the_active_one_and_the_dfs_decide() -> None:
    rig, active = ready_rig()
    standby = rig.cs(2, active=False, prepare=False)
    standby.challenge()
    rig.client_sends(SYN, seq=1)
    reply = active.answer(active.one(Query))
    (copy,) = [message for message in standby.inbox if message.__class__ is reply.__class__]
    assert copy.flags & Flag.REPLICA
    assert copy._replace(flags=reply.flags) == reply
    active.send(newflow_for(0x81000001, src_port=9))
    assert standby.one(NewFlow).flags & Flag.REPLICA
    rig.advance(301, sweep=True)
    rig.advance(0.02)
    assert [bool(each.flags & Flag.REPLICA) for each in standby.take(Delete)] == [True, True]
    assert [bool(each.flags & Flag.REPLICA) for each in active.take(Delete)] == [False, False]
    active.send(Reset(reset_id=3))
    assert [each.reset_id == 3 for each in standby.take(Reset)] == [False, True]  # one at boot
    assert not standby.take(Reset)


def test_a_standby_may_not_command() -> None:
    rig, active = ready_rig()
    standby = rig.cs(2, active=False)
    active.send(newflow_for(0x81000001))
    standby.send(newflow_for(0x82000001, src_port=9))
    standby.send(Reap(serial=0x81000001, idle_limit=1))
    standby.send(Reset(reset_id=3))
    assert rig.target.flow_count() == 1
    assert rig.count("drop_not_active") == 3


# --- SYNC, RESET, restarts -----------------------------------------------------------------------


def test_a_new_table_says_reset_once_to_each_cs() -> None:
    rig = AgentRig()
    cs = rig.cs(prepare=False)
    cs.challenge()
    assert cs.acknowledge_resets() == 1
    cs.leave()
    again = rig.cs(boot_id=5, prepare=False)
    again.challenge()
    assert again.take(Reset) == []


def test_reset_is_repeated_until_acknowledged_and_queries_wait_for_that() -> None:
    rig = AgentRig()
    cs = rig.cs(prepare=False)
    cs.tell(vs_list())
    cs.challenge()
    rig.advance(0.45)
    first, *repeats = cs.take(Reset)
    assert len(repeats) == 2
    assert {each.reset_id for each in repeats} == {first.reset_id}
    rig.client_sends(SYN)
    assert cs.take(Query) == []
    cs.send(first._replace(flags=int(Flag.ACK)))
    assert len(cs.take(Query)) == 1
    cs.send(first._replace(flags=int(Flag.ACK)))
    assert rig.count("drop_unexpected_ack") == 1


def test_a_cs_that_never_acknowledges_is_asked_all_the_same() -> None:
    rig = AgentRig()
    cs = rig.cs(prepare=False)
    cs.tell(vs_list())
    cs.challenge()
    rig.advance(0.8)
    rig.client_sends(SYN)
    rig.advance(0.4)
    assert len(cs.take(Reset)) == 5
    assert rig.count("reset_unacknowledged") == 1
    assert len(cs.take(Query)) >= 1


def test_sync_tells_every_flow_of_the_group_and_their_number() -> None:
    rig, cs = ready_rig()
    other = rig.cs(2, group_id=2)
    for number in range(500):
        cs.send(newflow_for(0x81000001 + number, src_port=1000 + number, idle_timeout=9))
    other.send(newflow_for(0x82000001, src_port=1))
    flows, done = sync(cs)
    assert (len(flows), done.flow_count, done.sync_id) == (500, 500, 1)
    assert {flow.serial for flow in flows} == {0x81000001 + number for number in range(500)}
    assert flows[0].idle_timeout == 9
    assert flows[0].flags & Flag.TRANSLATE_ADDR
    assert sync(other)[1].flow_count == 1


def test_sync_is_paced() -> None:
    rig, cs = ready_rig()
    for number in range(500):
        cs.send(newflow_for(0x81000001 + number, src_port=1000 + number))
    cs.send(Sync(sync_id=1))
    rig.advance(0.001)
    assert len(cs.take(FlowState)) <= 128
    cs.send(Sync(sync_id=1))  # an impatient repeat does not begin again
    rig.advance(0.1)
    assert len(cs.take(FlowState)) >= 372
    assert cs.one(SyncDone).flow_count == 500


def test_a_sync_makes_up_for_late_wake_ups_but_not_for_long_ones() -> None:
    """A busy machine wakes the agent every 20 ms; then it was away for a second."""
    rig, cs = ready_rig()
    for number in range(2000):
        cs.send(newflow_for(0x81000001 + number, src_port=1000 + number))
    cs.send(Sync(sync_id=1))

    def after(seconds: float) -> int:
        """How many flows are reported in one wake-up."""
        rig.now += seconds
        while (timer := rig.agent.get_timer()) is not None and timer <= rig.now:
            rig.agent.handle_timer(rig.now)
            rig.settle()
        return len(cs.take(FlowState))

    assert after(0.0) == pytest.approx(128, abs=12)
    assert after(0.0201) == pytest.approx(5 * 128, abs=12)
    assert after(1.0) == pytest.approx(5 * 128, abs=12)


def test_flows_that_linger_are_not_told_in_sync() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    rig.node_sends(4 | ACK, seq=1, ack=2)  # refused by the node
    assert sync(cs)[1].flow_count == 0


def test_a_new_cs_is_asked_about_syns_at_once_and_about_the_middle_after_sync() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001, src_port=9))
    cs.leave()
    new = rig.cs(boot_id=99)
    rig.client_sends(SYN, client=(CLIENT[0], 1000))
    rig.client_sends(ACK, client=(CLIENT[0], 1001))
    assert [query.src_port for query in new.take(Query)] == [1000]
    flows, _ = sync(new)
    assert len(flows) == 1
    assert 1001 in [query.src_port for query in new.take(Query)]


def test_a_new_cs_that_does_not_sync_is_asked_after_two_seconds() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001, src_port=9))
    cs.leave()
    new = rig.cs(boot_id=99)
    rig.client_sends(ACK, client=(CLIENT[0], 1001))
    rig.advance(1.5)
    assert new.take(Query) == []
    rig.advance(0.52)
    assert len(new.take(Query)) == 1
    assert rig.count("sync_waits_over") == 1


def test_the_same_cs_that_only_lost_its_connection_is_asked_at_once() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001, src_port=9))
    cs.leave()
    again = rig.cs()
    rig.client_sends(ACK, client=(CLIENT[0], 1001))
    assert len(again.take(Query)) == 1


def test_a_restarted_agent_adopts_flows_and_virtual_servers_and_keeps_its_boot_id() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    rig.target.close(detach=False)
    after = AgentRig(data_path=rig.target.data_path)
    assert len(after.client_sends(ACK, seq=2)) == 1  # before any CS is there
    cs = after.cs(prepare=False)
    cs.challenge()
    assert cs.take(Reset) == []
    assert cs.peer is not None
    assert cs.peer.boot_id == rig.target.boot_id
    after.client_sends(SYN, client=(CLIENT[0], 1000))  # its virtual server was adopted
    assert len(cs.take(Query)) == 1
    cs.tell(vs_list(web_server(virt_port=81)))
    assert {entry.key.virt_port for entry in after.target.virtual_servers()} == {81}
    assert sync(cs)[1].flow_count == 1


def test_flows_that_closed_while_no_agent_ran_are_found_by_the_first_sweep() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    path = rig.target.data_path
    rig.target.close(detach=False)
    from support.octets.frames import framed, tcp_packet
    from support.segments.agent_rig import INTERNAL, INTERNAL_MAC, NODE, NODE_MAC

    refused = tcp_packet(NODE, CLIENT, 4 | ACK, seq=0, ack=2)
    path.receive(INTERNAL, framed(refused, NODE_MAC, INTERNAL_MAC))
    after = AgentRig(data_path=path)
    cs = after.cs()
    after.sweep()
    after.advance(0.02)
    assert cs.one(Delete).detail == 2
    after.advance(3)
    assert after.target.flow_count() == 0


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_long_list_of_virtual_servers_survives_the_trip(count: int) -> None:
    rig = AgentRig()
    cs = rig.cs()
    entries: list[VsEntry] = [web_server(virt_port=1000 + number) for number in range(count)]
    for start in range(0, max(count, 1), 20):
        part = tuple(entries[start : start + 20])
        more = int(CsmbFlag.MORE) if start + 20 < count else 0
        cs.tell(VsList(more, count, part))
    rig.advance(0)
    assert len(rig.target.virtual_servers()) == count


def test_a_long_list_is_obeyed_some_virtual_servers_at_a_time_and_what_follows_waits() -> None:
    rig = AgentRig()
    cs = rig.cs()
    count = 3 * STEPS_AT_ONCE
    entries = [web_server(virt_port=1000 + number) for number in range(count)]
    for part in split_list(entries, 2):
        cs.connection.send(part, rig.now)
    gone = DelVs(virt_ipaddr=VIP[0], virt_port=1000 + count - 1)
    cs.connection.send(gone, rig.now)  # not there yet: it has to wait for the list
    rig.agent.connections.receive(cs.number, cs.connection.data_to_send(), rig.now)
    turns = 0
    while rig.agent.connections.get_timer() == 0.0:
        assert len(rig.agent.outbox.commands) <= STEPS_AT_ONCE
        rig.settle()
        rig.agent.handle_timer(rig.now)
        turns += 1
    rig.settle()
    cs.exchange()
    assert turns > 1
    assert [ack.error_code for ack in cs.acks] == [CsmbError.OK] * len(cs.acks)
    assert len(rig.target.virtual_servers()) == count - 1


def test_what_a_cs_configured_before_its_connection_ended_is_obeyed_to_the_end() -> None:
    rig = AgentRig()
    cs = rig.cs()
    entries = [web_server(virt_port=1000 + number) for number in range(2 * STEPS_AT_ONCE)]
    for part in split_list(entries, 2):
        cs.connection.send(part, rig.now)
    rig.agent.connections.receive(cs.number, cs.connection.data_to_send(), rig.now)
    cs.leave()
    rig.advance(0)
    assert len(rig.target.virtual_servers()) == len(entries)
