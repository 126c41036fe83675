# SPDX-License-Identifier: Apache-2.0
"""Packets that came up before their flow was installed and are read after it: they are put back,
because the CS, asked about them, could move a living connection to another node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config
from data_flow_segment.flows.table import RECENT_S, RecentFlows
from data_flow_segment.targets.contract import (
    FlowClosed,
    FlowIdle,
    FlowState,
    InstallFailed,
    PacketIn,
    PacketReason,
)
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, Flag
from ssmb.messages import Bridge, FlowSignature, Query, Reap, Reset
from support.octets.frames import ACK, FIN, RST, SYN, ends_of, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    NODE,
    NODE_MAC,
    ROUTER_MAC,
    VIP,
    AgentRig,
    FakeCs,
    newflow_for,
    ready_rig,
    vs_list,
    web_server,
)

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)
OTHER_NODE = (from_text("10.1.1.3"), 8080)


def client_sends_unread(rig: AgentRig, flags: int, **fields: Any) -> None:
    """A segment reaches the target; what comes up of it waits there for the agent."""
    frame = framed(tcp_packet(CLIENT, VIP, flags, **fields), ROUTER_MAC, EXTERNAL_MAC)
    rig.sent += rig.target.receive(EXTERNAL, frame)


def come_up(rig: AgentRig, packet: PacketIn) -> None:
    rig.agent.handle_events([packet], rig.now)
    rig.settle()


def installed(**fields: Any) -> tuple[AgentRig, FakeCs, PacketIn]:
    """A flow that was installed now, and its SYN as it came up before."""
    rig, cs = ready_rig(**fields)
    return rig, cs, install(rig, cs)


def install(rig: AgentRig, cs: FakeCs, seq: int = 1, **changes: Any) -> PacketIn:
    rig.client_sends(SYN, seq=seq)
    query = cs.one(Query)
    (packet,) = rig.agent.new_flows.pending.by_session[SIGNATURE.session].packets
    cs.answer(query, **changes)
    rig.sent.clear()
    return packet


def state_of(rig: AgentRig) -> FlowState:
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    return state


# --- put back -----------------------------------------------------------------------------------


def test_a_repeated_syn_that_is_read_after_the_reply_does_not_move_the_connection() -> None:
    """The whole race: two SYNs come up, REPLY installs, and only then is the second one read."""
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    query = cs.one(Query)
    client_sends_unread(rig, SYN, seq=1)
    cs.answer(query)  # the target's events are read behind it
    assert cs.take(Query) == []
    assert [(interface, ends_of(frame)) for interface, frame in rig.sent] == [
        (INTERNAL, (CLIENT, NODE, 6))
    ] * 2
    assert rig.count("put_back_late") == 1
    assert rig.count("new_flows") == rig.count("flows_installed") == 1
    assert state_of(rig).entry.serial == query.serial
    ((_, answer),) = rig.node_sends(SYN | ACK, seq=5, ack=2)
    assert ends_of(answer) == (VIP, CLIENT, 6)


def test_data_right_behind_a_syn_follows_it_in_order_held_or_late() -> None:
    """TCP Fast Open: some of it waits with the SYN, some is read after the REPLY."""
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1, payload=b"one")
    rig.client_sends(ACK, seq=5, payload=b"two")
    client_sends_unread(rig, ACK, seq=8, payload=b"three")
    client_sends_unread(rig, ACK, seq=13, payload=b"four")
    cs.answer(cs.one(Query))
    assert cs.take(Query) == []
    assert [frame[54:] for _, frame in rig.sent] == [b"one", b"two", b"three", b"four"]
    assert (rig.count("held_packets"), rig.count("put_back_late")) == (1, 2)


def test_what_is_late_is_put_back_behind_an_install_that_is_not_carried_out_yet() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    (packet,) = rig.agent.new_flows.pending.by_session[SIGNATURE.session].packets
    rig.settle = lambda: None  # type: ignore[method-assign]
    cs.answer(cs.one(Query))
    rig.agent.handle_events([packet], rig.now)
    commands = rig.agent.outbox.take_commands()
    assert [type(command).__name__ for command in commands] == [
        "InstallFlow",
        "InjectPacket",
        "InjectPacket",
    ]


def test_an_unasked_newflow_counts_as_well_and_replaces_what_was_there() -> None:
    rig, cs, packet = installed()
    old = state_of(rig)
    cs.send(newflow_for(old.entry.serial + 1, node_ipaddr=OTHER_NODE[0]))
    rig.agent.handle_events([FlowClosed(old, CloseReason.FIN)], rig.now)  # told too late
    rig.sent.clear()
    come_up(rig, packet)
    assert cs.take(Query) == []
    assert [ends_of(frame) for _, frame in rig.sent] == [(CLIENT, OTHER_NODE, 6)]


def test_the_internal_sides_packets_are_put_back_as_well() -> None:
    rig, cs = ready_rig()
    cs.tell(Config(flags=CsmbFlag.OUTBOUND_QUERY))
    server = (from_text("198.51.100.80"), 443)
    frame = framed(tcp_packet(NODE, server, SYN, seq=1), NODE_MAC, INTERNAL_MAC)
    rig.receive(frame, INTERNAL)
    query = cs.one(Query)
    rig.target.receive(INTERNAL, frame)
    cs.answer(
        query,
        flags=int(Flag.OUTBOUND | Flag.TRANSLATE_SRC | Flag.ROUTE_BY_DST_IP),
        node_ipaddr=server[0],
        node_port=server[1],
        snat_ipaddr=VIP[0],
        snat_port=5000,
    )
    assert cs.take(Query) == []
    assert [ends_of(sent) for _, sent in rig.sent] == [((VIP[0], 5000), server, 6)] * 2


def test_no_flow_is_looked_up_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch would have to be asked, and late packets come when it is slow."""
    rig, cs, packet = installed()

    def lookup(signature: FlowSignature) -> FlowState | None:
        raise AssertionError(signature)

    monkeypatch.setattr(rig.target, "lookup", lookup)
    come_up(rig, packet)
    assert rig.count("put_back_late") == 1
    assert len(rig.sent) == 1
    assert cs.take(Query) == []


