# SPDX-License-Identifier: Apache-2.0
"""A node whose process is gone: both planes together see that connections to it do not open."""

from __future__ import annotations

import pytest

from support.segments.agent_rig import CLIENT
from support.segments.planes import Connection, Planes


def connections_to_a_dead_node(method: str, *, is_silent: bool, count: int = 150) -> Planes:
    """Long connections, five per second, while the first of four nodes is dead."""
    planes = Planes(1, tcp_idle_timeout_s=5)
    (pool,) = planes.config.pools
    pools = (pool.model_copy(update={"method": method}),)
    planes.run(1)
    planes.cs.apply_config(planes.config.model_copy(update={"pools": pools}), planes.now)
    dead = next(iter(planes.nodes.values()))
    dead.is_dead, dead.is_silent = True, is_silent
    for number in range(count):
        connection = Connection((CLIENT[0], 2000 + number), requests=60, pause_s=1.0)
        planes.at(number / 5, planes.connect, connection)
    planes.run(count / 5 + 60)  # until the last client has given up
    return planes


@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is silent"])
@pytest.mark.parametrize(
    "method", ["least_connections", "weighted_least_connections", "fastest_response"]
)
def test_a_dead_node_gets_few_connections_and_show_nodes_says_so(
    method: str, is_silent: bool
) -> None:
    planes = connections_to_a_dead_node(method, is_silent=is_silent)
    node = planes.cs.model.pools["web"].nodes["n0"]
    assert 1 <= node.total <= 15  # fair would be 37
    # A client's next SYN may overtake the DELETE of the flow before
    assert node.total - 3 <= node.failed <= node.total
    assert node.active == 0
    others = [planes.cs.model.pools["web"].nodes[name] for name in ("n1", "n2", "n3")]
    assert [other.failed for other in others] == [0, 0, 0]


def test_round_robin_goes_on_as_it_is() -> None:
    planes = connections_to_a_dead_node("round_robin", is_silent=False, count=40)
    node = planes.cs.model.pools["web"].nodes["n0"]
    assert node.total == node.failed == 10
