# SPDX-License-Identifier: Apache-2.0
"""A client's connection to a content-aware virtual server, from its first data to the splice: the
real agent, machine and target; a CS by hand (docs/design/0012)."""

import pytest

from csmb.messages import Config
from data_flow_segment.flows.answers import FIRST_S
from packets import checksum, icmp
from packets.tcp import write
from ssmb.constants import AppType, CloseReason, ErrorCode, Flag
from ssmb.messages import AppQuery, Delete, Query, Reap, Reply, Reset, Session, Stats, Sync, Timeout
from ssmb.messages import FlowState as FlowReport
from support.octets.frames import framed
from support.segments.agent_rig import (
    CLIENT,
    INTERNAL,
    INTERNAL_MAC,
    NODE,
    NODE_MAC,
    VIP,
    FakeCs,
    newflow_for,
    vs_list,
)
from support.segments.proxied_rig import (
    ACK,
    FIN,
    PSH,
    REQUEST,
    RST,
    SYN,
    Client,
    Node,
    ProxiedRig,
    proxied_server,
    signature,
)

OTHER_NODE = (NODE[0][:-1] + b"\x03", 8080)
WORD32 = 0xFFFFFFFF


def asked(rig: ProxiedRig, request: bytes = REQUEST) -> tuple[Client, AppQuery]:
    """A client whose request is at the CS."""
    client = Client(rig)
    client.connects()
    client.says(request)
    return client, rig.active.one(AppQuery)


def take_over(rig: ProxiedRig, standby: FakeCs) -> None:
    """The active CS is gone; its standby goes on."""
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    rig.settle()
    standby.tell(Config())


def spliced(rig: ProxiedRig) -> tuple[Client, Node, AppQuery]:
    """A connection that the target carries; the node has the request."""
    client, question = asked(rig)
    node = Node(rig)
    rig.decide(question)
    node.accepts()
    (request,) = node.receives()
    node.ack = request.end
    rig.advance(0.02)
    rig.active.take(FlowReport)
    return client, node, question


# --- the way of most connections -------------------------------------------------------------


def test_a_request_in_one_segment_goes_to_the_node_that_the_cs_chose() -> None:
    rig = ProxiedRig()
    client, node = Client(rig), Node(rig)
    syn_ack = client.connects()
    assert rig.handshake() is None
    assert client.says(REQUEST) == []  # the node is to acknowledge it
    question = rig.active.one(AppQuery)
    assert question.signature == signature()
    assert (question.detail, question.app_data) == (AppType.HTTP_REQUEST, REQUEST)
    assert question.flags & ~Flag.ADDR16 == 0
    rig.decide(question)
    held = rig.state()
    assert held is not None
    assert held.entry.held  # before the SYN left
    syn = node.accepts()
    assert (syn.seq, syn.options.mss) == (1000, 1460)
    (request,) = node.receives()
    assert (request.payload, request.seq, request.ack) == (REQUEST, 1001, node.seq)
    state = rig.state()
    assert state is not None
    assert not state.entry.held
    assert state.entry.flags & Flag.ADD_TCP_OFFSETS
    assert state.entry.serial == question.serial
    offsets = (state.entry.seq_offset, state.entry.ack_offset)
    assert offsets == (0, 70_000 - syn_ack.seq & WORD32)
    assert rig.is_idle()
    node.ack = request.end
    node.sends(ACK | PSH, b"hello")
    (answer,) = client.receives()
    assert (answer.payload, answer.seq, answer.ack) == (b"hello", client.ack, client.seq)
    rig.advance(0.02)
    report = rig.active.one(FlowReport)
    assert (report.serial, report.ack_offset) == (question.serial, state.entry.ack_offset)
    assert report.flags & Flag.ADD_TCP_OFFSETS
    assert rig.count("flows_spliced") == 1


def test_a_request_in_several_segments_is_acknowledged_and_kept_until_the_node_has_it() -> None:
    rig = ProxiedRig()
    client, node = Client(rig), Node(rig)
    client.connects()
    (answer,) = client.says(REQUEST[:20])
    assert answer.ack == 1021  # Nagle's algorithm waits for it
    state = rig.state()
    assert state is not None
    assert state.entry.held
    assert rig.active.take(AppQuery) == []
    client.says(REQUEST[20:])
    question = rig.active.one(AppQuery)
    assert question.app_data == REQUEST
    rig.decide(question)
    node.accepts()
    segments = [each for each in node.receives() if each.payload]
    assert b"".join(each.payload for each in segments) == REQUEST
    node.ack = segments[-1].end
    node.sends(ACK)
    state = rig.state()
    assert state is not None
    assert not state.entry.held
    node.sends(ACK | PSH, b"hello")
    assert [each.payload for each in client.receives() if each.payload] == [b"hello"]
    assert rig.is_idle()