# --- asked about --------------------------------------------------------------------------------


def test_after_a_while_nothing_is_under_way_any_more() -> None:
    rig, cs, packet = installed()
    rig.advance(RECENT_S - 0.1)
    come_up(rig, packet)
    assert cs.take(Query) == []
    rig.advance(0.1)
    come_up(rig, packet)
    assert cs.one(Query).signature == SIGNATURE
    assert rig.count("put_back_late") == 1


def test_a_connection_closed_and_opened_again_at_once_is_asked_about() -> None:
    """Its entry still lingers; and what is late of the new one is put back again."""
    rig, cs, _ = installed()
    serial = state_of(rig).entry.serial
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.node_sends(FIN | ACK, seq=10, ack=3)
    rig.client_sends(ACK, seq=3, ack=11)
    packet = install(rig, cs, seq=70_000, node_ipaddr=OTHER_NODE[0])
    assert state_of(rig).entry.serial != serial
    come_up(rig, packet)
    assert cs.take(Query) == []
    assert [ends_of(frame) for _, frame in rig.sent] == [(CLIENT, OTHER_NODE, 6)]


def reset_by_the_node(rig: AgentRig, cs: FakeCs) -> None:
    rig.node_sends(RST | ACK, seq=0, ack=2)


def idle(rig: AgentRig, cs: FakeCs) -> None:
    rig.agent.handle_events([FlowIdle(state_of(rig))], rig.now)


def evicted(rig: AgentRig, cs: FakeCs) -> None:
    assert rig.agent.endings.table.make_room(rig.now)


def reaped(rig: AgentRig, cs: FakeCs) -> None:
    rig.now += 0.5
    cs.send(Reap(serial=state_of(rig).entry.serial, **SIGNATURE._asdict(), idle_limit=1))


def all_deleted(rig: AgentRig, cs: FakeCs) -> None:
    cs.send(Reset(reset_id=7))


