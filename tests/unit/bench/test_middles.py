# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks configure is what the segments read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import load

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from middles import IPERF_PORT, VARIANTS, configure, middles
from scenarios import SCENARIOS
from topology import SERVER_PORT


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_both_files_of_a_scenario_load(variant: str, name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    configure(VARIANTS[variant], tmp_path, scenario)
    dfs = load(tmp_path / "dfs.yaml", DataFlowSegmentConfig)
    cs = load(tmp_path / "cs.yaml", ControlSegmentConfig)
    web = cs.virtual_servers[0]
    pool = next(pool for pool in cs.pools if pool.name == web.pool)
    assert [node.address for node in pool.nodes] == list(scenario.addresses)
    assert {node.port for node in pool.nodes} == {SERVER_PORT}
    assert pool.method == scenario.method
    assert (web.source is not None) == scenario.source_translation
    assert (web.persistence is not None) == scenario.persistence
    assert dfs.flow_capacity > scenario.other_flows
    assert cs.settings.flow_capacity > scenario.other_flows
    assert {server.port for server in cs.virtual_servers} >= {IPERF_PORT}


def test_a_standby_and_the_active_cs_know_each_other(tmp_path: Path) -> None:
    configure(VARIANTS["splitplane-standby"], tmp_path, SCENARIOS["plain"])
    active = load(tmp_path / "cs.yaml", ControlSegmentConfig)
    standby = load(tmp_path / "standby.yaml", ControlSegmentConfig)
    assert (active.active, standby.active) == (True, False)
    for one, other in ((active, standby), (standby, active)):
        (peer,) = one.control_segments
        assert (peer.address, peer.port) == (other.ssmb.address, other.ssmb.port)
        assert one.data_flow_segments == other.data_flow_segments
    assert len({active.segment_id, standby.segment_id}) == 2
    assert len({active.admin_socket, standby.admin_socket}) == 2


def test_a_scenario_leaves_out_only_what_there_is() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.left_out) < set(middles("auto"))
