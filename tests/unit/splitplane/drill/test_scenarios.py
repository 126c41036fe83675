# SPDX-License-Identifier: Apache-2.0
"""The table of scenarios, and how roles are read from what segments answer."""

from __future__ import annotations

from typing import Any

import pytest

from splitplane.drill.roles import active_at, role_of
from splitplane.drill.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_a_scenario_begins_with_its_failure_and_undoes_what_lasts(scenario: Scenario) -> None:
    assert min(step.after_s for step in scenario.steps if step.after_s is not None) == 0.0
    assert all(step.says for step in scenario.steps)
    undone = [step for step in scenario.steps if step.after_s != 0.0]
    assert undone or scenario.name == "switchover"


def test_every_failure_that_the_design_speaks_of_is_there() -> None:
    assert set(SCENARIOS) == {
        *("kill", "hang", "link", "partition-dfs", "partition-to-dfs", "partition-from-dfs"),
        *("partition-cs", "partition-to-cs", "clock", "disk", "slow", "agent", "both"),
        "switchover",
    }


def dfs(*active: int | None) -> dict[str, Any]:
    groups = [{"active": None if each is None else {"segment_id": each}} for each in active]
    return {"role": "dfs", "groups": groups}


@pytest.mark.parametrize(
    ("status", "role", "active"),
    [
        (dfs(2), "obeys cs2", "cs2"),
        (dfs(None), "obeys no CS", None),
        (dfs(), "obeys no CS", None),
        (dfs(1, 4), "obeys cs1+cs4", "cs1+cs4"),
    ],
)
def test_the_role_of_a_dfs_is_whom_it_obeys(
    status: dict[str, Any], role: str, active: str | None
) -> None:
    assert role_of(status) == role
    assert active_at(status) == active


@pytest.mark.parametrize(
    ("status", "role"),
    [
        ({"group_role": "standby", "data_flow_segments": []}, "standby"),
        # an earlier release has a role for each DFS only
        ({"data_flow_segments": [{"group_role": "active"}, {"group_role": "active"}]}, "active"),
        ({"data_flow_segments": [{"group_role": "waiting"}, {"group_role": None}]},
         "unconnected+waiting"),
    ],
)  # fmt: skip
def test_the_role_of_a_cs_is_read_from_this_and_earlier_releases(
    status: dict[str, Any], role: str
) -> None:
    assert role_of({"role": "cs", **status}) == role
