# SPDX-License-Identifier: Apache-2.0
"""QUERY, its repeats, REPLY, NEWFLOW, refusals: the real agent, target and seals; a CS by hand."""

from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config
from ssmb.addresses import from_text
from ssmb.constants import NO_CS_HOLD_MS, CloseReason, ErrorCode, Flag, ForwardMode
from ssmb.messages import Bridge, Delete, FlowSignature, Query
from support.octets.frames import ACK, FIN, RST, SYN, ends_of, framed, tcp_packet, udp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    NODE,
    NODE_MAC,
    ROUTER_MAC,
    TRANSLATE,
    VIP,
    AgentRig,
    newflow_for,
    ready_rig,
    reply_to,
    vs_list,
    web_server,
)

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)


def test_a_syn_is_held_and_asked_about_and_then_sent_to_the_node() -> None:
    rig, cs = ready_rig()
    assert rig.client_sends(SYN, seq=1, tos=0xB9) == []
    query = cs.one(Query)
    assert query.signature == SIGNATURE._replace(tos=0xB8)  # without its ECN bits
    assert (query.tcp_flags, query.flags & ~Flag.ADDR16) == (SYN, 0)
    assert 0 < query.serial < 1 << 31
    cs.answer(query)
    ((interface, frame),) = rig.sent
    assert interface == INTERNAL
    assert ends_of(frame) == (CLIENT, NODE, 6)
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.serial == query.serial
    assert state.entry.idle_timeout_s == 300


def test_both_directions_come_from_one_reply() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    ((interface, frame),) = rig.node_sends(SYN | ACK, seq=5, ack=2)
    assert interface == EXTERNAL
    assert ends_of(frame) == (VIP, CLIENT, 6)


def test_further_packets_wait_in_their_order() -> None:
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(protocol=17)))
    for payload in (b"one", b"two", b"three"):
        rig.client_sends_udp(payload)
    query = cs.one(Query)
    assert query.protocol == 17
    cs.answer(query)
    assert [frame[42:] for _, frame in rig.sent] == [b"one", b"two", b"three"]
    assert rig.count("held_packets") == 2
    assert rig.agent.new_flows.pending.held_octets == 0


def test_a_flows_buffer_is_bounded_by_config() -> None:
    rig, cs = ready_rig()
    cs.tell(Config(flow_buffer_max=200))
    rig.client_sends(SYN)
    for _ in range(5):
        rig.client_sends(SYN)  # 54 octets each
    assert rig.count("held_packets") == 2
    assert rig.count("drop_flow_buffer_full") == 3


def test_all_buffers_together_are_bounded() -> None:
    rig, _ = ready_rig()
    pending = rig.agent.new_flows.pending
    pending._held_max = 100
    rig.client_sends(SYN)
    rig.client_sends(SYN, client=(CLIENT[0], 40001))
    rig.client_sends(SYN)
    assert rig.count("drop_buffers_full") == 2
    assert len(pending) == 1


def test_pending_flows_are_bounded() -> None:
    rig, _ = ready_rig()
    rig.agent.new_flows.pending._pending_max = 2
    for port in range(5):
        rig.client_sends(SYN, client=(CLIENT[0], 40000 + port))
    assert rig.count("drop_pending_full") == 3


def test_a_query_is_repeated_after_50_100_and_200_ms_and_then_given_up() -> None:
    rig, cs = ready_rig()
    began = rig.now
    rig.client_sends(SYN)
    first = cs.one(Query)
    seen = []
    for _ in range(120):
        rig.advance(0.005)
        seen += [(round(rig.now - began, 3), query) for query in cs.take(Query)]
    assert [at for at, _ in seen] == pytest.approx([0.05, 0.15, 0.35], abs=0.03)
    for _, query in seen:
        assert query._replace(flags=query.flags & ~Flag.RETRY) == first
        assert query.flags & Flag.RETRY
    assert len(rig.agent.new_flows.pending) == 0
    assert rig.agent.new_flows.pending.held_octets == 0
    assert (rig.count("query_retries"), rig.count("query_timeouts")) == (3, 1)
    assert rig.count("held_packets_given_up") == 1


def test_the_cs_sets_the_first_wait() -> None:
    rig, cs = ready_rig()
    cs.tell(Config(query_timeout=500))
    rig.client_sends(SYN)
    cs.take(Query)
    rig.advance(0.4)
    assert cs.take(Query) == []
    rig.advance(0.12)
    assert len(cs.take(Query)) == 1


def test_a_repeated_reply_changes_nothing() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    reply = cs.answer(cs.one(Query))
    rig.client_sends(ACK, seq=1)
    before = rig.target.lookup(SIGNATURE)
    cs.send(reply)
    assert rig.target.lookup(SIGNATURE) == before
    assert rig.count("flows_updated") == 1


