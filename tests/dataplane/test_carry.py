# SPDX-License-Identifier: Apache-2.0
"""What is copied where between two versions of a map, and what is refused; no kernel is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf.btf import Member, Shape, Types
from data_flow_segment.targets.bpf.carry import (
    FATES,
    CannotCarryError,
    Facts,
    Plan,
    counters_of,
    is_same,
    plan,
)
from data_flow_segment.targets.bpf.layout import COUNTERS
from data_flow_segment.targets.bpf.options import ARTIFACT
from support.require import require

KEY = Shape(4, (Member("", 0, 4, "__u32"),))
NAMES = ("PASSED", "LOCAL")


def shape(*members: tuple[str, int, str]) -> Shape:
    """Members one behind the other: name, octets, type."""
    made, at = [], 0
    for name, size, kind in members:
        made.append(Member(name, at, size, kind))
        at += size
    return Shape(at, tuple(made))


def facts(value: Shape | None, size: int = 0) -> Facts:
    octets = value.size if value else size
    return Facts(1, 4, octets, 64, 0, KEY if value else None, value, NAMES)


A, B, C = ("a", 4, "__u32"), ("b", 2, "__be16"), ("c", 8, "__u64")


def test_neighbours_that_stay_neighbours_are_copied_as_one() -> None:
    assert plan("flows", facts(shape(A, B)), facts(shape(A, B, C))) == Plan(14, ((0, 0, 6),), ())


def test_what_lies_elsewhere_is_copied_by_its_name() -> None:
    made = plan("flows", facts(shape(A, B, C)), facts(shape(C, A, B)))
    assert made == Plan(14, ((0, 6, 8), (8, 0, 6)), ())


def test_what_the_new_version_does_not_know_has_to_be_zero() -> None:
    made = plan("flows", facts(shape(A, B, C)), facts(shape(A, C)))
    assert made == Plan(12, ((0, 0, 4), (4, 6, 8)), (("b", 4, 2),))


@pytest.mark.parametrize(
    ("now", "said"),
    [(("b", 4, "__u32"), "was __be16, this version has __u32"),
     (("b", 2, "__u16"), "was __be16, this version has __u16")],
)  # fmt: skip
def test_another_type_is_refused(now: tuple[str, int, str], said: str) -> None:
    with pytest.raises(CannotCarryError, match=f"map flows: member b {said}"):
        plan("flows", facts(shape(A, B)), facts(shape(A, now)))


def test_another_key_is_refused() -> None:
    other = replace(facts(shape(A)), key=shape(("key", 4, "__be32")))
    with pytest.raises(CannotCarryError, match="its key is another one"):
        plan("flows", other, facts(shape(A)))


def test_what_lives_for_seconds_begins_empty_instead() -> None:
    assert plan("fragments", facts(shape(A)), facts(shape(("a", 8, "__u64")))) is None


def test_without_btf_only_equal_sizes_can_be_copied() -> None:
    assert plan("flows", facts(None, 12), facts(shape(A, C))) == Plan(12, ((0, 0, 12),), ())
    with pytest.raises(CannotCarryError, match="no BTF"):
        plan("flows", facts(None, 8), facts(shape(A, C)))


def test_a_map_is_the_same_by_its_type_and_its_size() -> None:
    here = facts(shape(A, B))
    assert is_same("flows", here, here)
    assert is_same("flows", facts(None, 6), here)
    assert not is_same("flows", replace(here, max_entries=128), here)
    assert not is_same("flows", facts(shape(B, A)), here)
    assert is_same("flows", replace(here, counters=("LOCAL",)), here)
    assert not is_same("counters", replace(here, counters=("LOCAL",)), here)


def test_counters_are_in_the_order_of_their_numbers() -> None:
    assert counters_of({"COUNTER_B": 1, "COUNTER_A": 0, "COUNTERS": 2}) == ("A", "B")


def test_counters_that_btf_does_not_name_are_those_of_the_first_version() -> None:
    unnamed = counters_of({})
    assert len(unnamed) == 20
    assert {name.lower() for name in unnamed} <= set(COUNTERS)


@pytest.mark.dataplane
def test_the_objects_types_are_read_as_bpftool_reads_them(tmp_path: Path) -> None:
    missing = [name for name in ("bpftool", "llvm-objcopy") if shutil.which(name) is None]
    require("dataplane", f"not installed: {missing}" if missing else None)
    require("dataplane", None if ARTIFACT.exists() else "the program is not compiled: make bpf")
    raw = tmp_path / "btf"
    subprocess.run(
        ["llvm-objcopy", f"--dump-section=.BTF={raw}", str(ARTIFACT), "/dev/null"], check=True
    )
    dumped = subprocess.run(
        ["bpftool", "--json", "btf", "dump", "file", str(ARTIFACT)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    described: list[dict[str, Any]] = json.loads(dumped)["types"]
    types = Types(raw.read_bytes())
    ours = {"flow", "flow_key", "meta", "interface", "virtual_server", "fragment", "event_closed"}
    structs = [one for one in described if one["kind"] == "STRUCT" and one["name"] in ours]
    assert {one["name"] for one in structs} == ours
    for one in structs:
        found = types.shape(one["id"])
        assert found.size == one["size"]
        assert [(member.name, member.offset) for member in found.members] == [
            (member["name"], member["bits_offset"] // 8) for member in one["members"]
        ]
    assert "COUNTER_EVENT_LOST" in types.enumerators("counter")


def test_every_pinned_map_has_a_fate() -> None:
    source = Path("bpf/maps.h").read_text()
    per_program = {"scratch", "scratch_closed", "rate_limit"}
    names = {line.split()[1] for line in source.splitlines() if 'SEC(".maps")' in line}
    assert set(FATES) == names - per_program
