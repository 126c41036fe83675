# SPDX-License-Identifier: Apache-2.0
"""What a connection pays for its set-up: one round trip between the planes, once."""

from __future__ import annotations

from typing import Any

import pytest

from support.octets.frames import SYN
from support.segments.agent_rig import CLIENT, EXTERNAL
from support.segments.planes import WIRE_S, Connection, Planes
from support.soak import seeds

pytestmark = pytest.mark.soak

ROUND_TRIP_S = (0.0002, 0.0008)  # what the planes' network takes both ways
FLAGS_AT = 33  # in an IPv4 packet without options


@pytest.mark.parametrize("seed", seeds(3))
def test_the_first_packet_waits_for_one_round_trip_and_the_others_for_nothing(seed: int) -> None:
    planes = Planes(seed)
    planes.run(1)
    came: list[tuple[float, int]] = []
    left: list[tuple[float, int]] = []
    to_dfs = planes.to_dfs

    def arrives(interface: int, packet: bytes) -> None:
        if interface == EXTERNAL:
            came.append((planes.now, packet[FLAGS_AT]))
        to_dfs(interface, packet)

    planes.to_dfs = arrives  # type: ignore[method-assign]
    for node in planes.nodes.values():
        receive = node.receive

        def receives(
            client: Any, flags: int, *rest: Any, receive: Any = receive, **more: Any
        ) -> None:
            left.append((planes.now - WIRE_S, flags))
            receive(client, flags, *rest, **more)

        node.receive = receives  # type: ignore[method-assign]
    planes.connect(Connection((CLIENT[0], 1024), requests=5, pause_s=0.01))
    planes.run(5)
    assert planes.wrongs == []
    assert [flags for _, flags in came[:-1]] == [flags for _, flags in left[:-1]]
    waits = [(flags, out - into) for (into, flags), (out, _) in zip(came, left, strict=False)]
    assert waits[0][0] == SYN
    assert ROUND_TRIP_S[0] <= waits[0][1] <= ROUND_TRIP_S[1]
    assert len(waits) > 5
    for _, wait in waits[1:]:
        assert wait == pytest.approx(0, abs=1e-9)


def test_a_cs_that_is_gone_costs_established_connections_nothing() -> None:
    planes = Planes(1)
    planes.run(1)
    for number in range(50):
        planes.connect(Connection((CLIENT[0], 2000 + number), requests=4, pause_s=1.0))
    planes.run(0.5)
    planes.kill_cs()
    planes.run(20)
    assert planes.wrongs == []
    assert len(planes.finished) == 50