def test_a_reply_with_another_serial_is_stale() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    cs.send(reply_to(query, serial=query.serial + 1))
    assert rig.target.lookup(SIGNATURE) is None
    assert rig.count("replies_stale") == 1
    cs.answer(query)
    cs.send(reply_to(query, serial=query.serial + 1, node_ipaddr=from_text("10.1.1.3")))
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.node_ipaddr == NODE[0]
    assert rig.count("replies_stale") == 2


@pytest.mark.parametrize("serial", [0, 0x8000_0000, 0x8100_0001])
def test_a_reply_with_a_serial_that_no_query_had_enters_nothing(serial: int) -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    cs.answer(query)
    rig.client_sends(SYN, client=(CLIENT[0], 5))
    cs.send(reply_to(cs.one(Query), serial=serial))
    cs.send(reply_to(query, serial=serial, src_port=6))
    assert rig.target.flow_count() == 1
    assert rig.count("replies_invalid") == 2


def test_a_newflow_without_a_serial_enters_nothing() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0))
    assert rig.target.flow_count() == 0
    assert rig.count("replies_invalid") == 1


@pytest.mark.parametrize("field", ["node_ipaddr", "next_hop_ipaddr"])
def test_a_reply_that_leads_to_no_address_is_reported_back(field: str) -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query), **{field: from_text("::ffff:0.0.0.0")})
    rig.advance(0.02)
    assert rig.target.flow_count() == 0
    assert cs.one(Delete).error_code == ErrorCode.NORESOURCE
    assert rig.count("install_failures") == 1


def test_a_reply_nobody_waits_for_enters_the_flow_by_itself() -> None:
    """The self-contained rule (FIG. 21): the QUERY was given up a moment ago."""
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    rig.advance(1)
    cs.answer(query)
    assert rig.target.lookup(SIGNATURE) is not None
    assert rig.sent == []


def test_a_late_copy_of_a_reply_does_not_enter_a_flow_that_ended() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    cs.answer(query)
    close(rig)
    rig.advance(1.9)
    cs.answer(query)
    assert rig.count("replies_stale") == 1
    rig.advance(0.2)
    assert rig.target.lookup(SIGNATURE) is None


def test_a_reply_from_a_cs_that_was_not_asked_is_ignored() -> None:
    rig, cs = ready_rig()
    other = rig.cs(2, group_id=2)
    rig.client_sends(SYN)
    query = cs.one(Query)
    other.answer(query)
    assert rig.count("replies_invalid") == 1
    assert rig.target.lookup(SIGNATURE) is None


def test_the_time_of_opening_and_the_idle_timeout_of_the_reply_go_into_the_entry() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    rig.advance(0.03)
    cs.answer(query, idle_timeout=7)
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert (state.entry.opened_ms, state.entry.idle_timeout_s) == (query.timestamp, 7)


@pytest.mark.parametrize(
    ("of_reply", "of_server", "of_config", "wanted"),
    [
        ("10.1.1.3", "10.1.1.4", "10.1.1.5", "10.1.1.3"),
        ("::", "10.1.1.4", "10.1.1.5", "10.1.1.4"),
        ("::", "::", "10.1.1.5", "10.1.1.5"),
    ],
)
def test_the_next_hop_is_the_replys_else_the_servers_else_the_gateway(
    of_reply: str, of_server: str, of_config: str, wanted: str
) -> None:
    rig, cs = ready_rig()
    cs.tell(Config(default_gw_ipaddr=from_text(of_config)))
    cs.tell(vs_list(web_server(next_hop_ipaddr=from_text(of_server), idle_timeout=11)))
    rig.client_sends(SYN)
    flags = TRANSLATE & ~Flag.ROUTE_BY_DST_IP
    cs.answer(cs.one(Query), flags=flags, next_hop_ipaddr=from_text(of_reply))
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.next_hop_ipaddr == from_text(wanted)
    assert state.entry.idle_timeout_s == 11


def test_unknown_is_silent_about_a_syn_and_not_asked_again_for_a_second() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query), error_code=ErrorCode.UNKNOWN, flags=0)
    rig.client_sends(SYN)
    rig.advance(0.9)
    rig.client_sends(SYN)
    assert (rig.sent, cs.take(Query)) == ([], [])
    assert rig.count("drop_negative") == 2
    rig.advance(0.15)
    rig.client_sends(SYN)
    assert len(cs.take(Query)) == 1


def test_notavail_resets_tcp_each_time_it_tries() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=9)
    cs.answer(cs.one(Query), error_code=ErrorCode.NOTAVAIL, flags=0)
    rig.client_sends(SYN, seq=10)
    assert cs.take(Query) == []
    assert len(rig.sent) == 2
    for interface, frame in rig.sent:
        assert interface == EXTERNAL
        assert ends_of(frame) == (VIP, CLIENT, 6)
        assert frame[14 + 20 + 13] == RST | ACK
    assert rig.count("reset_sent") == 2


