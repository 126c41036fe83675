# SPDX-License-Identifier: Apache-2.0
"""More connections than source ports, one after the other."""

from __future__ import annotations

import pytest

from control_segment.config import ControlSegmentConfig
from support.segments.agent_rig import CLIENT
from support.segments.planes import Connection, Planes, Weather

pytestmark = pytest.mark.soak

PORTS, COUNT = 20, 120


def with_source_ports(config: ControlSegmentConfig, count: int = PORTS) -> ControlSegmentConfig:
    source = {"address": "10.1.1.1", "ports": f"5000-{5000 + count - 1}"}
    fields = config.model_dump()
    for server in fields["virtual_servers"]:
        server["source_translation"] = source
    return ControlSegmentConfig.model_validate(fields)


def run_in_a_row(planes: Planes, at_once: int) -> list[float]:
    """`COUNT` connections, each begun when an earlier one is over; how long each took."""
    began: dict[int, float] = {}
    took: list[float] = []
    left = iter(range(COUNT))

    def following(_: Connection | None = None) -> None:
        number = next(left, None)
        if number is None:
            return
        connection = Connection((CLIENT[0], 30000 + number), 1, 0.0, done=over)
        began[id(connection)] = planes.now
        planes.connect(connection)

    def over(connection: Connection) -> None:
        took.append(planes.now - began[id(connection)])
        planes.at(0.001, following)

    for _ in range(at_once):
        planes.at(0, following)
    planes.run(60)
    return took


@pytest.mark.parametrize("at_once", [1, 5, 15])
def test_more_connections_than_ports_one_after_the_other(at_once: int) -> None:
    planes = Planes(1, nodes=1)
    planes.run(1)
    planes.cs.apply_config(with_source_ports(planes.config), planes.now)
    planes.run(1)
    took = run_in_a_row(planes, at_once)
    assert planes.wrongs == []
    assert len(took) == COUNT
    assert planes.agent.outbox.counters["install_failures"] == 0
    assert max(took) < 0.5  # nobody had to repeat a SYN


@pytest.mark.parametrize("seed", range(2, 8))
def test_so_it_is_while_datagrams_are_lost(seed: int) -> None:
    """A datagram that is lost with its DELETEs holds up to thirteen ports until the CS asks."""
    planes = Planes(seed, nodes=1)
    planes.run(1)
    planes.cs.apply_config(with_source_ports(planes.config, PORTS + 13), planes.now)
    planes.run(1)
    planes.weather = Weather(loss=0.05, doubling=0.05, late=0.05)
    run_in_a_row(planes, 5)
    assert planes.wrongs == []
    assert len(planes.finished) == COUNT
    assert planes.agent.outbox.counters["install_failures"] == 0