def test_a_second_segment_that_comes_first_waits_for_the_first_one() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * 3000 + b"\r\n\r\n"
    first, second, third = long[:1460], long[1460:2920], long[2920:]
    start = client.seq
    client.sends(ACK, second, seq=start + 1460)
    assert rig.count("drop_early_segment") == 1
    assert rig.active.take(Query) == []
    client.sends(ACK, first, seq=start)
    client.sends(ACK, second, seq=start + 1460)
    client.sends(ACK | PSH, third, seq=start + 2920)
    question = rig.active.one(AppQuery)
    assert question.flags & Flag.TRUNCATED  # it does not fit
    assert question.app_data.startswith(b"GET / HTTP/1.1\r\n")


def test_a_client_that_goes_on_behind_a_first_segment_that_nobody_has_is_reset() -> None:
    """A DFS that is dead has acknowledged it; the client would repeat the second one for long."""
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    start = client.seq
    for pause_s in (0.3, 0.6, 1.2):
        client.sends(ACK, b"x" * 1460, seq=start + 1460)
        assert rig.active.take(Query) == []
        rig.advance(pause_s)
    client.sends(ACK, b"x" * 1460, seq=start + 1460)
    question = rig.active.one(Query)
    assert question.tcp_flags & (SYN | ACK) == ACK
    rig.active.answer(question, error_code=ErrorCode.UNKNOWN, flags=0)
    assert client.receives() == []  # it may be one whose first segment was small
    rig.advance(FIRST_S + 0.1)
    (reset,) = client.receives()
    assert (reset.flags, reset.seq) == (RST, client.ack)


def test_the_client_closes_and_the_cs_hears_of_it_with_the_offsets() -> None:
    rig = ProxiedRig()
    client, node, question = spliced(rig)
    client.sends(FIN | ACK)
    (fin,) = node.receives()
    assert fin.flags & FIN
    node.ack = fin.end
    node.sends(FIN | ACK)
    (answer,) = client.receives()
    client.seq, client.ack = client.seq + 1, answer.end
    client.sends(ACK)
    rig.advance(0.02)
    delete = rig.active.one(Delete)
    assert (delete.serial, delete.detail) == (question.serial, CloseReason.FIN)
    assert delete.flags & Flag.ADD_TCP_OFFSETS
    assert delete.ack_offset


def test_every_decision_has_its_source_translation() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    source = (INTERNAL_SOURCE, 50_000)
    rig.decide(
        question,
        flags=int(
            Flag.TRANSLATE_ADDR
            | Flag.TRANSLATE_PORT
            | Flag.TRANSLATE_SRC
            | Flag.ROUTE_BY_DST_IP
            | Flag.PROXY_SERVER
        ),
        snat_ipaddr=source[0],
        snat_port=source[1],
    )
    node = Node(rig)
    node.accepts(source)
    (request,) = node.receives(source)
    assert request.payload == REQUEST
    assert rig.is_idle()


INTERNAL_SOURCE = NODE[0][:-1] + b"\x01"


# --- what is asked, and when again -----------------------------------------------------------


def test_a_question_is_repeated_after_50_100_and_200_ms_and_then_every_second() -> None:
    rig = ProxiedRig()
    began = rig.now
    client, first = asked(rig)
    seen = []
    for _ in range(500):
        rig.advance(0.005)
        seen += [(rig.now - began, question) for question in rig.active.take(AppQuery)]
    assert [at for at, _ in seen] == pytest.approx([0.05, 0.15, 0.35, 1.35, 2.35], abs=0.03)
    for _, question in seen:
        assert question == first._replace(flags=first.flags | Flag.RETRY)
    rig.decide(seen[-1][1])
    Node(rig).accepts()
    assert client.receives() == []
    assert rig.is_idle()


def test_a_connection_without_a_decision_ends_with_a_reset_after_ten_seconds() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.advance(11)
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()
    assert rig.count("collecting_timeouts") == 1
    delete = rig.active.one(Delete)
    assert (delete.serial, delete.pkts_in) == (question.serial, 0)