def test_notavail_tells_udp_that_the_port_is_unreachable_once() -> None:
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(protocol=17)))
    rig.client_sends_udp()
    cs.answer(cs.one(Query), error_code=ErrorCode.NOTAVAIL, flags=0)
    rig.client_sends_udp()
    ((interface, frame),) = rig.sent
    assert interface == EXTERNAL
    assert (frame[14 + 9], frame[34], frame[35]) == (1, 3, 3)


def test_without_a_cs_flows_wait_and_are_asked_about_when_one_comes() -> None:
    rig, cs = ready_rig()
    cs.leave()
    rig.client_sends(SYN)
    rig.advance(0.2)
    back = rig.cs()
    query = back.one(Query)
    assert not query.flags & Flag.RETRY  # it was never asked before
    back.answer(query)
    assert len(rig.sent) == 1


def test_without_a_cs_flows_are_given_up_after_three_seconds_more_than_its_repeats_take() -> None:
    rig, cs = ready_rig()
    cs.leave()
    rig.client_sends(SYN)
    rig.advance(0.55 + NO_CS_HOLD_MS / 1000 - 0.1)
    assert len(rig.agent.new_flows.pending) == 1
    rig.advance(0.3)
    assert rig.count("query_timeouts") == 1
    assert len(rig.agent.new_flows.pending) == 0


def test_queries_wait_until_the_challenge_on_ssmb_is_answered() -> None:
    rig = AgentRig()
    cs = rig.cs(prepare=False)
    cs.tell(vs_list())
    rig.client_sends(SYN)
    assert cs.take(Query) == []
    cs.challenge()
    cs.acknowledge_resets()
    assert len(cs.take(Query)) == 1


def test_newflow_installs_unasked_with_the_cs_serial() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000005))
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.serial == 0x81000005
    rig.client_sends(SYN)
    assert cs.take(Query) == []
    assert len(rig.sent) == 1


def test_newflow_releases_what_was_held() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.send(newflow_for(0x81000005))
    assert len(rig.sent) == 1
    assert len(rig.agent.new_flows.pending) == 0


def test_newflow_gives_an_existing_entry_its_serial() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query))
    cs.send(newflow_for(0x81000005, node_ipaddr=from_text("10.1.1.3")))
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert (state.entry.serial, state.entry.node_ipaddr) == (0x81000005, from_text("10.1.1.3"))


def test_newflow_overrules_an_earlier_refusal() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query), error_code=ErrorCode.UNKNOWN, flags=0)
    cs.send(newflow_for(0x81000005))
    assert len(rig.client_sends(SYN)) == 1


def test_offsets_of_a_newflow_reach_the_target() -> None:
    rig, cs = ready_rig()
    flags = TRANSLATE | Flag.ADD_TCP_OFFSETS
    cs.send(newflow_for(0x81000005, flags=flags, seq_offset=3, ack_offset=0xFFB3B50D))
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.flags & Flag.ADD_TCP_OFFSETS
    assert (state.entry.seq_offset, state.entry.ack_offset) == (3, 0xFFB3B50D)


def test_what_needs_a_proxy_is_refused_with_nodefail() -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000005, flags=TRANSLATE | Flag.PROXY_SERVER))
    rig.advance(0.02)
    delete = cs.one(Delete)
    assert (delete.error_code, delete.detail) == (ErrorCode.NODEFAIL, CloseReason.NODE_FAIL)
    assert rig.target.flow_count() == 0


def test_what_the_target_cannot_install_is_told_to_the_cs() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    query = cs.one(Query)
    cs.answer(query, forward_mode=ForwardMode.HOP)
    rig.advance(0.02)
    delete = cs.one(Delete)
    assert (delete.error_code, delete.serial) == (ErrorCode.NORESOURCE, query.serial)
    assert rig.count("install_failures") == 1


def test_l2_and_tunnel_flows_pass_through_the_agent() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN)
    cs.answer(cs.one(Query), flags=int(Flag.ROUTE_BY_DST_IP), forward_mode=ForwardMode.L2)
    ((interface, frame),) = rig.sent
    assert interface == INTERNAL
    assert ends_of(frame) == (CLIENT, VIP, 6)


def test_ipv6_flows() -> None:
    rig, cs = ready_rig()
    client, vip = (from_text("2001:db8::7"), 40000), (from_text("2001:db8:1::10"), 80)
    node = (from_text("fd00::2"), 8080)
    cs.tell(vs_list(web_server(virt_ipaddr=vip[0])))
    rig.client_sends(SYN, client=client, vip=vip)
    cs.answer(cs.one(Query), node_ipaddr=node[0])
    ((_, frame),) = rig.sent
    assert ends_of(frame) == (client, node, 6)


