# SPDX-License-Identifier: Apache-2.0
"""The agent beside a target that splices by itself (docs/design/0012): it hears of nothing, or it
goes on with a connection that the target leaves to it."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows.answers import FIRST_S
from data_flow_segment.targets.contract import Event
from packets.parse import parse
from packets.tcp import Options
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import UDP, CloseReason, ErrorCode, Flag
from ssmb.messages import AppQuery, Delete, Query
from ssmb.messages import FlowState as FlowReport
from support.octets.frames import framed, udp_packet
from support.segments.agent_rig import (
    DFS_ENDPOINT,
    EXTERNAL,
    EXTERNAL_MAC,
    ROUTER_MAC,
    TRANSLATE,
    reply_to,
)
from support.segments.proxied_rig import (
    ACK,
    OPTIONS,
    PSH,
    REQUEST,
    RST,
    SYN,
    Client,
    Node,
    ProxiedRig,
    decision,
    proxied_server,
)

SERIAL_KEY = bytes(range(16))
PARKED = TRANSLATE | int(Flag.PROXY_SERVER | Flag.PARKED)
OTHER = (from_text("10.1.1.3"), 8080)


class ShortRig(ProxiedRig):
    """The target asks the CS by itself."""

    def __init__(self, *entries: Any, **fields: Any) -> None:
        super().__init__(*entries, serial_key=SERIAL_KEY, **fields)

    def asked(self) -> AppQuery:
        """The question that the target has sent."""
        (question,) = self.questions()
        return question

    def questions(self) -> list[AppQuery]:
        left = []
        for interface, frame in self.sent:
            packet = parse(frame)
            if packet.protocol == UDP:
                self.active.deliver(bytes(packet.data[packet.l4 + 8 : packet.end]))
            else:
                left.append((interface, frame))
        self.sent = left
        return self.active.take(AppQuery)

    def answer(self, question: AppQuery, **changes: Any) -> None:
        """The REPLY comes in, and passes the target."""
        chosen = {"flags": PARKED, "idle_timeout": 60, "frame": question.frame, **changes}
        reply = decision(question, **chosen)
        cs, dfs = ((from_text(end[0]), end[1]) for end in (self.active.endpoint, DFS_ENDPOINT))
        packet = udp_packet(cs, dfs, self.active.seal(encode(reply, 2)))
        self.receive(framed(packet, ROUTER_MAC, EXTERNAL_MAC), EXTERNAL)

    def value(self, name: str) -> int:
        return self.target.counters()[name].value


def begun() -> tuple[ShortRig, Client, Node, AppQuery]:
    """A client has said what it wants, and the node has a SYN."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    assert client.says(REQUEST) == []
    question = rig.asked()
    rig.answer(question)
    return rig, client, Node(rig), question


def test_the_agent_hears_nothing_of_what_goes_well() -> None:
    rig, client, node, question = begun()
    syn = node.accepts()
    assert (syn.flags, syn.seq) == (SYN, client.seq - len(REQUEST) - 1)
    (request,) = node.receives()
    assert (request.payload, request.ack) == (REQUEST, node.seq)
    node.ack = client.seq
    node.sends(ACK | PSH, b"HTTP/1.1 200 OK\r\n\r\n")
    (answer,) = client.receives()
    assert (answer.seq, answer.ack) == (client.ack, client.seq)
    assert rig.is_idle()
    assert rig.active.inbox == []
    for name in ("proxied_connections", "flows_spliced", "short_taken_over"):
        assert rig.count(name) == 0
    assert rig.value("short_spliced") == 1
    state = rig.state()
    assert state is not None
    assert state.entry.serial == question.serial


def test_a_node_that_refuses_is_reported_and_another_gets_the_request() -> None:
    rig, client, node, question = begun()
    (syn,) = node.receives()
    node.ack = syn.seq + 1
    node.sends(RST | ACK)
    again = rig.active.one(AppQuery)
    assert (again.serial, again.error_code) == (question.serial, ErrorCode.NODEFAIL)
    assert again.app_data == REQUEST
    assert node.receives() == []  # no other SYN, which would be refused, too
    rig.decide(again, node_ipaddr=OTHER[0], node_port=OTHER[1])
    other = Node(rig, OTHER)
    other.accepts()
    assert [each.payload for each in other.receives()] == [REQUEST]
    assert rig.is_idle()
    assert (rig.count("short_taken_over"), rig.count("flows_spliced")) == (1, 1)
    assert client.receives() == []


