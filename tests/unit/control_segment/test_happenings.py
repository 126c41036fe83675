# SPDX-License-Identifier: Apache-2.0
"""What an operator is told of roles and connections."""

from __future__ import annotations

from control_segment.happenings import Watch
from support.segments.dfs_double import DfsDouble, Rig


def kinds(watch: Watch, rig: Rig) -> list[tuple[str, str]]:
    election, links = rig.cs.group.election, rig.cs.connections.links
    found = watch.look(
        election.role, election.epoch, links, rig.cs.config.data_flow_segments
    )  # fmt: skip
    return [(each.kind, each.subject["segment"]) for each in found]


def test_a_role_and_a_dfs_that_comes_and_goes_are_told_once() -> None:
    rig, watch = Rig(), Watch(1)
    first = kinds(watch, rig)
    assert ("role", "cs-1") in first
    assert ("dfs_connected", "dfs-256") in first
    assert kinds(watch, rig) == []
    rig.dfs.disconnect(rig)
    assert ("dfs_lost", "dfs-256") in kinds(watch, rig)
    assert kinds(watch, rig) == []


def test_another_dfs_at_the_same_address_is_a_loss_and_a_gain() -> None:
    rig, watch = Rig(), Watch(1)
    kinds(watch, rig)
    rig.dfs.disconnect(rig)
    rig.dfss[0] = DfsDouble(segment_id=257, boot_id=8)
    rig.dfss[0].connect(rig)
    assert kinds(watch, rig) == [("dfs_lost", "dfs-256"), ("dfs_connected", "dfs-257")]
