# SPDX-License-Identifier: Apache-2.0
"""Folders that are not packages do not become ones, and what is light to import stays so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after *statement*."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        cwd="/", capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return set(done.stdout.split())


def imported_by(statement: str) -> set[str]:
    """The top-level ones."""
    return {name.split(".")[0] for name in modules_after(statement)}


@pytest.mark.parametrize(
    "folder", ["bench", "bpf", "docs", "mininet", "requirements", "scripts", "tests"]
)
def test_no_init_file_in(folder: str) -> None:
    assert list((ROOT / folder).rglob("__init__.py")) == []


@pytest.mark.parametrize("package", ["ssmb", "csmb"])
def test_a_protocol_needs_no_library_but_its_hash(package: str) -> None:
    heavy = {
        "asyncio",
        "pydantic",
        "yaml",
        "click",
        "rich",
        "numpy",
        "control_segment",
        "splitplane",
    }
    assert imported_by(f"import {package}.codec") & heavy == set()


def test_the_models_of_answers_need_no_library() -> None:
    heavy = {"asyncio", "pydantic", "click", "rich", "ssmb", "csmb", "splitplane"}
    assert imported_by("import admin.answers") & heavy == set()
    assert "pydantic" not in imported_by("import admin.client"), "loaded when something is asked"


def test_the_laboratorys_server_is_light() -> None:
    heavy = {"pydantic", "yaml", "click", "rich", "numpy", "control_segment", "data_flow_segment"}
    assert imported_by("import splitplane.lab.web") & heavy == set()


def test_the_process_that_probes_loads_no_control_segment() -> None:
    """Each CS with monitors starts one, and each start of it would take twice as long."""
    statement = "import control_segment.runtime.probes.__main__"
    heavy = {"admin.answers", "control_segment.config", "control_segment.runtime.runtime"}
    assert heavy & modules_after(statement) == set()


def test_the_command_answers_without_loading_the_segments() -> None:
    heavy = {"control_segment", "data_flow_segment", "numpy", "asyncio", "pydantic", "yaml", "rich"}
    assert imported_by("import splitplane.cli") & heavy == set()
    for command in ("cs", "dfs"):
        loaded = imported_by(f"import splitplane.commands.{command}")
        assert loaded & {"control_segment", "data_flow_segment", "numpy", "rich"} == set()


def test_a_dfs_without_a_switch_needs_no_grpc() -> None:
    """It is in the extra `p4`; the configuration knows the switch's numbers all the same."""
    loaded = imported_by(
        "import data_flow_segment.config.segment, data_flow_segment.runtime.segment"
    )
    assert "data_flow_segment" in loaded
    loaded |= imported_by("import data_flow_segment.targets.registry")
    assert loaded & {"grpc", "finsy", "google"} == set()