def test_a_node_that_refuses_an_option_is_relayed_to() -> None:
    rig, client, node, _ = begun()
    node.accepts(options=Options(mss=1460))
    (request,) = node.receives()
    assert (request.payload, request.window) == (REQUEST, 65535)
    handshake = rig.handshake()
    assert handshake is not None
    node.ack = client.seq
    node.sends(ACK | PSH, b"answer")
    assert [each.payload for each in client.receives()] == [b"answer"]
    state = rig.state()
    assert state is not None
    assert state.entry.held
    assert not state.entry.flags & Flag.PARKED


def test_a_silent_node_gets_the_syn_again_once_the_client_says_it_again() -> None:
    rig, client, node, question = begun()
    assert len(node.receives()) == 1
    rig.advance(0.3)
    assert node.receives() == []
    (answer,) = client.sends(ACK | PSH, REQUEST, seq=client.seq - len(REQUEST))
    assert answer.ack == client.seq  # the agent answers for the octets now
    assert rig.count("short_taken_over") == 1
    rig.advance(0.25)
    node.accepts()
    assert [each.payload for each in node.receives()] == [REQUEST]
    node.ack = client.seq
    node.sends(ACK)
    state = rig.state()
    assert state is not None
    assert (state.entry.serial, state.entry.held) == (question.serial, False)


def test_a_node_that_stays_silent_is_given_up() -> None:
    rig, client, _, question = begun()
    client.sends(ACK | PSH, REQUEST, seq=client.seq - len(REQUEST))
    rig.advance(3.1)
    asked = {(each.serial, each.error_code) for each in rig.active.take(AppQuery)}
    assert asked == {(question.serial, ErrorCode.NODEFAIL)}


def test_what_the_client_says_next_waits_for_the_node() -> None:
    rig, client, node, _ = begun()
    assert client.says(b"more") == []
    assert rig.count("short_taken_over") == 1
    node.accepts()
    assert b"".join(each.payload for each in node.receives()) == REQUEST + b"more"
    assert rig.is_idle()


def test_a_client_that_goes_away_ends_it() -> None:
    rig, client, node, question = begun()
    client.sends(RST | ACK)
    assert rig.is_idle()
    assert rig.state() is None
    rig.advance(0.1)
    deleted = rig.active.one(Delete)
    assert (deleted.serial, deleted.detail) == (question.serial, CloseReason.CLIENT_ABORT)
    assert [each.flags & (SYN | RST) for each in node.receives()] == [SYN, RST]


def test_the_node_has_answered_only_just() -> None:
    """Its answer is behind what made the target leave the flow to the agent."""
    rig, client, node, _ = begun()
    (syn,) = node.receives()
    node.ack = syn.seq + 1
    kept: list[Event] = []
    events = rig.agent.handle_events
    with pytest.MonkeyPatch.context() as patch:  # the agent is slow
        patch.setattr(rig.agent, "handle_events", lambda found, _: kept.extend(found))
        client.sends(ACK | PSH, b"more")
        node.sends(SYN | ACK, options=OPTIONS)
    assert len(kept) == 3
    events(kept, rig.now)
    rig.settle()
    assert b"".join(each.payload for each in node.receives()) == REQUEST + b"more"
    assert rig.is_idle()


# --- what comes before there is a flow -------------------------------------------------------


def test_what_is_said_during_the_question_goes_to_the_node() -> None:
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST)
    question = rig.asked()
    assert client.says(b"a body") == []
    assert rig.count("short_early") == 1
    assert rig.active.take(Query) == []
    rig.answer(question)
    node = Node(rig)
    node.accepts()
    assert [each.payload for each in node.receives()] == [REQUEST]
    rig.advance(0.05)
    assert [each.payload for each in node.receives()] == [b"a body"]
    assert len(rig.agent.new_flows.behind_first) == 0
    assert rig.count("short_taken_over") == 0


