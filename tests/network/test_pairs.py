# SPDX-License-Identifier: Apache-2.0
"""Two DFSs for one virtual address, with real clients (wire protocol 14): the machine of one dies,
or packets change their way in mid-session, and no connection breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitplane.lab.processes import wait_for
from support.cluster.laboratory import require_laboratory
from support.cluster.team import Download, Team

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

RATE = 40_000  # octets per second of each download


@pytest.fixture(params=["pair", "multipath"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def team(tmp_path: Path, kind: str) -> Iterator[Team]:
    require_laboratory()
    with Team(tmp_path, kind) as team:
        team.wait_until_complete()
        team.wait_until_served()
        yield team


def begin(team: Team, count: int, seconds: float) -> list[Download]:
    downloads = [Download(team, int(RATE * seconds), RATE) for _ in range(count)]
    for each in downloads:
        each.start()
    wait_for("the downloads to be under way", lambda: all(each.came for each in downloads))
    return downloads


def end(downloads: list[Download]) -> None:
    for each in downloads:
        each.join()
    assert [each.failure for each in downloads if each.failure] == []
    assert all(each.came == each.octets for each in downloads)


@pytest.mark.parametrize("kind", ["pair"])
def test_the_machine_of_the_owner_dies_under_downloads(team: Team) -> None:
    assert team.mac_of_vip() == team.mac_of("dfs1")
    downloads = begin(team, 40, 8)
    team.machine_dies("dfs1")
    died = time.monotonic()
    late = Download(team, 1000, 1_000_000)
    late.start()  # in the moment in which nobody is there
    wait_for("the other one to take over", lambda: team.mac_of_vip() == team.mac_of("dfs2"))
    took_s = time.monotonic() - died
    end([*downloads, late])
    assert took_s < 1.5  # 0.5 s of silence, and what this machine takes to look
    assert "takes the virtual addresses of pair edge" in team.log("cs")
    # the first one comes back as the other
    team.namespaces["dfs1"].ip("link set eth0 up", "link set mgmt up")
    team.start("dfs1")
    team.wait_until_complete()
    downloads = begin(team, 10, 2)
    assert team.mac_of_vip() == team.mac_of("dfs2")
    end(downloads)


@pytest.mark.parametrize("kind", ["pair"])
def test_the_agent_of_the_owner_dies_and_nothing_moves(team: Team) -> None:
    downloads = begin(team, 20, 5)
    team.agent_dies("dfs1")
    time.sleep(2)
    assert team.mac_of_vip() == team.mac_of("dfs1")
    team.start("dfs1")
    team.wait_until_complete()
    end(downloads)
    assert "takes the virtual addresses" not in team.log("cs")


@pytest.mark.parametrize("kind", ["multipath"])
def test_packets_change_their_way_in_mid_flow(team: Team) -> None:
    downloads = begin(team, 40, 8)
    others: list[Download] = []
    for number in range(20):
        team.client_way(number % 2 + 1)
        team.node_way(number // 2 % 2 + 1)
        others += [Download(team, 2000, 1_000_000) for _ in range(5)]
        for each in others[-5:]:
            each.start()
        time.sleep(0.3)
    end([*downloads, *others])
