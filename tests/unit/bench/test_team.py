# SPDX-License-Identifier: Apache-2.0
"""What bench/team.py configures is what the segments read."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import load

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from pair_configs import PORTS
from pairs import CONTROL_SEGMENTS, MACHINES, SERVERS
from team import cs_config, dfs_config


def test_two_dfss_of_one_pair_and_two_css_of_one_group(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").touch(0o600)
    (tmp_path / "cluster.key").write_text("a" * 64)
    path = tmp_path / "file.yaml"
    dfss: list[DataFlowSegmentConfig] = []
    css: list[ControlSegmentConfig] = []
    for machine in MACHINES:
        path.write_text(yaml.safe_dump(dfs_config(machine, tmp_path)))
        dfss.append(load(path, DataFlowSegmentConfig))
    for name in CONTROL_SEGMENTS:
        path.write_text(yaml.safe_dump(cs_config(name, tmp_path)))
        css.append(load(path, ControlSegmentConfig))
    assert len({dfs.segment_id for dfs in dfss} | {cs.segment_id for cs in css}) == 4
    assert len({dfs.pin_path for dfs in dfss}) == 2
    assert [cs.active for cs in css] == [True, False]
    for cs in css:
        (other,) = (each for each in css if each is not cs)
        (known,) = cs.control_segments
        assert (known.segment_id, known.address) == (other.segment_id, other.ssmb.address)
        assert {each.address for each in cs.data_flow_segments} == {
            dfs.csmb.address for dfs in dfss
        }
        assert len({each.pair for each in cs.data_flow_segments} - {None}) == 1
        assert {vs.port for vs in cs.virtual_servers} == set(PORTS)
        assert not any(vs.answer_arp for vs in cs.virtual_servers)
        assert {node.address for pool in cs.pools for node in pool.nodes} == set(SERVERS.values())