def test_what_was_never_complete_the_cs_never_hears_of() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST[:-2])
    rig.advance(11)
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()
    assert rig.state() is None
    assert rig.active.take(AppQuery) == []
    assert rig.active.take(Delete) == []


@pytest.mark.parametrize(
    ("code", "counter"),
    [
        (ErrorCode.UNKNOWN, "refused_unknown"),
        (ErrorCode.NOTAVAIL, "refused_notavail"),
        (ErrorCode.CONNLIMIT, "refused_connlimit"),
        (ErrorCode.BUSY, "refused_connlimit"),
    ],
)
def test_a_refused_client_gets_a_reset(code: ErrorCode, counter: str) -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.decide(question, error_code=int(code))
    (reset,) = client.receives()
    assert reset.flags & RST
    assert reset.seq == client.ack
    assert rig.count(counter) == 1
    assert rig.is_idle()
    rig.advance(0.05)
    assert rig.active.take(Delete) == []  # it knows
    assert client.sends(ACK | PSH, REQUEST, seq=1001)[0].flags & RST  # for a moment, unasked
    assert rig.active.take(AppQuery) == []


def test_wait_keeps_the_connection_and_asks_every_second() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.decide(question, error_code=int(ErrorCode.WAIT), idle_timeout=30)
    rig.advance(0.9)
    assert rig.active.take(AppQuery) == []
    rig.advance(0.2)
    again = rig.active.one(AppQuery)
    rig.decide(again)
    Node(rig).accepts()
    assert rig.is_idle()
    assert client.receives() == []
    assert rig.count("flows_waited") == 1


def test_a_repeated_reply_changes_nothing() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    reply = rig.decide(question)
    node = Node(rig)
    node.receives()
    rig.active.send(reply)
    assert node.receives() == []
    rig.advance(0.25)  # the SYN again
    node.accepts()
    state = rig.state()
    rig.active.send(reply)
    assert rig.state() == state
    assert rig.count("replies_stale") == 2


def test_a_reply_of_another_group_decides_nothing() -> None:
    rig = ProxiedRig()
    other = rig.cs(3, group_id=2)
    _, question = asked(rig)
    rig.decide(question, other)
    assert rig.count("replies_invalid") == 1
    assert Node(rig).receives() == []


# --- the node ------------------------------------------------------------------------------


def test_a_node_that_refuses_is_reported_and_another_one_is_asked_for() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    rig.decide(question)
    node = Node(rig)
    (syn,) = node.receives()
    node.ack = syn.end
    node.sends(RST | ACK)
    rig.advance(0.005)
    again = rig.active.one(AppQuery)
    assert again.error_code == ErrorCode.NODEFAIL
    assert (again.serial, again.app_data) == (question.serial, question.app_data)
    assert again.flags & Flag.RETRY == 0
    rig.advance(0.06)
    repeat = rig.active.one(AppQuery)
    assert repeat.flags & Flag.RETRY
    rig.decide(question)  # once more, and late: it is about the node that has failed
    assert not node.receives()
    assert rig.count("replies_stale") == 1
    rig.decide(again, node_ipaddr=OTHER_NODE[0])
    other = Node(rig, OTHER_NODE)
    other.accepts()
    (request,) = other.receives()
    assert request.payload == REQUEST
    state = rig.state()
    assert state is not None
    assert state.entry.node_ipaddr == OTHER_NODE[0]
    assert rig.count("nodes_refused") == 1


def test_three_nodes_that_are_silent_end_it_with_a_reset_and_nodefail() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    for number in range(2):
        rig.decide(question, node_ipaddr=NODE[0][:-1] + bytes((90 + number,)))
        rig.advance(3.2)
        question = rig.active.take(AppQuery)[-1]
        assert question.error_code == ErrorCode.NODEFAIL
    rig.decide(question)
    rig.advance(3.2)
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()
    delete = rig.active.one(Delete)
    assert (delete.detail, delete.error_code) == (CloseReason.NODE_FAIL, ErrorCode.NODEFAIL)
    assert rig.count("handshakes_failed") == 1
    assert rig.state() is None


