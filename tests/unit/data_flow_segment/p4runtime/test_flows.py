# SPDX-License-Identifier: Apache-2.0
"""The agent's copy of a flow: what reports say of it, and what outlives the switch."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import CloseCause, FlowCounters, FlowEntry
from data_flow_segment.targets.p4runtime.constants import CloseBit
from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.packets import Half, Report
from data_flow_segment.targets.translation import CannotInstall
from support.octets.packets import TCP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import Scene

SCENE = Scene(MemoryRig(), IPV4, TCP_PROTOCOL)


def entry(port: int, serial: int = 1) -> FlowEntry:
    signature = SCENE.signature(client=(IPV4.client, port))
    return SCENE.entry(signature=signature, serial=serial)


def half(cookie: int, packets: int = 0, close: int = 0, idle_ms: int = 0, flags: int = 0) -> Half:
    return Half(cookie, packets, packets * 100, close, flags, 0, 0, idle_ms)


def told(flow: SwitchFlow, there: Half, back: Half, now: float) -> None:
    flow.learn(Report(flow.index, 0, (there, back)), now)


@pytest.fixture
def flows() -> Flows:
    return Flows(capacity=4, places=4, first_cookie=0xFFFFFFFE)


def test_a_report_counts_both_directions_and_tells_the_younger_packet(flows: Flows) -> None:
    flow = flows.install(entry(1), now=10.0)
    told(flow, half(flow.cookie, 3, idle_ms=500), half(flow.cookie, 2, idle_ms=200), now=20.0)
    state = flow.state(20.0)
    assert state.counters == FlowCounters(3, 300, 2, 200)
    assert state.idle_ms == 200
    assert flow.state(21.0).idle_ms == 1200  # it goes on by itself


def test_places_with_another_cookie_hold_an_earlier_flow(flows: Flows) -> None:
    flow = flows.install(entry(1), now=10.0)
    told(flow, half(flow.cookie ^ 1, 9, CloseBit.CLOSED), half(flow.cookie ^ 1, 9), now=20.0)
    assert flow.state(20.0).counters == FlowCounters()
    assert not flow.closed
    assert flow.state(20.0).idle_ms == 10_000


def test_a_place_that_only_the_peer_touched_says_nothing_of_time(flows: Flows) -> None:
    flow = flows.install(entry(1), now=10.0)
    told(flow, half(flow.cookie, 1, idle_ms=4000), half(flow.cookie, 0, idle_ms=1), now=20.0)
    assert flow.state(20.0).idle_ms == 4000


@pytest.mark.parametrize(
    ("close", "cause", "closing"),
    [
        (CloseBit.HAVE_SEQ, None, False),
        (CloseBit.OWN_FIN, None, True),
        (CloseBit.PEER_FIN, None, True),
        (CloseBit.OWN_FIN | CloseBit.CLOSED, CloseCause.FIN, False),
        (CloseBit.CLOSED | CloseBit.BY_RST, CloseCause.RST, False),
    ],
)
def test_how_a_flow_ends(flows: Flows, close: int, cause: CloseCause | None, closing: bool) -> None:
    flow = flows.install(entry(1), now=10.0)
    told(flow, half(flow.cookie, 1, close), half(flow.cookie), now=11.0)
    assert (flow.cause, flow.closing) == (cause, closing)


def test_counts_and_a_close_outlive_the_switch(flows: Flows) -> None:
    flow = flows.install(entry(1), now=10.0)
    flow.written = True
    told(flow, half(flow.cookie, 3, CloseBit.OWN_FIN), half(flow.cookie, 2), now=11.0)
    flow.is_forgotten()
    assert not flow.written
    told(flow, half(0), half(0), now=12.0)
    assert flow.state(12.0).counters == FlowCounters(3, 300, 2, 200)
    told(flow, half(flow.cookie, 1), half(flow.cookie, 1), now=13.0)
    assert flow.state(13.0).counters == FlowCounters(4, 400, 3, 300)
    assert flow.closing  # CLOSE_TIMEOUT ends what nobody saw the end of


def test_an_update_keeps_the_cookie_and_another_serial_begins_anew(flows: Flows) -> None:
    flow = flows.install(entry(1), now=10.0)
    cookie = flow.cookie
    told(flow, half(cookie, 3, CloseBit.CLOSED), half(cookie), now=11.0)
    again = flows.install(entry(1)._replace(node_port=9), now=12.0)
    assert (again.cookie, again.closed, again.packets_seen) == (cookie, True, 3)
    other = flows.install(entry(1, serial=2), now=13.0)
    assert other is flow
    assert other.cookie != cookie
    assert (other.closed, other.packets_seen) == (False, 0)


def test_cookies_go_round(flows: Flows) -> None:
    cookies = [flows.install(entry(port), 0.0).cookie for port in (1, 2, 3)]
    assert cookies == [0xFFFFFFFF, 0, 1]


def test_a_place_is_given_again_only_after_its_flow_went(flows: Flows) -> None:
    made = [flows.install(entry(port), 0.0) for port in (1, 2, 3, 4)]
    assert sorted(flow.index for flow in made) == [0, 2, 4, 6]
    with pytest.raises(CannotInstall, match="full"):
        flows.install(entry(5), 0.0)
    assert flows.remove(made[1].entry.signature) is made[1]
    assert flows.install(entry(5), 0.0).index == made[1].index
    assert flows.at(made[1].index + 1) is flows.at(made[1].index)


def test_adopted_flows_keep_their_places_and_what_lies_between_is_free(flows: Flows) -> None:
    flows.adopt(entry(1), 4, 77, 0.0)
    flows.adopt(entry(2), 0, 78, 0.0)
    for index in (4, 3, 8):  # taken, odd, beyond
        with pytest.raises(CannotInstall):
            flows.adopt(entry(3), index, 79, 0.0)
    flows.adopted()
    assert {flows.install(entry(port), 0.0).index for port in (4, 5)} == {2, 6}