def test_what_is_said_before_more_is_wanted_joins_the_rest() -> None:
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST[:20])
    question = rig.asked()
    client.says(REQUEST[20:])
    rig.answer(question, error_code=int(ErrorCode.MORE), flags=int(Flag.PARKED))
    rig.active.send(
        decision(
            question, error_code=int(ErrorCode.MORE), flags=int(Flag.PARKED), frame=question.frame
        )
    )  # it was the agent's
    rig.advance(0.05)
    again = rig.active.one(AppQuery)
    assert (again.serial, again.app_data) == (question.serial, REQUEST)
    assert rig.active.take(Query) == []


def said_again() -> tuple[ShortRig, Client, Node, AppQuery]:
    """A client has said half of its request, and then all of it; the target asked about both."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST[:20])
    first = rig.asked()
    client.seq -= 20
    client.says(REQUEST)
    second = rig.asked()
    assert second.serial == first.serial
    rig.answer(second)
    return rig, client, Node(rig), first


@pytest.mark.parametrize("is_spliced", [False, True], ids=["handshake", "spliced"])
def test_a_late_answer_that_wants_more_changes_nothing(is_spliced: bool) -> None:
    """The client has said more since, and the target goes on by the answer about that."""
    rig, client, node, first = said_again()
    if is_spliced:
        node.accepts()
    more = {"error_code": int(ErrorCode.MORE), "flags": int(Flag.PARKED), "frame": first.frame}
    rig.active.send(decision(first, **more))
    rig.advance(0.05)
    assert (rig.count("short_ahead"), rig.count("proxied_connections")) == (1, 0)
    assert rig.active.inbox == []
    assert client.receives() == []
    if not is_spliced:
        node.accepts()
    (request,) = node.receives()
    assert (request.flags & SYN, request.payload) == (0, REQUEST)
    rig.advance(5)
    assert node.receives() == []
    assert rig.is_idle()


def test_the_agents_own_answer_does_not_begin_it_again() -> None:
    """The agent asked while the target could not, and the client's repeat passed the target."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST)
    first = rig.asked()
    later = {"flags": int(Flag.PARKED), "frame": first.frame}
    rig.active.send(decision(first, error_code=int(ErrorCode.MORE), **later))
    rig.active.take(AppQuery)
    handshake = rig.handshake()
    assert handshake is not None
    handshake.installed = False
    state = rig.state()
    assert state is not None
    rig.target.data_path.table.remove(state.entry.signature)
    rig.answer(first)
    node = Node(rig)
    node.accepts()
    assert [each.payload for each in node.receives()] == [REQUEST]
    rig.active.send(decision(first, flags=int(TRANSLATE | Flag.PROXY_SERVER), idle_timeout=60))
    rig.advance(5)
    assert node.receives() == []
    assert rig.handshake() is None
    assert rig.count("short_ahead") == 1
    spliced = rig.state()
    assert spliced is not None
    assert not spliced.entry.held


def test_what_the_target_enters_while_the_agent_begins_stays() -> None:
    """The agent has looked, and the target's answer comes before its entry."""
    rig, client, node, first = said_again()
    state = rig.state()
    assert state is not None
    rig.target.data_path.table.remove(state.entry.signature)
    more = {"error_code": int(ErrorCode.MORE), "flags": int(Flag.PARKED), "frame": first.frame}
    datagram = rig.active.seal(encode(decision(first, **more), 2))
    rig.agent.receive_datagram(datagram, rig.active.endpoint, rig.now)
    rig.target.data_path.table.install(state.entry, rig.now)
    rig.settle()
    assert rig.handshake() is None
    node.accepts()
    assert b"".join(each.payload for each in node.receives()) == REQUEST
    rig.advance(5)
    assert node.receives() == []
    assert [each for each in client.receives() if each.flags & RST] == []
    assert rig.count("short_ahead") == 1