def test_an_icmp_error_about_the_syn_is_a_refusal_and_a_made_up_one_is_not() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    rig.decide(question)
    (syn,) = Node(rig).receives()
    for seq, refused in ((syn.seq + 70_000, 0), (syn.seq, 1)):
        quoted = write(syn._replace(seq=seq), Session(CLIENT[0], NODE[0], CLIENT[1], NODE[1], 6))
        error = bytearray(b"\x03\x01\x00\x00\x00\x00\x00\x00" + quoted)
        error[2:4] = checksum.compute(error).to_bytes(2, "big")
        packet = icmp.ipv4_header(NODE[0], CLIENT[0], 1, len(error)) + bytes(error)
        rig.receive(framed(packet, NODE_MAC, INTERNAL_MAC), INTERNAL)
        assert len(rig.active.take(AppQuery)) == refused


def test_a_decision_that_cannot_be_installed_is_reported_and_the_client_reset() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.decide(question, node_ipaddr=VIP[0])  # its packets could go round
    assert client.receives()[-1].flags & RST
    rig.advance(0.02)
    assert rig.active.one(Delete).error_code == ErrorCode.NORESOURCE
    assert rig.is_idle()


# --- the client ----------------------------------------------------------------------------


def test_a_client_that_resets_while_it_waits_is_reported_as_such() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.decide(question)
    client.sends(RST)
    rig.advance(0.02)
    assert rig.active.one(Delete).detail == CloseReason.CLIENT_ABORT
    assert rig.is_idle()
    assert rig.state() is None


def test_a_repeat_of_the_request_asks_nothing_again() -> None:
    rig = ProxiedRig()
    client, _ = asked(rig)
    client.sends(ACK | PSH, REQUEST, seq=1001)
    assert rig.active.take(AppQuery) == []
    assert rig.count("proxied_connections") == 1


def test_another_connection_from_the_same_port_takes_the_place_of_the_first() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    client = Client(rig, isn=500_000)
    client.connects()
    client.says(REQUEST)
    rig.advance(0.02)
    second = rig.active.one(AppQuery)
    assert second.serial != question.serial
    assert rig.active.one(Delete).serial == question.serial
    rig.decide(second)
    assert Node(rig).accepts().seq == 500_000


def test_what_is_no_http_is_refused_at_once() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    (reset,) = client.says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert reset.flags & RST
    assert rig.active.take(AppQuery) == []
    assert rig.count("content_refused") == 1
    assert rig.is_idle()


def test_too_many_connections_are_refused_and_those_that_are_there_go_on() -> None:
    rig = ProxiedRig()
    rig.agent.handshakes.table._handshakes_max = 1
    _, question = asked(rig)
    second = Client(rig, (CLIENT[0], 40_001))
    second.connects()
    assert second.says(REQUEST)[0].flags & RST
    assert rig.count("collecting_full") == 1
    rig.decide(question)
    Node(rig).accepts()
    assert rig.count("flows_spliced") == 1


def test_octets_of_all_connections_are_bounded() -> None:
    rig = ProxiedRig()
    rig.agent.handshakes.table._octets_max = 150
    asked(rig)
    second = Client(rig, (CLIENT[0], 40_001))
    second.connects()
    assert second.says(REQUEST)[0].flags & RST
    assert rig.count("collecting_full") == 1


# --- CSs and agents that come and go ---------------------------------------------------------


def test_another_active_cs_is_asked_at_once_about_what_waits() -> None:
    rig = ProxiedRig()
    standby = rig.cs(2, active=False, flags=rig.active.settings.flags)
    client, question = asked(rig)
    take_over(rig, standby)
    again = standby.one(AppQuery)
    assert again == question._replace(flags=question.flags | Flag.RETRY)
    rig.decide(again, standby)
    Node(rig).accepts()
    assert client.receives() == []
    rig.advance(0.02)
    assert standby.one(FlowReport).flags & Flag.ADD_TCP_OFFSETS


def test_a_take_over_in_the_middle_of_a_handshake_with_the_node_disturbs_nothing() -> None:
    rig = ProxiedRig()
    standby = rig.cs(2, active=False, flags=rig.active.settings.flags)
    _, question = asked(rig)
    rig.decide(question)
    assert standby.one(Reply).serial == question.serial  # a copy
    take_over(rig, standby)
    Node(rig).accepts()
    rig.advance(0.02)
    assert standby.one(FlowReport).serial == question.serial
    assert standby.take(AppQuery) == []
    assert rig.is_idle()


def test_while_there_is_no_cs_it_waits_and_the_next_one_is_asked() -> None:
    rig = ProxiedRig()
    client, _ = asked(rig)
    rig.active.leave()
    rig.advance(4)
    other = rig.cs(2, role_epoch=2, flags=rig.active.settings.flags)
    rig.decide(other.take(AppQuery)[0], other)
    Node(rig).accepts()
    assert client.receives() == []
    assert rig.count("flows_spliced") == 1


