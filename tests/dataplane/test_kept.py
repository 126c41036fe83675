# SPDX-License-Identifier: Apache-2.0
"""The kernel checks a program once: the next agent runs what is there, if it is the same program
with the same maps, and else its own."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf import BpfTarget
from data_flow_segment.targets.bpf.kept import PROGRAM_PIN
from data_flow_segment.targets.bpf.libbpf import descriptor_info, library
from data_flow_segment.targets.bpf.links import tc_programs
from data_flow_segment.targets.bpf.options import ARTIFACT
from data_flow_segment.targets.bpf.pinned import map_id, maps_of_program

pytestmark = pytest.mark.dataplane


def pins(ground: Any) -> set[Path]:
    return set(ground.pin_path.glob(f"{PROGRAM_PIN}*"))


def attached() -> set[int]:
    """The kernel's numbers of the programs on ext0."""
    return tc_programs(socket.if_nametoindex("ext0"))


def number_of(target: BpfTarget, name: str) -> int:
    return int(descriptor_info(target.program_fd(name))["prog_id"])


def test_the_next_agent_runs_the_programs_that_are_there(ground: Any) -> None:
    first = ground.open()
    kept, running = pins(ground), attached()
    numbers = {name: number_of(first, name) for name in ("dfs_tc", "dfs_back")}
    assert running == {numbers["dfs_tc"]}
    ground.close(first, detach=False)
    second = ground.open()
    assert {name: number_of(second, name) for name in numbers} == numbers
    assert (pins(ground), attached()) == (kept, running)
    assert second.adopted


def test_another_object_is_loaded_and_takes_the_place(ground: Any, tmp_path: Path) -> None:
    ground.close(ground.open(), detach=False)
    before, kept = attached(), pins(ground)
    other = tmp_path / "dfs.bpf.o"
    shutil.copy(ARTIFACT, other)
    with other.open("ab") as file:
        file.write(b"\0")  # behind all sections: the same programs, another object
    ground.open(artifact=other)
    assert len(attached()) == 1
    assert attached().isdisjoint(before)
    assert len(pins(ground)) == len(kept)
    assert pins(ground).isdisjoint(kept)


def test_programs_whose_maps_are_others_are_not_used(ground: Any) -> None:
    ground.close(ground.open(flow_capacity=64), detach=False)
    before = attached()
    ground.open(flow_capacity=256)
    assert attached().isdisjoint(before)
    (program,) = attached()
    assert map_id(ground.pin_path / "flows") in maps_of_program(program)


@pytest.mark.parametrize("missing", ["a program", "all programs"])
def test_what_is_missing_is_loaded(ground: Any, missing: str) -> None:
    ground.close(ground.open(), detach=False)
    before, kept = attached(), pins(ground)
    for pin in sorted(kept)[: 1 if missing == "a program" else None]:
        pin.unlink()
    target = ground.open()
    assert pins(ground) == kept
    for pin in kept:
        fd = library().bpf_obj_get(str(pin).encode())
        assert descriptor_info(fd)["prog_id"] == str(number_of(target, pin.name.split("-")[2]))
        os.close(fd)
    assert attached() == {number_of(target, "dfs_tc")}
    assert attached().isdisjoint(before)


def test_only_what_is_attached_is_loaded(ground: Any) -> None:
    ways = {"tc": "dfs_tc", "xdp": "dfs_xdp"}
    for attach, other in (("tc", "xdp"), ("xdp", "tc"), ("tc", "xdp")):
        target = ground.open(attach=attach)
        assert target.program_fd(ways[attach]) >= 0
        assert target.program_fd(ways[other]) < 0
        ground.close(target, detach=False)


def test_nothing_is_kept_that_was_detached(ground: Any) -> None:
    ground.close(ground.open())
    assert not ground.pin_path.exists()


def test_a_start_that_fails_keeps_nothing(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_flow_segment.targets.bpf.places import Places
    from data_flow_segment.targets.contract import TargetError

    def fail(_places: Places) -> None:
        raise TargetError("on purpose")

    ground.close(ground.open(), detach=False)
    kept = pins(ground)
    with monkeypatch.context() as patched:
        patched.setattr(Places, "attach", fail)
        with pytest.raises(TargetError, match="on purpose"):
            ground.open(flow_capacity=256)
    assert pins(ground) == kept
    before = attached()
    ground.open()
    assert attached() == before
