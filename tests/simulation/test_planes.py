# SPDX-License-Identifier: Apache-2.0
"""Both planes together, in virtual time, over a network that loses, doubles and reorders: thousands
of connections, and none ends wrong."""

import pytest

from ssmb.constants import MessageType
from support.segments.agent_rig import CLIENT, DFS_ID
from support.segments.planes import Connection, Planes, Weather
from support.soak import seeds

pytestmark = pytest.mark.soak

ROUGH = {"loss": 0.05, "doubling": 0.05, "late": 0.05}


def begin(planes: Planes, count: int, within_s: float, *, aborts: float = 0.1) -> None:
    """Connections of one to five questions, some with long pauses, spread over the time."""
    dice = planes.dice
    for number in range(count):
        client = (CLIENT[0][:14] + (number // 50000 + 1).to_bytes(2, "big"), 1024 + number % 50000)
        connection = Connection(
            client,
            requests=dice.randrange(1, 6),
            pause_s=dice.choice((0.0, 0.01, 0.2, 1.5)),
            aborts=dice.random() < aborts,
        )
        planes.at(dice.uniform(0, within_s), planes.connect, connection)


def check(planes: Planes, count: int) -> None:
    """Everybody was served by one node, and both planes have forgotten everything."""
    assert planes.wrongs == []
    assert len(planes.finished) == count
    assert planes.target.flow_count() == 0
    assert len(planes.agent.new_flows.pending) == 0
    assert len(planes.cs.table) == 0
    assert [node.active for node in planes.cs.model.every_node()] == [0] * 4


@pytest.mark.parametrize("seed", seeds(3))
def test_in_fair_weather_nothing_is_repeated(seed: int) -> None:
    planes = Planes(seed)
    planes.run(1)
    begin(planes, 500, 5)
    planes.run(20)
    assert planes.agent.outbox.counters["query_retries"] == 0
    planes.run(60)
    check(planes, 500)
    shares = [node.accepted for node in planes.nodes.values()]
    assert max(shares) - min(shares) <= 1  # round robin


@pytest.mark.parametrize("seed", seeds(6))
def test_rough_weather_costs_repeats_and_no_connection(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, 2000, 10)
    planes.run(1000)
    check(planes, 2000)
    assert planes.agent.outbox.counters["query_retries"] > 0
    assert planes.agent.outbox.counters["drop_replayed"] > 0


@pytest.mark.parametrize("seed", seeds(4))
def test_the_cs_dies_and_comes_back_and_nobody_notices(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, 1500, 15)
    for at in (4.0, 9.0):
        planes.at(at, planes.kill_cs)
        planes.at(at + 0.4, planes.start_cs)
    planes.run(1000)
    check(planes, 1500)


@pytest.mark.parametrize("seed", seeds(4))
def test_the_agent_dies_and_comes_back_and_nobody_notices(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, 1500, 15)
    for at in (4.0, 9.0):
        planes.at(at, planes.kill_agent)
        planes.at(at + 0.4, planes.start_agent)
    planes.run(1000)
    check(planes, 1500)


@pytest.mark.parametrize("seed", seeds(4))
def test_connections_that_pause_beyond_every_idle_timeout_find_their_node_again(seed: int) -> None:
    planes = Planes(seed, tcp_idle_timeout_s=5, stats_interval_s=2)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for number in range(300):
        client = (CLIENT[0], 2000 + number)
        planes.at(number / 30, planes.connect, Connection(client, 4, pause_s=20.0))
    planes.run(1000)
    assert planes.wrongs == []
    assert len(planes.finished) == 300
    assert planes.agent.outbox.counters["flows_idle"] >= 600


@pytest.mark.parametrize("seed", seeds(4))
def test_a_table_that_is_too_small_moves_nobody_to_another_node(seed: int) -> None:
    planes = Planes(seed, flow_capacity=40)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    begin(planes, 600, 20)
    planes.run(1000)
    assert planes.wrongs == []
    assert len(planes.finished) == 600
    assert planes.agent.outbox.counters["evictions"] > 0


@pytest.mark.parametrize("seed", seeds(3))
def test_the_same_client_port_again_and_again(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for number in range(20):
        client = (CLIENT[0], 5000 + number)
        for repeat in range(25):
            planes.at(repeat * 3.0, planes.connect, Connection(client, 1, pause_s=0.0))
    planes.run(400)
    check(planes, 500)


@pytest.mark.parametrize("seed", seeds(3))
def test_udp_questions_stay_with_one_node_until_they_are_idle(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for number in range(500):
        planes.at(number / 100, planes.ask_udp, (CLIENT[0], 3000 + number))
    planes.run(400)
    assert planes.wrongs == []
    assert planes.target.flow_count() == 0
    assert len(planes.cs.table) == 0


@pytest.mark.parametrize("seed", seeds(4))
def test_foul_weather_a_small_table_and_a_restarting_agent_at_once(seed: int) -> None:
    planes = Planes(seed, flow_capacity=60, tcp_idle_timeout_s=10, stats_interval_s=2)
    planes.weather = Weather(loss=0.1, doubling=0.1, late=0.1)
    planes.run(3)
    begin(planes, 400, 20)
    planes.at(7.0, planes.kill_agent)
    planes.at(7.4, planes.start_agent)
    planes.run(1000)
    assert planes.wrongs == []
    assert len(planes.finished) == 400


@pytest.mark.parametrize("away_s", [1.0, 12.0, 25.0])
@pytest.mark.parametrize("seed", seeds(2))
def test_an_agent_that_is_away_while_every_flow_is_due_to_be_reaped(
    seed: int, away_s: float
) -> None:
    """The CS's back-off makes it up to 32 s; its inactivity timers, of 9 s, run out meanwhile."""
    planes = Planes(seed, tcp_idle_timeout_s=3, stats_interval_s=1)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for number in range(150):
        client = (CLIENT[0], 2000 + number)
        planes.at(number / 50, planes.connect, Connection(client, 50, pause_s=1.0))
    planes.run(8)
    living = set(planes.cs.table.by_key.values())
    assert len(living) == 150
    planes.kill_agent()
    planes.at(away_s, planes.start_agent)
    planes.run(36)
    assert set(planes.cs.table.by_key.values()) == living  # not even told anew
    planes.run(1000)
    check(planes, 150)


@pytest.mark.parametrize("seed", seeds(2))
def test_a_sync_among_new_connections_is_not_repeated(seed: int) -> None:
    planes = Planes(seed)
    planes.run(1)
    begin(planes, 3000, 6)
    for at in (2.0, 4.0):
        planes.at(at, planes.kill_agent)
        planes.at(at + 0.1, planes.start_agent)
    asked = planes.cs.statistics.sent[MessageType.SYNC]
    planes.run(30)
    assert planes.cs.statistics.sent[MessageType.SYNC] == asked + 2
    planes.run(60)
    check(planes, 3000)


@pytest.mark.parametrize("seed", seeds(2))
def test_a_restarted_agent_has_its_cs_again_within_a_second(seed: int) -> None:
    planes = Planes(seed)
    planes.weather = Weather(**ROUGH)
    planes.run(3)
    for _ in range(5):
        planes.kill_agent()
        planes.run(0.6)
        planes.start_agent()
        planes.run(0.9)
        assert planes.cs.peers[DFS_ID].authentication.is_proved
        planes.run(5)
