# SPDX-License-Identifier: Apache-2.0
"""What is registered can be named, is described, and opens."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.targets import registry
from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.registry import TARGETS, Registered, open_target

ROOT = Path(__file__).parents[3]


def config(**changes: Any) -> DataFlowSegmentConfig:
    given = {
        "segment_id": 256,
        "target": "memory",
        "external": ["ext0"],
        "internal": ["int0"],
        "ssmb": {"address": "10.255.0.1"},
        "laboratory_no_authentication": True,
    }
    return DataFlowSegmentConfig.model_validate(given | changes)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_needs_is_an_extra_of_the_project(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = TARGETS[name].extra
    assert extra is None or extra in project["optional-dependencies"]


def test_an_unknown_target_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="no target 'tofino'; there are: bpf, memory, p4"):
        config(target="tofino")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Registered("data_flow_segment.targets.no_such_module", extra="bpf")
    monkeypatch.setattr(registry, "TARGETS", {"memory": missing})
    with pytest.raises(TargetError, match=r"pip install 'splitplane\[bpf\]'"):
        open_target(config(), print)