def test_a_question_that_is_lost_is_asked_again_by_the_clients_repeat() -> None:
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST)
    first = rig.asked()
    client.says(b"a body")
    rig.advance(0.4)
    assert rig.active.take(Query) == []  # nobody is asked whose the second one is
    client.sends(ACK | PSH, REQUEST, seq=client.seq - len(REQUEST) - 6)
    second = rig.asked()
    assert second.serial == first.serial
    rig.answer(second)
    node = Node(rig)
    node.accepts()
    rig.advance(1)
    assert b"".join(each.payload for each in node.receives()) == REQUEST + b"a body"


def test_it_does_not_wait_for_ever() -> None:
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.says(REQUEST)
    rig.questions()
    client.says(b"a body")
    rig.advance(10)
    assert len(rig.agent.new_flows.behind_first) == 0
    assert rig.count("drop_early_segment") == 1
    client.sends(ACK | PSH, b"late")
    assert len(rig.active.take(Query)) == 1  # of a connection that may have slept


def test_a_tls_connection_is_the_agents() -> None:
    rig = ShortRig(proxied_server(CsmbFlag.SSL_PROXY))
    client = Client(rig)
    client.connects()
    client.says(b"\x16\x03\x01\x00\x05")
    assert rig.questions() == []
    assert rig.handshake() is not None


def overtaken() -> tuple[ShortRig, Client, AppQuery]:
    """A client's second segment came first, and no CS knows its connection."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    assert client.sends(ACK | PSH, REQUEST[20:], seq=client.seq + 20) == []
    rig.active.send(reply_to(rig.active.one(Query), error_code=int(ErrorCode.UNKNOWN)))
    client.says(REQUEST[:20])
    client.seq += len(REQUEST[20:])
    return rig, client, rig.asked()


def test_more_is_wanted_and_is_there() -> None:
    rig, _, question = overtaken()
    more = {"error_code": int(ErrorCode.MORE), "flags": int(Flag.PARKED), "frame": question.frame}
    rig.active.send(decision(question, **more))
    again = rig.active.one(AppQuery)
    assert (again.serial, again.app_data) == (question.serial, REQUEST)


def test_what_a_cs_knew_of_a_later_segment_does_not_undo_the_splice() -> None:
    """Its QUERY was answered once the connection was known: by an entry without offsets."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.sends(ACK | PSH, REQUEST[20:], seq=client.seq + 20)
    query = rig.active.one(Query)
    client.says(REQUEST)
    rig.answer(rig.asked())
    node = Node(rig)
    node.accepts()
    before = rig.state()
    assert before is not None
    rig.active.send(reply_to(query))
    after = rig.state()
    assert after is not None
    assert (after.entry, after.entry.held) == (before.entry, False)
    payloads = [each.payload for each in node.receives()]
    assert payloads == [REQUEST, REQUEST[20:]]
    rig.advance(0.1)
    (told,) = rig.active.take(FlowReport)
    assert told.serial == before.entry.serial


def test_no_reset_for_what_came_first_once_the_connection_is_over() -> None:
    """Its first segment was lost, and the repeat had all of it, so that nothing waits for this."""
    rig = ShortRig()
    client = Client(rig)
    client.connects()
    client.sends(ACK | PSH, REQUEST[20:], seq=client.seq + 20)
    rig.active.send(reply_to(rig.active.one(Query), error_code=int(ErrorCode.UNKNOWN)))
    client.says(REQUEST)
    rig.answer(rig.asked())
    node = Node(rig)
    node.accepts()
    node.ack = client.seq
    node.sends(RST | ACK)
    (reset,) = client.receives()
    assert reset.flags & RST
    rig.advance(FIRST_S + 0.1)
    assert client.receives() == []
    assert (rig.count("refused_unknown"), rig.count("drop_early_segment")) == (0, 1)
    assert not rig.agent.new_flows.pending.by_session


def test_no_reset_for_what_overtook_a_first_segment_that_was_enough() -> None:
    rig, client, question = overtaken()
    rig.answer(question)
    node = Node(rig)
    node.accepts()
    assert [each.payload for each in node.receives()] == [REQUEST[:20]]
    rig.advance(5)
    assert client.receives() == []
    assert [each.payload for each in node.receives()] == [REQUEST[20:]]
    assert not rig.agent.new_flows.pending.by_session
