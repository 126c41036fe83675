# SPDX-License-Identifier: Apache-2.0
"""A client that opens connections and never goes on does not keep others out."""

from __future__ import annotations

from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S
from support.octets.frames import SYN, tcp_packet
from support.segments.agent_rig import CLIENT, EXTERNAL, VIP
from support.segments.planes import Connection, Planes

LIMIT = 30
SYNS = 300


def limited(seed: int) -> Planes:
    """A virtual server for 30 connections, and a data path as it is configured by default."""
    planes = Planes(seed)
    planes.run(1)
    first, *others = planes.config.virtual_servers
    changed = (first.model_copy(update={"connection_limit": LIMIT, "at_limit": "drop"}), *others)
    planes.config = planes.config.model_copy(update={"virtual_servers": changed})
    planes.cs.apply_config(planes.config, planes.now)
    planes.run(1)
    return planes


def flood(planes: Planes) -> None:
    """300 SYNs, of which the first 30 find a place."""
    for number in range(SYNS):
        syn = tcp_packet((CLIENT[0], 10_000 + number), VIP, SYN, seq=number)
        planes.at(number / 1000, planes.to_dfs, EXTERNAL, syn)


def established(planes: Planes, first_port: int, count: int) -> list[Connection]:
    """So many honest clients, who keep their connections for a minute."""
    made = [
        Connection((CLIENT[0], first_port + number), requests=60, pause_s=1.0)
        for number in range(count)
    ]
    for connection in made:
        planes.at(0, planes.connect, connection)
    return made


def is_served(connection: Connection) -> bool:
    return connection.asked > 0 and connection.state in ("asking", "pausing")


def test_half_open_connections_give_their_places_back_after_their_own_timeout() -> None:
    planes = limited(1)
    flood(planes)
    planes.run(1)
    assert planes.target.flow_count() == LIMIT
    honest = established(planes, 20_000, LIMIT)
    planes.run(1)
    assert {connection.state for connection in honest} == {"syn"}, "there is no place yet"
    planes.run(2 * HALF_OPEN_TIMEOUT_S)
    assert all(map(is_served, honest))
    assert planes.agent.counters()["flows_half_open"].value == LIMIT
    assert planes.wrongs == []


def test_a_flood_takes_no_place_of_a_connection_that_is_established() -> None:
    planes = limited(2)
    honest = established(planes, 20_000, LIMIT)
    planes.run(1)
    assert all(map(is_served, honest))
    for _ in range(6):
        flood(planes)
        planes.run(HALF_OPEN_TIMEOUT_S)
    assert all(map(is_served, honest))
    planes.run(60)
    assert len(planes.finished) == LIMIT
    assert planes.wrongs == []
