# SPDX-License-Identifier: Apache-2.0
"""The agent beside a target that asks about flows and ends them by itself: REPLYs with PARKED that
were left to it, messages that the target finished."""

from __future__ import annotations

import pytest

from admin.answers import TRACE
from admin.arguments import Arguments
from csmb.messages import Config
from data_flow_segment.inspection import COMMANDS
from data_flow_segment.targets.contract import FinishedMessages
from packets.parse import ETHERNET, parse
from ssmb.addresses import to_text
from ssmb.codec import encode
from ssmb.constants import BATCH_DELAY_MS, ErrorCode, Flag, MessageType
from ssmb.messages import Delete, FlowSignature, Query, Reply
from ssmb.serials import derived
from support.octets.frames import ACK, FIN, RST, SYN
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    INTERNAL,
    TRANSLATE,
    VIP,
    AgentRig,
    FakeCs,
    reply_to,
    vs_list,
)

SERIAL_KEY = bytes(range(16))
SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6, 0)
PARKED = TRANSLATE | int(Flag.PARKED)


def new_rig() -> tuple[AgentRig, FakeCs]:
    rig = AgentRig(serial_key=SERIAL_KEY)
    cs = rig.cs()
    cs.tell(Config())
    cs.tell(vs_list())
    return rig, cs


def asked(rig: AgentRig, cs: FakeCs, flags: int = SYN, seq: int = 100) -> Query:
    """The client's SYN leaves as a QUERY of the target's own."""
    (sent,) = rig.client_sends(flags, seq=seq)
    assert sent[0] == EXTERNAL
    packet = parse(sent[1])
    cs.deliver(bytes(packet.data[packet.l4 + 8 : packet.end]))
    return cs.one(Query)


def returned(rig: AgentRig, cs: FakeCs, query: Query, **changes: object) -> list[tuple[int, bytes]]:
    """A REPLY with the frame comes to the agent's socket; what leaves because of it."""
    before = len(rig.sent)
    cs.send(reply_to(query, **{"flags": PARKED, "frame": query.frame, **changes}))
    return rig.sent[before:]


def count(rig: AgentRig, name: str) -> int:
    return rig.count(name)


def test_the_agent_knows_nothing_of_what_the_target_asked() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    assert query.serial == derived(SERIAL_KEY, SIGNATURE.session, 100)
    assert count(rig, "new_flows") == 0
    assert rig.agent.new_flows.pending.by_session == {}


def test_a_decision_that_was_left_to_it_is_carried_out_with_its_packet() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    ((interface, frame),) = returned(rig, cs, query, idle_timeout=30)
    assert interface == INTERNAL
    assert parse(frame).tcp_flags == SYN
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert (state.entry.serial, state.counters.pkts_in) == (query.serial, 1)
    assert state.half_open
    # once more: the packet goes, the flow is the same
    assert len(returned(rig, cs, query, idle_timeout=30)) == 1
    assert rig.target.flow_count() == 1


def test_one_without_a_frame_installs_only() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    assert returned(rig, cs, query, frame=b"") == []
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert (state.entry.serial, state.counters.pkts_in) == (query.serial, 0)


def test_a_refused_flow_is_refused_to_its_client_and_left_to_the_agent() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    ((interface, frame),) = returned(
        rig, cs, query, flags=int(Flag.PARKED), error_code=ErrorCode.NOTAVAIL
    )
    assert interface == EXTERNAL
    assert parse(frame).tcp_flags & RST
    assert rig.target.lookup(SIGNATURE) is None
    again = rig.client_sends(SYN, seq=100)  # the target does not ask: the agent knows the answer
    assert [parse(frame).tcp_flags & RST for _, frame in again] == [RST]
    assert cs.take(Query) == []
    rig.advance(60)
    assert asked(rig, cs).serial == query.serial


def test_a_flow_that_is_to_wait_is_asked_about_by_the_agent() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    wait = {"flags": int(Flag.PARKED), "error_code": ErrorCode.WAIT, "idle_timeout": 10}
    assert returned(rig, cs, query, **wait) == []
    assert count(rig, "flows_waited") == 1
    rig.advance(1.1)
    repeated = cs.take(Query)[-1]
    assert (repeated.serial, repeated.signature) == (query.serial, query.signature)
    before = len(rig.sent)
    cs.send(reply_to(repeated))
    ((interface, frame),) = rig.sent[before:]
    assert (interface, parse(frame).tcp_flags) == (INTERNAL, SYN)
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert (state.entry.serial, state.counters.pkts_in) == (query.serial, 1)


def test_a_packet_that_comes_up_has_the_targets_serial() -> None:
    """Both may ask about one flow: for the CS it is one."""
    rig, cs = new_rig()
    query = asked(rig, cs)
    refused = {"flags": int(Flag.PARKED), "error_code": ErrorCode.WAIT, "idle_timeout": 10}
    returned(rig, cs, query, **refused)
    cs.inbox.clear()
    data = rig.client_sends(SYN, seq=100)  # its repeat; the target asks
    packet = parse(data[0][1])
    cs.deliver(bytes(packet.data[packet.l4 + 8 : packet.end]))
    rig.advance(1.1)
    assert {each.serial for each in cs.take(Query)} == {query.serial}


# --- finished messages ----------------------------------------------------------------------------


