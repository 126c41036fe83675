# SPDX-License-Identifier: Apache-2.0
"""Never a broken connection, whatever happens to the segments and to their configuration.

Many downloads are under way all the time, so slow that none ends before everything has happened;
then the servers hurry, and every octet of every download is compared to its last.  With a P4 switch
they are fewer, and the switch dies too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from admin.answers import DFS_STATUS, RELOAD, SET_NODE
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from support.cluster.downloads import (
    SERVERS,
    Downloads,
    assert_cs_knows,
    new_connections,
    open_sessions,
)
from support.cluster.laboratory import BOTH_PLANES, assert_way, choose_way, wait_until_served
from support.soak import part

pytestmark = [pytest.mark.network, pytest.mark.dataplane, pytest.mark.soak]

POOLS = ("web", "web6")
CHANGES = part(1_000, 5)  # of weights


@pytest.fixture(params=BOTH_PLANES)
def lab(make_lab: Callable[..., Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    target, way = BOTH_PLANES[request.param]
    lab = make_lab(target, clients=2, servers=3)
    choose_way(lab, way)
    with lab:
        yield lab
        assert_way(lab, way)


def set_nodes(lab: Lab, node: str, **values: Any) -> None:
    for pool in POOLS:
        lab.admin("cs1", SET_NODE, pool=pool, node=node, **values)


def change_weights(lab: Lab, downloads: Downloads) -> None:
    """A weight of 0 is one too."""
    chance = random.Random(1)
    for number in range(CHANGES):
        pool, node = chance.choice(POOLS), chance.choice(sorted(SERVERS - {"server1"}))
        weight = chance.choice((0, 1, 2, 10, 1000))
        lab.admin("cs1", SET_NODE, pool=pool, node=node, weight=weight)
        if number % 100 == 99:
            downloads.check()
            new_connections(lab, 1)
    for server in SERVERS:
        set_nodes(lab, server, weight=1)


def drain(lab: Lab, downloads: Downloads) -> None:
    set_nodes(lab, "server1", state="draining")
    assert new_connections(lab) == {"server2", "server3"}
    downloads.wait_for_signs_of_life()
    set_nodes(lab, "server1", state="enabled")


@contextmanager
def changed(lab: Lab) -> Iterator[list[dict[str, Any]]]:
    """Change the web pools' configuration and let the CS load it."""
    pools = [pool for pool in lab.cs_configs["cs1"]["pools"] if pool["name"] in POOLS]
    yield pools
    lab.write_configs()
    lab.admin("cs1", RELOAD)


def reload(lab: Lab, downloads: Downloads) -> None:
    """Another method, and a node less; then back."""
    with changed(lab) as pools:
        removed = [pool["nodes"].pop() for pool in pools]
        for pool in pools:
            pool["method"] = "least_connections"
    assert new_connections(lab) == {"server1", "server2"}
    downloads.wait_for_signs_of_life()
    with changed(lab) as pools:
        for pool, node in zip(pools, removed, strict=True):
            pool["nodes"].append(node)
            pool["method"] = "round_robin"


def kill_cs(lab: Lab, downloads: Downloads) -> None:
    lab.cs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_cs()
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_agent(lab: Lab, downloads: Downloads) -> None:
    lab.dfs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_dfs()
    assert lab.admin("dfs", DFS_STATUS).adopted
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_both(lab: Lab, downloads: Downloads) -> None:
    lab.cs().kill9()
    lab.dfs().kill9()
    downloads.wait_for_signs_of_life()
    lab.start_dfs()
    lab.start_cs()
    wait_until_served(lab)
    assert_cs_knows(lab, downloads)


def kill_switch(lab: Lab, downloads: Downloads) -> None:
    """Its flows are gone with it; the agent, which has them too, writes them again.

    What it saw of a close that is under way is gone too: such a flow stays until it was idle.
    """
    wait_for("no close to be under way", lambda: open_sessions(lab) == len(downloads.servers))
    lab.switch().kill9()
    lab.start_switch()
    downloads.wait_for_signs_of_life()
    assert_cs_knows(lab, downloads)


def test_no_download_breaks_whatever_happens(lab: Lab) -> None:
    downloads = Downloads(lab)
    downloads.wait_until_under_way()
    assert set(downloads.servers.values()) == SERVERS
    stories = [change_weights, drain, reload, kill_cs, kill_agent, kill_both]
    if lab.dfs_config["target"] == "p4runtime":
        stories.append(kill_switch)
    for happens in stories:
        happens(lab, downloads)
        downloads.wait_for_signs_of_life()
        assert new_connections(lab) == SERVERS, happens.__name__
    downloads.finish()
    wait_for("the CS to see the ends", lambda: open_sessions(lab) == 0)