def test_a_reset_ends_what_is_not_spliced() -> None:
    rig = ProxiedRig()
    client, _ = asked(rig)
    rig.active.send(Reset(reset_id=5))
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()


def test_a_virtual_server_that_is_removed_meanwhile_keeps_what_it_began() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    rig.active.tell(vs_list(proxied_server(virt_port=81)))
    rig.decide(question)
    Node(rig).accepts()
    assert rig.count("flows_spliced") == 1


def test_a_spliced_flow_that_was_idle_comes_back_by_query_with_its_offsets() -> None:
    rig = ProxiedRig()
    client, node, question = spliced(rig)
    state = rig.state()
    assert state is not None
    rig.advance(301, sweep=True)
    rig.advance(1.5)
    idle = [each for each in rig.active.take(Delete) if not each.flags & Flag.RETRY]
    assert [(each.detail, each.serial) for each in idle] == [(CloseReason.IDLE, question.serial)]
    assert rig.state() is None
    client.says(b"more")
    query = rig.active.one(Query)
    assert query.tcp_flags & SYN == 0
    entry = state.entry
    rig.active.answer(
        query,
        flags=entry.flags & ~int(Flag.PROXY_SERVER),
        seq_offset=entry.seq_offset,
        ack_offset=entry.ack_offset,
    )
    (more,) = node.receives()
    assert (more.payload, more.ack) == (b"more", node.seq)


def test_a_mid_session_segment_that_no_cs_knows_is_reset() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.ack = 77
    client.seq = 5
    client.says(b"hello")
    query = rig.active.one(Query)
    rig.active.answer(query, error_code=int(ErrorCode.UNKNOWN), flags=0)
    rig.advance(FIRST_S + 0.1)
    (reset,) = client.receives()
    assert reset.flags & RST
    assert reset.seq == 77


def test_other_kinds_of_newflow_for_nobody_are_refused() -> None:
    rig = ProxiedRig()
    flow = newflow_for(0x8100_0001)
    rig.active.send(flow._replace(flags=flow.flags | int(Flag.PROXY_SERVER)))
    rig.advance(0.02)
    delete = rig.active.one(Delete)
    assert (delete.detail, delete.error_code) == (CloseReason.CLIENT_ABORT, 0)  # no node's fault


def test_a_connection_that_waits_is_active_unless_its_cs_ends_it() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    where = question.signature._asdict()
    rig.active.send(Timeout(serial=question.serial, idle_limit=1, **where))
    rig.advance(0.02)
    assert rig.active.one(Stats).error_code == ErrorCode.CONNALIVE
    rig.active.send(Reap(serial=question.serial, detail=CloseReason.ADMIN, **where))
    rig.advance(0.02)
    assert rig.active.one(Delete).detail == CloseReason.ADMIN
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()


def test_a_flow_is_not_idle_while_its_data_are_collected() -> None:
    rig = ProxiedRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST[:20])
    rig.advance(6, sweep=True)  # a half-open flow would be gone
    assert rig.state() is not None
    client.says(REQUEST[20:])
    assert rig.active.one(AppQuery).app_data == REQUEST


def test_room_in_a_full_table_is_made_by_connections_that_have_no_node() -> None:
    rig = ProxiedRig(flow_capacity=1)
    first = Client(rig)
    first.connects()
    first.says(REQUEST[:20])
    rig.advance(2)
    second = Client(rig, (CLIENT[0], 40_001))
    second.connects()
    second.says(REQUEST)
    rig.decide(rig.active.one(AppQuery))
    Node(rig).accepts(second.end)
    assert first.receives()[-1].flags & RST
    assert rig.count("evictions_half_open") == 1
    assert rig.count("flows_spliced") == 1


# --- the agent is restarted ------------------------------------------------------------------


def test_a_new_agent_takes_the_repeat_of_a_request_that_the_one_before_had_asked_about() -> None:
    before = ProxiedRig()
    client, _ = asked(before)
    rig = ProxiedRig(data_path=before.target.data_path)
    client.rig = rig
    client.sends(ACK | PSH, REQUEST, seq=1001)
    rig.decide(rig.active.one(AppQuery))
    Node(rig).accepts()
    assert rig.count("flows_spliced") == 1