def closed_flow(rig: AgentRig, cs: FakeCs) -> int:
    """A connection from its SYN to its end; its serial."""
    query = asked(rig, cs)
    returned(rig, cs, query, idle_timeout=30)
    rig.node_sends(SYN | ACK, seq=500, ack=101)
    rig.client_sends(ACK, seq=101, ack=501)
    rig.client_sends(FIN | ACK, seq=101, ack=501)
    rig.node_sends(FIN | ACK, seq=501, ack=102)
    rig.client_sends(ACK, seq=102, ack=502)
    return query.serial


def test_deletes_of_the_target_leave_in_batches() -> None:
    rig, cs = new_rig()
    serial = closed_flow(rig, cs)
    assert cs.take(Delete) == []
    rig.advance(BATCH_DELAY_MS / 1000)
    delete = cs.one(Delete)
    assert (delete.serial, delete.signature, delete.detail) == (serial, SIGNATURE, 1)
    assert (delete.pkts_in, delete.pkts_out) == (4, 2)
    assert count(rig, "flows_closed") == 1
    assert rig.agent.outbox.sent["Delete"] == 1
    assert rig.agent.endings.ended.lingering == {}  # the target takes it out
    rig.advance(2.1, sweep=True)
    assert rig.target.lookup(SIGNATURE) is None


def finish(rig: AgentRig, *deletes: Delete, group_id: int = 1) -> None:
    octets = b"".join(encode(each, 2) for each in deletes)
    event = FinishedMessages(group_id, int(MessageType.DELETE), octets)
    rig.agent.handle_events([event], rig.now)
    rig.settle()


def test_standbys_get_copies_of_deletes_and_replies() -> None:
    rig, cs = new_rig()
    standby = rig.cs(2, active=False)
    deletes = [Delete(serial=number, flags=int(Flag.ADDR16)) for number in (1, 2, 3)]
    finish(rig, *deletes)
    rig.advance(BATCH_DELAY_MS / 1000)
    assert cs.take(Delete) == deletes
    replica = int(Flag.ADDR16 | Flag.REPLICA)
    assert standby.take(Delete) == [each._replace(flags=replica) for each in deletes]
    reply = Reply(serial=9, flags=int(Flag.ADDR16), idle_timeout=3)
    octets = encode(reply, 2)
    rig.agent.handle_events([FinishedMessages(1, int(MessageType.REPLY), octets * 2)], rig.now)
    rig.settle()
    assert standby.take(Reply) == [reply._replace(flags=replica)] * 2
    assert cs.take(Reply) == []


def test_what_has_waited_in_the_target_waits_no_longer() -> None:
    rig, cs = new_rig()
    finish(rig, Delete(serial=1))
    assert cs.take(Delete) == []
    event = FinishedMessages(1, int(MessageType.DELETE), encode(Delete(serial=2), 2))
    rig.agent.handle_events([event], rig.now)
    rig.agent.peers.hurry()
    rig.settle()
    assert [each.serial for each in cs.take(Delete)] == [1, 2]


def test_without_a_cs_they_are_counted() -> None:
    rig, cs = new_rig()
    finish(rig, Delete(serial=1), Delete(serial=2), group_id=9)
    assert count(rig, "deletes_unsent") == 2
    cs.leave()
    rig.advance(60)
    finish(rig, Delete(serial=3))
    assert count(rig, "deletes_unsent") == 3
    assert count(rig, "flows_closed") == 3


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_trace_finds_a_flow_among_finished_messages(number: int) -> None:
    rig, _ = new_rig()
    deletes = [
        Delete(serial=each, detail=2, **SIGNATURE._replace(src_port=each)._asdict())
        for each in range(1, 6)
    ]
    finish(rig, *deletes)
    arguments = Arguments(
        {
            "client": f"{to_text(CLIENT[0])}:{number}",
            "vip": f"{to_text(VIP[0])}:{VIP[1]}",
            "protocol": "tcp",
        }
    )
    said = COMMANDS.answer(TRACE.name, rig.agent, arguments, lambda: rig.now)
    assert isinstance(said, list)
    (entry,) = said
    assert entry.what.startswith("closed by RST, reported")
    assert f"serial {number:#x}" in entry.what


def test_the_target_says_where_a_parked_frame_came_in() -> None:
    rig, cs = new_rig()
    query = asked(rig, cs)
    number, frame = rig.target.parked(query.frame)
    assert number == EXTERNAL
    assert frame[ETHERNET.size :] == query.frame[ETHERNET.size :]


def test_a_flow_that_the_target_ended_is_no_reason_to_put_a_syn_back() -> None:
    """A client that uses its port again within RECENT_S would be kept waiting for seconds."""
    rig, cs = new_rig()
    returned(rig, cs, asked(rig, cs), idle_timeout=30)  # the agent installs it
    recent = rig.agent.endings.table.recent
    assert recent.has(SIGNATURE.session, rig.now)
    rig.node_sends(SYN | ACK, seq=500, ack=101)
    rig.client_sends(ACK, seq=101, ack=501)
    rig.client_sends(RST, seq=101)
    rig.advance(BATCH_DELAY_MS / 1000)
    assert cs.one(Delete).session == SIGNATURE.session
    assert not recent.has(SIGNATURE.session, rig.now)
