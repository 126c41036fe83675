# SPDX-License-Identifier: Apache-2.0
"""A mistake of the agent that one CS, packet or timer meets keeps to it."""

from __future__ import annotations

from typing import Any

import pytest

from admin.faults import COUNTER, PAUSE_S
from csmb.messages import Config
from data_flow_segment.dispatch import Dispatch
from data_flow_segment.outbox import Endpoint
from data_flow_segment.peers.configuration import Configuration
from data_flow_segment.targets.contract import PacketIn, TargetError
from ssmb.messages import Query, Sync
from support.octets.frames import SYN
from support.segments.agent_rig import AgentRig, FakeCs, ready_rig, vs_list, web_server

OTHER_PORT = 81

pytestmark = pytest.mark.faults


def two_groups() -> tuple[AgentRig, FakeCs, FakeCs]:
    rig, first = ready_rig()
    second = rig.cs(2, group_id=2)
    second.tell(vs_list(web_server(virt_port=OTHER_PORT)))
    return rig, first, second


def asks_second(rig: AgentRig, second: FakeCs) -> bool:
    rig.client_sends(SYN, vip=(web_server().virt_ipaddr, OTHER_PORT))
    return bool(second.take(Query))


@pytest.mark.parametrize("method", ["take", "_vs_list"])  # at once, and when its turn comes
def test_a_mistake_with_one_connection_ends_that_connection(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, first, second = two_groups()

    with monkeypatch.context() as patch:
        patch.setattr(Configuration, method, lambda *_: 1 / 0)
        first.tell(vs_list())
    assert first.closed is not None
    assert rig.count(COUNTER) == 1
    assert rig.count("csmb_closed") == 1
    (line,) = rig.agent.outbox.faults.take_log()
    assert line.startswith("internal error while serving CS 1 (group 1, active):")
    assert (1, 1) not in rig.agent.peers.by_identity
    assert second.tell(Config()) is not None
    assert asks_second(rig, second)


def test_a_mistake_in_one_connections_timer_keeps_no_other_alive_or_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, first, second = two_groups()
    first.is_there = False
    connection = rig.agent.connections._accepted[first.number].connection
    monkeypatch.setattr(connection, "handle_timer", lambda now: 1 / 0)
    rig.advance(20)
    assert rig.count(COUNTER) == 1
    assert first.number not in rig.agent.connections._accepted or connection.is_closed
    assert second.closed is None
    assert asks_second(rig, second)


def test_a_mistake_with_one_datagram_costs_that_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, first, second = two_groups()
    receive = Dispatch.receive

    def mistaken(dispatch: Dispatch, octets: bytes, endpoint: Endpoint, now: float) -> None:
        if endpoint == first.endpoint:
            raise ZeroDivisionError
        receive(dispatch, octets, endpoint, now)

    monkeypatch.setattr(Dispatch, "receive", mistaken)
    first.send(Sync(sync_id=1))
    assert rig.count(COUNTER) == 1
    assert asks_second(rig, second)
    assert rig.count("drop_bad_tag") == 0


def test_a_mistake_with_one_packet_costs_that_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, first = ready_rig()
    handlers, met = rig.agent._handlers, []
    take = handlers[PacketIn]

    def mistaken(packet: Any, now: float) -> None:
        met.append(packet)
        if len(met) == 1:
            raise ZeroDivisionError
        take(packet, now)

    monkeypatch.setitem(handlers, PacketIn, mistaken)
    rig.client_sends(SYN)
    rig.client_sends(SYN)
    (packet, *_) = met
    rig.agent.handle_events([packet, packet], rig.now)
    assert rig.count(COUNTER) == 1
    assert len(first.take(Query)) == 1


def test_a_mistake_with_one_timer_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, first = ready_rig()
    monkeypatch.setattr(rig.agent.new_flows.negative, "get_timer", lambda: rig.now)
    rig.agent._timers = (*rig.agent._timers, lambda: rig.now)  # one that is always due
    monkeypatch.setattr(rig.agent.new_flows.negative, "handle_timer", lambda now: 1 / 0)
    rig.client_sends(SYN)
    first.take(Query)
    rig.agent.handle_timer(rig.now)
    assert rig.count(COUNTER) == 1
    assert rig.agent.get_timer() == pytest.approx(rig.now + PAUSE_S)  # it does not spin
    rig.now += 0.06
    rig.agent.handle_timer(rig.now)
    rig.settle()
    assert len(first.take(Query)) == 1  # repeated after 50 ms all the same


def test_what_the_target_cannot_do_is_no_mistake_to_live_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, _ = ready_rig()

    def lost(*_: object) -> None:
        raise TargetError("the switch is gone")

    monkeypatch.setattr(Dispatch, "receive", lost)
    with pytest.raises(TargetError):
        rig.agent.receive_datagram(b"", ("10.255.1.1", 61019), rig.now)
    assert rig.count(COUNTER) == 0