def test_a_new_agent_goes_on_with_a_handshake_by_the_repeat_of_the_request() -> None:
    before = ProxiedRig()
    client, question = asked(before)
    before.decide(question)
    rig = ProxiedRig(data_path=before.target.data_path)
    client.rig = rig
    client.sends(ACK | PSH, REQUEST, seq=1001)
    assert rig.active.take(AppQuery) == []  # its node is known
    Node(rig).accepts()
    assert rig.count("flows_spliced") == 1
    state = rig.state()
    assert state is not None
    assert state.entry.serial == question.serial
    assert not state.entry.held


def test_what_a_new_agent_cannot_go_on_with_is_reset() -> None:
    before = ProxiedRig()
    client = Client(before)
    client.connects()
    client.says(REQUEST[:20])
    rig = ProxiedRig(data_path=before.target.data_path)
    client.rig = rig
    rig.advance(5)
    (reset,) = client.says(REQUEST[20:])  # its first octets were acknowledged
    assert reset.flags & RST
    assert rig.state() is None
    assert rig.count("held_orphans") == 1


def test_the_client_hears_of_it_in_its_own_numbers_whoever_spoke_before() -> None:
    before = ProxiedRig()
    client = Client(before)
    client.connects()
    client.says(REQUEST[:20])
    client.says(REQUEST[20:])
    before.decide(before.active.take(AppQuery)[-1])
    node = Node(before)
    node.accepts()  # it has not acknowledged yet what was acknowledged to the client
    rig = ProxiedRig(data_path=before.target.data_path)
    client.rig = node.rig = rig
    rig.advance(5)
    node.sends(ACK | PSH, b"an answer")
    assert client.receives() == []
    (reset,) = client.says(b"again")
    assert reset.flags & RST
    assert reset.seq == client.ack
    assert rig.state() is None


def test_a_held_entry_whose_client_is_silent_goes_by_itself() -> None:
    before = ProxiedRig()
    client = Client(before)
    client.connects()
    client.says(REQUEST[:20])
    rig = ProxiedRig(data_path=before.target.data_path)
    rig.advance(6, sweep=True)
    assert rig.state() is None
    assert rig.count("held_orphans") == 1


def test_before_a_cs_has_said_what_a_virtual_server_is_its_clients_wait() -> None:
    before = ProxiedRig()
    client = Client(before)
    client.connects()
    rig = ProxiedRig(data_path=before.target.data_path, with_cs=False)
    client.rig = rig
    assert client.says(REQUEST) == []
    assert rig.count("drop_kind_unknown") == 1
    assert rig.is_idle()
    rig.connect()
    client.sends(ACK | PSH, REQUEST, seq=1001)
    assert rig.active.one(AppQuery).app_data == REQUEST


def test_a_virtual_server_that_becomes_plain_leaves_what_it_began_alone() -> None:
    rig = ProxiedRig()
    client, question = asked(rig)
    rig.active.tell(vs_list())
    assert rig.target.virtual_servers()[0].proxied is False
    rig.decide(question)
    Node(rig).accepts()
    assert rig.count("flows_spliced") == 1
    assert client.receives() == []
    Client(rig, (CLIENT[0], 40_001)).sends(SYN)
    assert rig.active.one(Query).tcp_flags == SYN


def test_a_spliced_flow_survives_the_agent() -> None:
    before = ProxiedRig()
    client, node, _ = spliced(before)
    rig = ProxiedRig(data_path=before.target.data_path)
    client.rig = node.rig = rig
    client.says(b"more")
    (more,) = node.receives()
    assert (more.payload, more.ack) == (b"more", node.seq)
    rig.active.send(Sync(sync_id=1))
    rig.advance(0.1)
    (report,) = rig.active.take(FlowReport)
    assert report.flags & Flag.ADD_TCP_OFFSETS
    assert report.ack_offset


def test_a_flow_that_is_not_spliced_is_reported_as_such_and_without_a_node_not_at_all() -> None:
    rig = ProxiedRig()
    _, question = asked(rig)
    second = Client(rig, (CLIENT[0], 40_001))
    second.connects()
    second.says(REQUEST[:20])
    rig.decide(question)
    rig.active.send(Sync(sync_id=1))
    rig.advance(0.1)
    (report,) = rig.active.take(FlowReport)
    assert report.serial == question.serial
    assert report.flags & (Flag.PROXY_SERVER | Flag.ADD_TCP_OFFSETS) == Flag.PROXY_SERVER
