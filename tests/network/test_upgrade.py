# SPDX-License-Identifier: Apache-2.0
"""Another version takes over a laboratory's DFS in the middle of its work, and gives it back.

That version has a field more in `struct flow`, a counter more and a larger table: none of its
maps can be the old ones.  No download breaks, and no new connection fails, at the rate at which
the machine makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from admin.answers import COUNTERS, DFS_STATUS
from splitplane.lab import Lab
from support.cluster.downloads import SERVERS, Arrivals, Downloads, assert_cs_knows, new_connections
from support.cluster.laboratory import WAYS, assert_way, choose_way, wait_until_served
from support.soak import part
from support.targets.bpf_variants import A_VERSION_WITH_MORE, copy_version

pytestmark = [pytest.mark.network, pytest.mark.dataplane, pytest.mark.soak]

AT_ONCE = part(32, 4)


def start_version(lab: Lab, tree: Path, capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same pins."""
    lab.dfs_config["flow_capacity"] = capacity
    lab.write_configs()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tree))
        lab.start_dfs()
    status = lab.admin("dfs", DFS_STATUS)
    assert (status.adopted, status.flow_capacity) == (True, capacity)
    wait_until_served(lab)


@pytest.mark.parametrize("way", WAYS)
def test_no_connection_breaks_when_another_version_takes_over(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    here, other = Path.cwd(), copy_version(tmp_path / "other", *A_VERSION_WITH_MORE)
    lab = make_lab(clients=2, servers=3)
    choose_way(lab, way)
    with lab:
        capacity = lab.dfs_config["flow_capacity"]
        downloads = Downloads(lab)
        downloads.wait_until_under_way()
        for tree, flows, end in (
            (other, 2 * capacity, lab.dfs().stop),
            (here, capacity, lab.dfs().kill9),
        ):
            arrivals = Arrivals(lab, AT_ONCE)
            downloads.wait_for_signs_of_life()
            before = lab.admin("dfs", COUNTERS)
            end()
            start_version(lab, tree, flows, monkeypatch)
            after = lab.admin("dfs", COUNTERS)
            assert ("spare" in after) == (tree is other)
            assert after["flow_packets"].value > before["flow_packets"].value
            assert_cs_knows(lab, downloads)
            downloads.wait_for_signs_of_life()
            arrivals.stop()
            assert arrivals.count > AT_ONCE
            assert new_connections(lab) == SERVERS
            assert_way(lab, way)
        downloads.finish()
