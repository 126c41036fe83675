# SPDX-License-Identifier: Apache-2.0
"""Two CSs of a group that are both configured as active: one is, and the other waits (11)."""

from __future__ import annotations

import pytest

from csmb.probes import PROBE_WAIT_S
from data_flow_segment.targets.contract import VirtualServerKey
from support.octets.frames import SYN, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    ROUTER_MAC,
    VIP,
)
from support.segments.cs_group import CsGroup, Member

INTERVAL_S = 5.0  # between HELLOs


@pytest.fixture
def group() -> CsGroup:
    return CsGroup()


def both(group: CsGroup) -> tuple[Member, Member]:
    first = group.start(1, 80)
    group.run(1)
    second = group.start(2, 8080)
    group.run(1)
    return first, second


def test_the_second_cs_waits_and_leaves_the_virtual_servers_alone(group: CsGroup) -> None:
    first, second = both(group)
    assert (group.active, group.ports) == (1, [80])
    assert (first.role, second.role) == ("ACTIVE", "STANDBY")
    (line,) = [line for line in second.log if "another CS of the group is active" in line]
    assert "this one waits" in line
    group.run(20 * INTERVAL_S)
    assert (group.active, group.ports) == (1, [80])
    assert group.agent.outbox.counters["configuration_not_active"] == 0
    assert sum("waits" in line for line in second.log) == 1


def test_a_reload_of_the_waiting_cs_changes_nothing_at_the_dfs(group: CsGroup) -> None:
    _, second = both(group)
    config = second.cs.config
    servers = [config.virtual_servers[0].model_copy(update={"port": 8081})]
    second.cs.apply_config(config.model_copy(update={"virtual_servers": servers}), group.now)
    group.run(2 * INTERVAL_S)
    assert group.ports == [80]
    assert group.agent.outbox.counters["configuration_not_active"] == 0


def test_the_waiting_cs_takes_over_when_the_active_one_is_gone(group: CsGroup) -> None:
    first, second = both(group)
    first.crash()
    took_s = group.run(60, lambda: group.ports == [8080])
    assert INTERVAL_S <= took_s <= 2 * INTERVAL_S + 0.1
    assert (group.active, second.role) == (2, "ACTIVE")
    assert any("takes over, with role epoch 2" in line for line in second.log)
    peer = second.cs.peers[256]
    number = peer.sync_number
    group.run(1)
    assert peer.is_active
    assert number >= 2  # it asked what the one before it decided
    group.target.receive(
        EXTERNAL,
        framed(tcp_packet(CLIENT, (VIP[0], 8080), SYN), ROUTER_MAC, EXTERNAL_MAC),
    )
    group.agent.handle_events(group.target.events(), group.now)
    group.run(1)
    assert group.target.flow_count() == 1


def test_a_silent_active_cs_is_gone_too(group: CsGroup) -> None:
    first, _ = both(group)
    first.lose_power()
    took_s = group.run(60, lambda: group.ports == [8080])
    assert took_s <= 5 * INTERVAL_S + 0.1  # three of silence, and the take-over


def test_the_one_before_it_waits_when_it_comes_back(group: CsGroup) -> None:
    """Until it is needed: then its epoch is higher again."""
    first, second = both(group)
    first.crash()
    group.run(3 * INTERVAL_S)
    again = group.start(1, 80)
    group.run(3 * INTERVAL_S)
    assert (group.active, group.ports, again.role) == (2, [8080], "STANDBY")
    second.crash()
    group.run(3 * INTERVAL_S)
    assert (group.active, group.ports) == (1, [80])
    assert again.cs.group.election.epoch == 3


def test_a_connection_that_breaks_is_no_reason_to_take_over(group: CsGroup) -> None:
    first, second = both(group)
    for _ in range(8):
        first.cut()
        group.run(INTERVAL_S / 2)
        assert (group.active, second.role) == (1, "STANDBY")
    assert group.ports == [80]


def test_a_reconnected_waiting_cs_still_waits(group: CsGroup) -> None:
    first, second = both(group)
    second.cut()
    group.run(2 * INTERVAL_S)
    assert (group.active, second.role, group.ports) == (1, "STANDBY", [80])
    assert first.role == "ACTIVE"


def test_one_that_lost_its_place_while_it_was_cut_off_waits(group: CsGroup) -> None:
    """It says what it was, and is refused: it does not configure first and learn then."""
    first, _ = both(group)
    first.reachable = False
    group.run(6 * INTERVAL_S)
    assert (group.active, group.ports) == (2, [8080])
    first.reachable = True
    group.run(30)
    assert (group.active, group.ports, first.role) == (2, [8080], "STANDBY")
    assert group.agent.outbox.counters["configuration_not_active"] == 0


def test_the_lower_segment_id_is_active_among_equals_and_the_other_one_steps_back(
    group: CsGroup,
) -> None:
    """At equal epochs, every DFS decides alike, whoever came first."""
    second = group.start(2, 8080)
    group.run(1)
    assert group.ports == [8080]
    group.start(1, 80)
    group.run(2 * INTERVAL_S)
    assert (group.active, group.ports, second.role) == (1, [80], "STANDBY")
    group.run(20 * INTERVAL_S)
    assert (group.active, group.ports) == (1, [80])


def test_one_that_is_configured_as_a_standby_never_takes_over(group: CsGroup) -> None:
    first = group.start(1, 80)
    standby = group.start(2, 8080, active=False)
    group.run(1)
    first.crash()
    group.run(10 * INTERVAL_S)
    assert (group.active, standby.role, group.ports) == (None, "STANDBY", [80])
    assert [entry.key for entry in group.target.virtual_servers()] == [
        VirtualServerKey(VIP[0], 80, 6)
    ]


# --- one CS, twice -----------------------------------------------------------------------------


def test_a_cs_back_after_a_power_loss_serves_after_a_second(group: CsGroup) -> None:
    """Nobody closed its connection, and three intervals are far; it could be alive and slow."""
    dead = group.start(1, 80)
    group.run(2)
    dead.lose_power()
    group.run(0.5)
    again = group.start(1, 8080)
    took_s = group.run(30, lambda: group.ports == [8080])
    assert took_s == pytest.approx(PROBE_WAIT_S)
    assert (group.active, again.role) == (1, "ACTIVE")
    assert group.agent.outbox.counters["cs_duplicate_id"] == 0
    group.run(60)
    assert (group.active, group.ports) == (1, [8080])


def test_of_two_living_css_with_one_number_the_first_keeps_working(group: CsGroup) -> None:
    """A copied file: both logs say why the second does not."""
    first = group.start(1, 80)
    group.run(2)
    second = group.start(1, 8080)
    group.run(120)
    assert (group.active, group.ports, first.role) == (1, [80], "ACTIVE")
    assert first.cs.connections.links[0].is_ready
    assert "the DFS refused the connection: DUPID" in " ".join(second.log)
    assert "this DFS refused CS 1: DUPID" in " ".join(group.log)
    first.crash()
    group.run(10)
    assert group.ports == [8080]


def test_a_cs_that_comes_back_twice_with_one_boot_id_is_one_cs(group: CsGroup) -> None:
    """Its connection before is half open: both belong to it until the old one is silent."""
    first = group.start(1, 80, boot_id=9)
    group.run(2)
    first.number = None  # nothing says so to the DFS
    first.over(first.cs.connections.stream_received(0, b"", group.now))
    group.run(5)
    assert len(group.agent.peers.by_identity[1, 1].connections) == 2
    group.run(30)
    assert len(group.agent.peers.by_identity[1, 1].connections) == 1
    assert (group.active, group.ports, first.role) == (1, [80], "ACTIVE")
