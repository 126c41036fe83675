# SPDX-License-Identifier: Apache-2.0
"""Tests that share something costly run in one process, whatever the other processes do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from support.parallel import BY_PARAMETERS, LONG, RIGS, SINGLE, group_of, rank

ROOT: Final = Path(__file__).resolve().parents[2]
SEED: Final = "4711"
CHEAP: Final = {"build"}
"""Fixtures of a whole module that may be set up for each of its tests."""
MODULES: Final = [
    f"tests/unit/ssmb/{name}.py" for name in ("test_serials", "test_keys", "test_limits")
]


def test_a_module_is_run_by_one_process() -> None:
    """xdist's own groups are silently not heeded by a pytest that is newer than xdist."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no"]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [*command, "-n", "2", f"--randomly-seed={SEED}", *MODULES],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"--randomly-seed={SEED}" in done.stdout
    processes = defaultdict(set)
    for process, nodeid in re.findall(r"^\[(gw\d)\].*? PASSED (tests/.*)$", done.stdout, re.M):
        processes[group_of(nodeid)].add(process)
    assert set(processes) == set(MODULES)
    assert [len(by) for by in processes.values()] == [1] * len(MODULES)


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/contract/test_flows.py::test_it[memory-udp-ipv4]", "tests/contract/[memory]0"),
        ("tests/contract/test_flows.py::test_it[p4-model-ipv4]", "tests/contract/[p4-model]0"),
        ("tests/contract/test_flows.py::test_it[p4-model-ipv6]", "tests/contract/[p4-model]0"),
        ("tests/contract/test_close.py::test_that[bpf-xdp-ipv4]", "tests/contract/[bpf-xdp]1"),
        ("tests/contract/test_close.py::test_that[p4-ipv4]", "tests/contract/[p4]1"),
        ("tests/contract/test_veth_rig.py::test_that", "tests/contract/test_veth_rig.py"),
        ("tests/network/test_sack.py::test_that[1]", "tests/network/test_sack.py"),
        ("tests/network/test_loss.py::test_that[bad]", "tests/network/test_loss.py[bad]"),
        ("tests/simulation/test_quiet.py::test_it", "tests/simulation/test_quiet.py::test_it"),
    ],
)
def test_what_shares_a_costly_fixture_is_a_group(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_every_rig_of_the_contract_suite_is_a_group() -> None:
    conftest = (ROOT / "tests/contract/conftest.py").read_text()
    (targets,) = re.findall(r'"SPLITPLANE_TARGETS",\s+"(.*?)"', conftest)
    assert set(targets.split(",")) == set(RIGS)


def test_modules_that_are_handled_apart_exist() -> None:
    places = [*SINGLE, *BY_PARAMETERS, *(name for names in LONG for name in names)]
    assert [name for name in places if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("module", [name for name in SINGLE if name.endswith(".py")])
def test_tests_that_may_be_apart_share_nothing_costly(module: str) -> None:
    """What a wider fixture sets up would be set up for each of them."""
    text = (ROOT / module).read_text()
    wide = re.findall(r'scope="(?:module|session)".*\n(?:@.*\n)*def (\w+)', text)
    assert set(wide) <= CHEAP


def test_the_longest_come_first() -> None:
    names = [
        "tests/unit/test_x.py::test_it",
        "tests/contract/test_x.py::test_it",
        "tests/network/test_x.py::test_it",
    ]
    assert sorted(names, key=rank) == names[::-1]
