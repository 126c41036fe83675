# SPDX-License-Identifier: Apache-2.0
"""The rigs whose flows are entered by REPLYs: they are, wherever a REPLY can say it."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import InstallFlow
from ssmb.constants import Flag
from support.targets.scene import NAT, Scene


@pytest.fixture(autouse=True)
def by_replies(scene: Scene) -> None:
    if not scene.rig.name.endswith("-replies"):
        pytest.skip("this rig's flows are entered by the agent")


def test_a_plain_flow_is_entered_by_the_target(scene: Scene) -> None:
    before = scene.values()["installed"]
    scene.rig.apply(*scene.some_flows(3))
    assert scene.rig.target.flow_count() == 3
    assert scene.values()["installed"] == before + 3
    assert scene.rig.events() == []


def test_what_no_reply_can_say_is_entered_by_the_agent(scene: Scene) -> None:
    before = scene.values()["installed"]
    outbound = scene.entry(flags=int(NAT | Flag.OUTBOUND))
    scene.rig.apply(InstallFlow(outbound))
    scene.rig.apply(InstallFlow(outbound._replace(idle_timeout_s=7)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.entry.idle_timeout_s == 7
    assert scene.values()["installed"] == before
