# SPDX-License-Identifier: Apache-2.0
"""Content-aware connections in both planes, in virtual time, while SSMB is lost, doubled and late,
and while CSs and agents come and go: nobody gets a node of another pool, nothing is left over."""

from __future__ import annotations

import pytest

from ssmb.addresses import from_text
from support.segments.agent_rig import CLIENT
from support.segments.asking import POOLS, Ask, address_of
from support.segments.planes import Weather
from support.segments.proxied_planes import ProxiedPlanes
from support.soak import part, seeds

pytestmark = pytest.mark.soak

ROUGH = {"loss": 0.05, "doubling": 0.05, "late": 0.05}
CLIENTS = part(1000, 10)


def begin(planes: ProxiedPlanes, count: int, within_s: float, pause_s: float | None = None) -> None:
    dice = planes.dice
    for number in range(count):
        pause = dice.choice((0.0, 0.02, 1.5)) if pause_s is None else pause_s
        ask = Ask((CLIENT[0], 2000 + number), dice.randrange(POOLS), dice.randrange(3), pause)
        planes.at(dice.uniform(0, within_s), planes.ask, ask)


def check(planes: ProxiedPlanes, count: int, *, resets: int = 0) -> None:
    """Everybody was served by one node of the right pool, and both planes have forgotten it."""
    assert planes.wrongs == []
    assert len(planes.resets) <= resets
    assert len(planes.done) + len(planes.resets) == count
    table = planes.agent.handshakes.table
    assert (len(table), table.held_octets) == (0, 0)
    assert planes.target.flow_count() == 0
    assert len(planes.cs.table) == 0
    assert [node.active for node in planes.cs.model.every_node()] == [0] * POOLS * 2


@pytest.mark.parametrize("seed", seeds(3))
def test_in_fair_weather_every_request_finds_its_pool(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.run(1)
    begin(planes, CLIENTS, 5)
    planes.run(90)
    check(planes, CLIENTS)
    assert planes.agent.outbox.counters["query_retries"] == 0
    assert planes.spliced == CLIENTS
    by_data_path = planes.target.counters()["short_spliced"].value
    assert CLIENTS // 4 < by_data_path < CLIENTS * 3 // 4
    assert planes.agent.outbox.counters["proxied_connections"] == CLIENTS - by_data_path


@pytest.mark.parametrize("seed", seeds(2))
def test_the_general_way_serves_all(seed: int) -> None:
    planes = ProxiedPlanes(seed, is_short=False)
    planes.run(1)
    begin(planes, CLIENTS, 5)
    planes.run(90)
    check(planes, CLIENTS)
    assert planes.agent.outbox.counters["flows_spliced"] == CLIENTS
    assert planes.target.counters()["short_asked"].value == 0


@pytest.mark.parametrize("seed", seeds(4))
def test_packets_are_lost_on_every_wire(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.packet_loss = 0.05
    planes.run(3)
    begin(planes, CLIENTS, 10)
    planes.run(1000)
    check(planes, CLIENTS, resets=CLIENTS // 20)
    assert planes.target.counters()["short_spliced"].value > 0
    assert planes.agent.outbox.counters["short_taken_over"] > 0


@pytest.mark.parametrize("seed", seeds(6))
def test_rough_weather_costs_repeats_and_no_connection(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, CLIENTS, 10)
    planes.run(1000)
    check(planes, CLIENTS)
    assert planes.agent.outbox.counters["query_retries"] > 0


@pytest.mark.parametrize("seed", seeds(4))
def test_the_cs_dies_and_comes_back_and_nobody_notices(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, CLIENTS, 15)
    for at in (4.0, 9.0):
        planes.at(at, planes.kill_cs)
        planes.at(at + 0.4, planes.start_cs)
    planes.run(1000)
    check(planes, CLIENTS)


@pytest.mark.parametrize("seed", seeds(4))
def test_the_agent_dies_and_comes_back_and_only_what_was_collected_is_reset(seed: int) -> None:
    """A client that was told that its octets are there, which died with the agent."""
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, CLIENTS, 15)
    for at in (4.0, 9.0):
        planes.at(at, planes.kill_agent)
        planes.at(at + 0.4, planes.start_agent)
    planes.run(1000)
    check(planes, CLIENTS, resets=CLIENTS // 10)


@pytest.mark.parametrize("seed", seeds(4))
def test_connections_that_pause_beyond_every_idle_timeout_find_their_node_again(seed: int) -> None:
    planes = ProxiedPlanes(seed, tcp_idle_timeout_s=5, stats_interval_s=2)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for number in range(60):
        planes.at(number / 10, planes.ask, Ask((CLIENT[0], 2000 + number), number % POOLS, 3, 20.0))
    planes.run(1000)
    assert planes.wrongs == []
    assert (len(planes.done), planes.resets) == (60, [])
    assert planes.agent.outbox.counters["flows_idle"] >= 120


@pytest.mark.parametrize("seed", seeds(3))
def test_nodes_without_the_options_that_clients_have_are_served_packet_by_packet(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.plain = {from_text(address_of(pool, n)) for pool in range(POOLS) for n in range(2)}
    planes.run(3)
    begin(planes, CLIENTS, 10)
    planes.run(1000)
    check(planes, CLIENTS)
    assert 0 < planes.spliced < CLIENTS // 2  # those without options
    assert planes.agent.outbox.counters["short_taken_over"] > 0


@pytest.mark.parametrize("seed", seeds(3))
def test_nodes_that_refuse_are_passed_over(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.refusing = {from_text(address_of(pool, 0)) for pool in range(POOLS)}
    planes.run(3)
    begin(planes, CLIENTS, 10)
    planes.run(1000)
    check(planes, CLIENTS)
    assert planes.agent.outbox.counters["nodes_refused"] > 0
    assert planes.agent.outbox.counters["short_taken_over"] > 0


@pytest.mark.parametrize("seed", seeds(3))
def test_nodes_that_say_nothing_are_passed_over(seed: int) -> None:
    planes = ProxiedPlanes(seed)
    planes.weather = Weather(**ROUGH)
    planes.packet_loss = 0.02
    planes.silent = {from_text(address_of(pool, 0)) for pool in range(POOLS)}
    planes.run(3)
    begin(planes, CLIENTS, 10)
    planes.run(1000)
    check(planes, CLIENTS, resets=CLIENTS // 20)
    assert planes.agent.outbox.counters["nodes_refused"] > 0
    assert planes.agent.outbox.counters["short_taken_over"] > 0