def test_an_ipv6_flow_is_not_asked_of_a_cs_that_speaks_version_1() -> None:
    rig = AgentRig()
    cs = rig.cs(ssmb_versions=((1, 0),))
    cs.tell(vs_list(web_server(flags=CsmbFlag.WILDCARD_ADDR)))
    rig.client_sends(SYN, client=(from_text("2001:db8::7"), 1), vip=(from_text("fd01::1"), 80))
    assert rig.count("encode_failures") == 1
    rig.client_sends(SYN)
    cs.answer(cs.one(Query))
    assert len(rig.sent) == 1


def test_outbound_flows_are_asked_about_if_config_says_so() -> None:
    rig, cs = ready_rig()
    frame = framed(tcp_packet(NODE, CLIENT, SYN), NODE_MAC, INTERNAL_MAC)
    assert len(rig.receive(frame, INTERNAL)) == 1  # just routed
    cs.tell(Config(flags=CsmbFlag.OUTBOUND_QUERY))
    assert rig.receive(frame, INTERNAL) == []
    query = cs.one(Query)
    assert query.flags & Flag.OUTBOUND
    snat = from_text("203.0.113.1")
    flags = int(Flag.OUTBOUND | Flag.TRANSLATE_SRC | Flag.ROUTE_BY_DST_IP)
    cs.answer(query, flags=flags, snat_ipaddr=snat, snat_port=5000)
    assert ends_of(rig.sent[-1][1]) == ((snat, 5000), CLIENT, 6)


def test_cs_assist_packets_are_bridged_in_pieces_and_back() -> None:
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(flags=CsmbFlag.CS_ASSIST, protocol=17)))
    packet = udp_packet(CLIENT, VIP, bytes(3000))
    rig.receive(framed(packet, ROUTER_MAC, EXTERNAL_MAC))
    pieces = cs.take(Bridge)
    assert b"".join(piece.frag_data for piece in pieces) == packet
    assert cs.take(Query) == []
    answer = udp_packet(VIP, CLIENT, b"answer")
    cs.send(Bridge(flags=int(Flag.OUTBOUND), packet_id=1, frag_data=answer))
    ((interface, frame),) = rig.sent
    assert interface == EXTERNAL
    assert frame[42:] == b"answer"


def test_cs_assist_packets_without_a_cs_are_dropped_and_counted() -> None:
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(flags=CsmbFlag.CS_ASSIST)))
    cs.leave()
    rig.client_sends(SYN)
    assert rig.count("drop_no_cs_to_bridge") == 1


def test_a_packet_that_came_up_before_its_virtual_server_went_is_dropped() -> None:
    rig, cs = ready_rig()
    frame = framed(tcp_packet(CLIENT, VIP, SYN), ROUTER_MAC, EXTERNAL_MAC)
    rig.target.receive(EXTERNAL, frame)
    cs.connection.send(vs_list(web_server(virt_port=81)), rig.now)
    cs.exchange()
    rig.agent.handle_events(rig.target.events(), rig.now)
    assert rig.count("drop_no_virtual_server") == 1


def test_the_same_ports_after_a_close_are_another_flow_with_another_serial() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    first = cs.one(Query)
    cs.answer(first)
    close(rig)
    rig.client_sends(SYN, seq=5000)
    second = cs.one(Query)
    assert second.serial != first.serial
    cs.answer(second, node_ipaddr=from_text("10.1.1.3"))
    rig.advance(5)  # the first one's linger is over: the second must not be taken out
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.serial == second.serial


def close(rig: AgentRig, **fields: Any) -> None:
    """A whole exchange of FINs, the client first."""
    rig.node_sends(SYN | ACK, seq=9, ack=2, **fields)
    rig.client_sends(ACK, seq=2, ack=10, **fields)
    rig.client_sends(FIN | ACK, seq=2, ack=10, **fields)
    rig.node_sends(FIN | ACK, seq=10, ack=3, **fields)
    rig.client_sends(ACK, seq=3, ack=11, **fields)


def test_a_port_without_a_virtual_server_is_refused_at_once() -> None:
    rig, cs = ready_rig()
    ((interface, frame),) = rig.client_sends(SYN, vip=(VIP[0], 81), seq=9)
    assert interface == EXTERNAL
    assert ends_of(frame) == ((VIP[0], 81), CLIENT, 6)
    assert frame[14 + 20 + 13] == RST | ACK
    ((interface, frame),) = rig.client_sends_udp()
    assert interface == EXTERNAL
    assert (frame[14 + 9], frame[34], frame[35]) == (1, 3, 3)
    assert cs.take(Query) == []
    assert (rig.count("reset_sent"), rig.count("unreachable_sent")) == (1, 1)
