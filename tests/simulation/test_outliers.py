# SPDX-License-Identifier: Apache-2.0
"""Ejection with whole planes: a dead node is met by few clients, also after a take-over."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig
from control_segment.outlier_config import OutlierConfig
from support.octets.frames import ACK, RST, SYN, ends_of, framed, tcp_packet
from support.segments.agent_rig import CLIENT, INTERNAL, INTERNAL_MAC, NODE_MAC
from support.segments.grid import BOUND_S, Dfs, Member
from support.segments.group_grid import GroupGrid
from support.segments.planes import Connection, Planes

LIMITS = OutlierConfig(failures=3, max_ejected_percent=50, ejection_s=30)


def with_outliers(config: ControlSegmentConfig, **changes: Any) -> ControlSegmentConfig:
    pools = [
        each.model_copy(update={"outliers": LIMITS, "method": "round_robin", **changes})
        for each in config.pools
    ]
    return config.model_copy(update={"pools": tuple(pools)})


@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is silent"])
def test_a_dead_node_is_met_by_few_clients_and_a_live_one_again_by_all(is_silent: bool) -> None:
    planes = Planes(1, tcp_idle_timeout_s=5)
    planes.run(1)
    planes.cs.apply_config(with_outliers(planes.config), planes.now)
    dead = next(iter(planes.nodes.values()))
    dead.is_dead, dead.is_silent = True, is_silent
    for number in range(150):
        connection = Connection((CLIENT[0], 2000 + number), requests=2, pause_s=0.2)
        planes.at(number / 5, planes.connect, connection)
    planes.run(29)
    node = planes.cs.model.pools["web"].nodes["n0"]
    assert 3 <= node.total <= 6  # one in four would be 36
    dead.is_dead = False
    planes.run(40)
    before = node.total
    for number in range(40):
        connection = Connection((CLIENT[0], 5000 + number), requests=1, pause_s=0.1)
        planes.at(number / 10, planes.connect, connection)
    planes.run(10)
    assert node.total - before == 10
    kinds = [each.kind for each in planes.cs.happened]
    assert kinds.count("node_ejected") == kinds.count("node_returned") >= 1


class DeadNodes(GroupGrid):
    """Nodes that refuse connections."""

    def __init__(self, seed: int, **arguments: Any) -> None:
        self.dead: set[bytes] = set()
        self.met = 0  # SYNs that came to a dead one
        self.latest_ms = 0.0  # how long after its ejection by the active CS
        super().__init__(seed, **arguments)

    def make_member(self, config: ControlSegmentConfig) -> Member:
        return super().make_member(with_outliers(config))

    def _deliver(self, dfs: Dfs, frames: list[tuple[int, bytes]]) -> None:
        for interface, frame in frames:
            if interface == INTERNAL and not frame[0] & 1 and frame[14 + 20 + 13] & SYN:
                src, dst, _ = ends_of(frame)
                if dst[0] in self.dead:
                    self.met += 1
                    self._note_met(dst[0])
                    refusal = tcp_packet(dst, src, RST | ACK, seq=0, ack=101)
                    refusal = framed(refusal, NODE_MAC, INTERNAL_MAC)
                    self._deliver(dfs, dfs.target.receive(INTERNAL, refusal))
                    continue
            super()._deliver(dfs, [(interface, frame)])

    def _note_met(self, address: bytes) -> None:
        for member in self.members:
            node = member.cs.model.pools["web"].at((address, 8080))
            assert node is not None
            claims = member.up and member.cs.group.election.claims
            if claims and node.record is not None and node.is_ejected:
                since = node.record.until - LIMITS.ejection_s
                self.latest_ms = max(self.latest_ms, (self.now - since) * 1000)


def test_grants_for_an_ejected_node_are_void_at_once() -> None:
    grid = DeadNodes(7, dfss=2, nodes=3)
    grid.run(2)
    grid.crowd(800, 2.0, 0, 0.03)
    grid.run(1)
    assert sum(dfs.taken for dfs in grid.dfss) > 100
    node = grid.cs.model.pools["web"].nodes["n2"]
    grid.dead.add(node.address)
    grid.run(1.5)
    assert node.is_ejected
    assert grid.met >= 3
    assert grid.latest_ms <= BOUND_S * 1000
    assert grid.wrongs == []


def test_a_new_active_cs_has_ejected_what_the_one_before_it_had() -> None:
    grid = DeadNodes(5, dfss=2)
    grid.run(2)
    first, second = (grid.fellow(number) for number in (1, 2))
    node = first.cs.model.pools["web"].nodes["n1"]
    grid.dead.add(node.address)
    grid.crowd(200, 4.0, 0, 0.05)
    grid.run(5)
    assert node.is_ejected
    mirrored = second.cs.model.pools["web"].nodes["n1"]
    assert mirrored.is_ejected
    assert node.record is not None
    assert mirrored.record is not None
    assert abs(node.record.until - mirrored.record.until) < 0.1
    grid.kill(first)
    grid.run(1)
    assert second.cs.group.election.claims
    grid.crowd(100, 2.0, 1000, 0.05)
    met = grid.met
    grid.run(3)
    assert grid.met == met  # nobody had to find out once more
    assert grid.wrongs == []