def not_installed(rig: AgentRig, cs: FakeCs) -> None:
    entry = state_of(rig).entry
    rig.agent.handle_events([InstallFailed(entry, table_full=False, reason="no room")], rig.now)


@pytest.mark.parametrize(
    "end", [reset_by_the_node, idle, evicted, reaped, all_deleted, not_installed]
)
def test_a_flow_that_ended_is_asked_about_however_it_ended(
    end: Callable[[AgentRig, FakeCs], None],
) -> None:
    rig, cs, packet = installed()
    end(rig, cs)
    rig.settle()
    come_up(rig, packet)
    assert cs.one(Query).signature == SIGNATURE
    assert rig.count("put_back_late") == 0


def test_a_flow_that_is_tried_once_more_has_not_ended() -> None:
    """The table was full; the oldest flow makes room for this one."""
    rig, cs, packet = installed()
    entry = state_of(rig).entry
    cs.send(newflow_for(entry.serial + 9, src_port=7))
    rig.now += 0.5
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)  # so that the other one is the oldest
    rig.agent.handle_events([InstallFailed(entry, table_full=True, reason="full")], rig.now)
    come_up(rig, packet)
    assert cs.take(Query) == []
    assert rig.count("put_back_late") == 1


def test_what_is_bridged_stays_the_css() -> None:
    """It may have answered the client itself until it gave the flow away."""
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(flags=CsmbFlag.CS_ASSIST)))
    rig.client_sends(ACK, seq=2, ack=1)
    cs.one(Bridge)
    client_sends_unread(rig, ACK, seq=2, ack=1)
    cs.send(newflow_for(9))
    cs.one(Bridge)
    assert rig.count("put_back_late") == 0


def test_an_agent_that_adopts_the_table_knows_of_none() -> None:
    """What came up to its predecessor ended with it, so nothing of it is late."""
    rig, _, packet = installed()
    heir = AgentRig(data_path=rig.target.data_path)
    cs = heir.cs()
    cs.tell(Config())
    cs.tell(vs_list())
    assert packet.reason == PacketReason.NEW_FLOW
    assert not heir.agent.endings.table.recent.by_session
    assert heir.client_sends(ACK, seq=2, ack=1)  # the flow is there, and nothing comes up
    assert cs.take(Query) == []


# --- the memory of it ---------------------------------------------------------------------------

SESSIONS = [SIGNATURE._replace(src_port=port).session for port in range(6)]


def remembered(recent: RecentFlows, now: float) -> list[int]:
    return [port for port, session in enumerate(SESSIONS) if recent.has(session, now)]


def test_the_oldest_yields_when_there_are_too_many() -> None:
    recent = RecentFlows(recent_max=3)
    for port in range(5):
        recent.add(SESSIONS[port], port, 1.0)
    assert remembered(recent, 1.0) == [2, 3, 4]
    assert remembered(recent, 1.0) == [2, 3, 4]  # looking makes none yield


def test_a_flow_in_anothers_place_is_kept_as_long_as_any() -> None:
    recent = RecentFlows()
    recent.add(SESSIONS[0], 1, 1.0)
    recent.add(SESSIONS[0], 2, 2.0)
    recent.forget(SESSIONS[0], 1)
    assert remembered(recent, 0.9 + 1.0 + RECENT_S) == [0]
    assert remembered(recent, 2.0 + RECENT_S) == []


def test_what_ended_and_what_is_old_takes_no_room() -> None:
    recent = RecentFlows()
    for port in range(5):
        recent.add(SESSIONS[port], port, 1.0)
    recent.forget(SESSIONS[3], 3)
    assert list(recent.by_session) == [*SESSIONS[:3], SESSIONS[4]]
    recent.add(SESSIONS[5], 5, 1.0 + RECENT_S)
    assert list(recent.by_session) == [SESSIONS[5]]


def test_a_flood_of_one_session_takes_no_more_room_than_any() -> None:
    recent = RecentFlows(recent_max=3)
    for serial in range(100):
        recent.add(SESSIONS[0], serial, 1.0)
    assert len(recent._order) == 3
    assert remembered(recent, 1.0) == [0]
