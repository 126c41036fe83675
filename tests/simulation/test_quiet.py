# SPDX-License-Identifier: Apache-2.0
"""Flows that went quiet: the CS asks, the DFS answers, and both come to the same books."""

from __future__ import annotations

import pytest

from ssmb.constants import MessageType
from support.segments.agent_rig import CLIENT
from support.segments.planes import Connection, Planes, Weather
from support.soak import seeds

pytestmark = pytest.mark.soak

IDLE_S = 5
INACTIVITY_S = IDLE_S + 2 + 5  # idle, statistics, grace


def quiet_planes(seed: int) -> Planes:
    planes = Planes(seed, tcp_idle_timeout_s=IDLE_S, stats_interval_s=2)
    planes.run(3)
    return planes


@pytest.mark.parametrize("seed", seeds(3))
def test_flows_whose_ends_were_lost_are_asked_about_and_forgotten(seed: int) -> None:
    """DELETE is not acknowledged: TIMEOUT and NOFLOW make up for a lost one."""
    planes = quiet_planes(seed)
    for number in range(100):
        planes.connect(Connection((CLIENT[0], 2000 + number), requests=3, pause_s=0.5))
    planes.run(1)
    assert len(planes.cs.table) == 100
    planes.weather = Weather(loss=1.0, until=planes.now + 4)
    planes.run(4)
    assert planes.wrongs == []
    assert len(planes.finished) == 100
    assert planes.target.flow_count() == 0
    assert len(planes.cs.table) == 100
    planes.run(INACTIVITY_S + 5)
    assert len(planes.cs.table) == 0
    assert planes.cs.statistics.sent[MessageType.TIMEOUT] >= 100
    assert planes.agent.outbox.counters["flows_not_found"] >= 100


@pytest.mark.parametrize("seed", seeds(3))
def test_under_pressure_only_quiet_flows_go_and_their_sessions_end(seed: int) -> None:
    planes = Planes(seed)
    planes.run(3)
    for number in range(100):
        pause_s = 60.0 if number < 60 else 4.0
        planes.connect(Connection((CLIENT[0], 2000 + number), requests=8, pause_s=pause_s))
    planes.run(15)
    assert len(planes.cs.table) == planes.target.flow_count() == 100
    planes.cs.table.capacity = 100  # it is full now
    planes.run(3)
    assert planes.agent.outbox.counters["flows_reaped"] == 60
    assert len(planes.cs.table) == planes.target.flow_count() == 40
    assert {flow.key[32:34] for flow in planes.cs.table.by_key.values()} == {
        (2000 + number).to_bytes(2, "big") for number in range(60, 100)
    }


@pytest.mark.parametrize("seed", seeds(3))
def test_what_the_cs_counted_is_what_the_dfs_counted(seed: int) -> None:
    """STATS and DELETE are cumulative: loss and disorder cost nothing but time."""
    planes = Planes(seed, stats_interval_s=2)
    planes.weather = Weather(loss=0.3, doubling=0.1, late=0.3, until=planes.now + 20)
    planes.run(3)
    for number in range(50):
        planes.connect(Connection((CLIENT[0], 2000 + number), requests=20, pause_s=2.0))
    planes.run(21)
    seen = planes.target.scan(None, 100)[0]
    assert len(seen) == 50
    planes.run(4.5)  # two passes of statistics in fair weather
    seen = planes.target.scan(None, 100)[0]
    flows = {flow.serial: flow for flow in planes.cs.table.by_key.values()}
    assert len(seen) == len(flows) == 50
    for state in seen:
        flow = flows[state.entry.serial]
        # a question and its answer every two seconds, told within three
        assert 0 <= state.counters.pkts_in - flow.pkts_in <= 2
        assert 0 <= state.counters.pkts_out - flow.pkts_out <= 2
        # a SYN, then segments of an octet
        assert flow.bytes_in == 40 * flow.pkts_in + (flow.pkts_in - 1)
    planes.run(30)
    assert planes.wrongs == []
    assert len(planes.cs.table) == planes.target.flow_count() == 0
