# SPDX-License-Identifier: Apache-2.0
"""The models of docs/design/models, checked by spin: what holds, and that they can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from support.citations import ROOT
from support.require import require
from support.soak import SOAKING

MODELS: Final = ROOT / "docs" / "design" / "models"
DEADLINE_S: Final = 1500
# in make soak the states are compressed: that takes less memory, and more time
SAFETY: Final = "-O2 -DSAFETY -DCOLLAPSE" if SOAKING else "-O0 -DSAFETY"
CYCLES: Final = "-O0 -DNP -DNOFAIR"
LARGE: Final = ("-DCSS=3 -DEPOCHS=2", "-DCSS=2 -DDFSS=3 -DEPOCHS=1")
"""Whose search takes longer than to have it compiled well, which is a second or two."""


class Checked(NamedTuple):
    """What spin has found."""

    errors: int
    states: int
    verdict: str  # the first error
    story: str  # what the model's parts did up to it


def check(model: str, macros: str, folder: Path, *, build: str = SAFETY, run: str = "") -> Checked:
    """Search all states of a model."""
    require("models", None if shutil.which("spin") else "spin is not installed")
    for source in MODELS.glob("*.pml"):
        shutil.copy(source, folder)

    def ran(command: str) -> str:
        done = subprocess.run(
            command.split(), cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    if macros in LARGE:
        build = build.replace("-O0", "-O1")
    ran(f"spin {macros} -a {model}.pml")
    ran(f"clang -w {build} -o pan pan.c")
    said = ran(f"./pan -m200000 -w22 {run}")
    assert "max search depth too small" not in said, said
    counts = re.search(r"errors: (\d+)\n\s*(\S+) states, stored", said)
    assert counts is not None, said
    errors, states = int(counts[1]), int(float(counts[2]))
    if not errors:
        return Checked(0, states, "", "")
    verdict = re.search(r"^pan:1: (.*)$", said, re.MULTILINE)
    assert verdict is not None, said
    return Checked(errors, states, verdict[1], ran(f"spin -t {macros} {model}.pml"))


def assert_holds(model: str, macros: str, folder: Path, **how: str) -> None:
    found = check(model, macros, folder, **how)
    assert not found.errors, f"{model} {macros}: {found.verdict}\n{found.story}"
    assert found.states > 1000, "it has not searched anything"


def bounds(*short: str, soak: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Parametrize with macros; some are for `make soak` alone."""
    long = [pytest.param(macros, marks=pytest.mark.soak) for macros in soak if SOAKING]
    return pytest.mark.parametrize("macros", [*short, *long])


@bounds("-DCSS=2 -DEPOCHS=3", "-DCSS=3 -DEPOCHS=2", soak=("-DCSS=3 -DEPOCHS=3",))
def test_a_dfs_never_obeys_an_older_cs_after_a_newer_one(macros: str, tmp_path: Path) -> None:
    assert_holds("fencing", macros, tmp_path)


@bounds(
    "-DCSS=2 -DDFSS=2 -DHASTY",
    "-DCSS=2 -DDFSS=3 -DEPOCHS=1",
    "-DCSS=3 -DDFSS=1",
    soak=(
        "-DCSS=2 -DDFSS=2 -DEPOCHS=3",
        "-DCSS=2 -DDFSS=3",
        "-DCSS=2 -DDFSS=3 -DEPOCHS=1 -DHASTY",
        "-DCSS=3 -DDFSS=2 -DEPOCHS=1",
        "-DCSS=3 -DDFSS=2 -DEPOCHS=1 -DHASTY",
    ),
)
def test_after_all_failures_one_cs_is_active_everywhere(macros: str, tmp_path: Path) -> None:
    assert_holds("election", macros, tmp_path)


@bounds("-DCSS=2 -DDFSS=2", "-DCSS=3 -DDFSS=1", soak=("-DCSS=3 -DDFSS=2 -DEPOCHS=1",))
def test_a_hung_cs_is_replaced(macros: str, tmp_path: Path) -> None:
    assert_holds("election", f"-DHUNG {macros}", tmp_path)


@bounds(
    "-DCSS=2 -DDFSS=2 -DEPOCHS=1",
    soak=(
        "-DCSS=2 -DDFSS=2 -DEPOCHS=2",
        "-DCSS=3 -DDFSS=1 -DEPOCHS=2",
        "-DCSS=2 -DDFSS=3 -DEPOCHS=1",
    ),
)
def test_in_a_network_in_parts_the_roles_settle(macros: str, tmp_path: Path) -> None:
    assert_holds("election", f"-DPARTS {macros}", tmp_path)


def test_no_election_goes_on_for_ever(tmp_path: Path) -> None:
    assert_holds("election", "-DPARTS -DEPOCHS=1", tmp_path, build=CYCLES, run="-l")


@bounds(
    "-DNOTHING_KEPT",
    "-DEPOCH_ALONE_KEPT",
    "-DWRITTEN_LATER",
    "-DEQUAL_FROM_ANYBODY",
    "-DLOWER_IF_VACANT",
    "-DOLD_REPLIES",
)
def test_each_part_of_the_fencing_is_needed(macros: str, tmp_path: Path) -> None:
    found = check("fencing", macros, tmp_path)
    assert found.errors == 1
    assert "assertion violated" in found.verdict
    assert "obeys CS 1" in found.story


@bounds(
    "-DLOW_IGNORED",
    "-DSPLIT_IGNORED -DPARTS -DEPOCHS=1",
    soak=("-DEQUAL_IS_BETTER -DPARTS -DDFSS=3 -DEPOCHS=1",),
)
def test_an_election_with_other_rules_does_not_end_well(macros: str, tmp_path: Path) -> None:
    found = check("election", macros, tmp_path)
    assert found.errors == 1
    for_ever = "EQUAL_IS_BETTER" in macros  # else it stops in a state that does not serve
    assert ("assertion violated (epoch" if for_ever else "invalid end state") in found.verdict
    assert "CS 1: ACTIVE" in found.story
