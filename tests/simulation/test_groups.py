# SPDX-License-Identifier: Apache-2.0
"""Groups of CSs in seeded schedules of failures (docs/design/0009): a DFS never obeys an older CS
after a newer one, no flow changes its node, and once nothing fails any more one CS is active
everywhere and the others are equal to it."""

from __future__ import annotations

import pytest

from control_segment.group.views import Role
from data_flow_segment.peers.epochs import RoleEpochs
from support.segments.agent_rig import CLIENT
from support.segments.failures import QUIET_S, Failures, addresses, complaints, flows_of
from support.segments.group_grid import GroupGrid
from support.segments.group_parts import KeepingDfs
from support.soak import part

pytestmark = pytest.mark.soak

PROCESSES = "kill hang cut kill_agent hang_agent switch"
NETWORK = "partition one_way split_css rough"
# what was lost is found out by these timers
SETTINGS = {"tcp_idle_timeout_s": 20, "stats_interval_s": 2}
PERSISTENT = {"persistence": {"kind": "source_address", "timeout_s": 600}}


def run(grid: GroupGrid, kinds: str, seed: int, *, count: int = 7, within_s: float = 15.0) -> None:
    """Failures while clients come and go, and then none."""
    grid.run(grid.dice.uniform(0, 6))
    failures = Failures(grid, seed)
    addresses(grid, 50, within_s)
    failures.happen(kinds, count, within_s)
    grid.run(within_s)
    failures.mend()
    grid.run(QUIET_S)
    found = list(complaints(grid))
    assert not found, "\n".join([f"seed {seed}", *grid.story, *found])


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("seed", range(part(500, 125)))
def test_whatever_fails_one_cs_is_active_in_the_end(seed: int, size: tuple[int, int]) -> None:
    css, dfss = size
    grid = GroupGrid(seed, css=css, dfss=dfss, **SETTINGS)
    run(grid, f"{PROCESSES} {NETWORK}", seed)


@pytest.mark.parametrize("seed", range(part(300, 75)))
def test_no_take_over_moves_a_client_or_exceeds_a_limit(seed: int) -> None:
    """As long as the network is whole, one CS decides at a time, and the next one knows it all."""
    server = {**PERSISTENT, "connection_limit": 25}
    grid = GroupGrid(seed, css=2, dfss=2, server=server, **SETTINGS)
    grid.keeps_homes = True
    run(grid, "lose_one lose_one switch", seed)
    assert grid.carried > 0


@pytest.mark.parametrize("seed", range(part(200, 50)))
def test_whatever_fails_all_know_the_same_clients_in_the_end(seed: int) -> None:
    grid = GroupGrid(seed, css=3, dfss=2, server=PERSISTENT, **SETTINGS)
    run(grid, "kill hang partition one_way split_css rough", seed)


def test_a_cs_that_hung_holds_to_none_of_its_own_late_decisions() -> None:
    """It answers QUERYs that waited in its socket before it hears that another one is active."""
    grid = GroupGrid(1, dfss=1, grants=False)
    first, second = grid.members
    grid.run(2)
    addresses(grid, 5, 0.1)
    grid.run(1)
    grid.hang(first)
    addresses(grid, 15, 0.15, first=5)
    grid.run(2)
    assert second.role is Role.ACTIVE
    known = len(flows_of(first.cs))
    grid.resume(first)
    assert len(flows_of(first.cs)) > known
    grid.run(4)
    assert list(complaints(grid)) == []


def test_a_cs_that_takes_over_asks_for_what_it_has_missed() -> None:
    """Its copies were lost just before, at a DFS that another CS could still reach."""
    grid = GroupGrid(1, dfss=2, grants=False)
    first, second = grid.members
    grid.run(2)
    grid.separate([first, grid.dfss[0]], [second, grid.dfss[1]])
    grid.run(0.3)
    for number in range(4):
        grid.open(grid.dfss[0], (CLIENT[0], 3000 + number), 60.0)
    grid.run(0.25)  # the second one claims at its DFS
    assert grid.dfss[1].obeys is second
    grid.heal()
    grid.run(20)
    assert second.role is Role.ACTIVE
    assert len(flows_of(second.cs)) == 4
    assert list(complaints(grid)) == []


def test_a_dfs_without_a_state_file_is_found_to_obey_an_older_cs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that what is watched can be seen to fail."""
    monkeypatch.setattr(KeepingDfs, "epochs", lambda dfs: RoleEpochs({}))
    grid = GroupGrid(1, dfss=1)
    first, second = grid.members
    (dfs,) = grid.dfss
    grid.run(2)
    grid.kill(first)
    grid.run(2)
    assert dfs.obeys is second
    grid.kill(second)
    grid.kill(dfs)
    grid.start(dfs)
    grid.start(first)
    grid.run(1)
    assert any("DFS 1 obeys Claim(role_epoch=1, segment_id=1)" in wrong for wrong in grid.wrongs)
