# SPDX-License-Identifier: Apache-2.0
"""The compiled program: found, told apart from others, and known again by its cookie."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest
from finsy.proto import p4i

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.p4runtime import program
from data_flow_segment.targets.p4runtime.program import Cookie, Program, split

P4: Final = Path(__file__).parents[4] / "p4"


def loaded_from(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> Program:
    monkeypatch.setattr(program, "_FOLDERS", folders)
    return Program.load()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the compiled program."""
    for name in ("dfs.json", "dfs.p4info.txtpb"):
        shutil.copy(P4 / name, tmp_path)
    return tmp_path


def test_it_is_the_one_in_the_repository_and_is_read_once() -> None:
    ours = Program.load()
    assert ours.device_config == (P4 / "dfs.json").read_bytes()
    assert "flows" in {table.preamble.alias for table in ours.p4info.tables}
    assert Program.load() is ours


def test_an_installed_package_has_it_among_its_artifacts(
    monkeypatch: pytest.MonkeyPatch, copy: Path
) -> None:
    assert loaded_from(monkeypatch, copy, Path("/nowhere")) == Program.load()
    assert loaded_from(monkeypatch, Path("/nowhere"), copy) == Program.load()


@pytest.mark.parametrize("name", ["dfs.json", "dfs.p4info.txtpb"])
def test_each_of_its_files_counts_for_its_digest(
    monkeypatch: pytest.MonkeyPatch, copy: Path, name: str
) -> None:
    before = Program.load().digest
    with (copy / name).open("a") as file:
        file.write("\n")
    assert loaded_from(monkeypatch, copy).digest != before


@pytest.mark.parametrize("name", ["dfs.json", "dfs.p4info.txtpb"])
def test_a_missing_file_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, copy: Path, name: str
) -> None:
    (copy / name).unlink()
    with pytest.raises(TargetError, match=r"is neither in .*: reinstall splitplane, or"):
        loaded_from(monkeypatch, copy, Path("/nowhere"))


@pytest.mark.parametrize("octets", [b"tables {", b"\xff"])
def test_a_damaged_file_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, copy: Path, octets: bytes
) -> None:
    (copy / "dfs.p4info.txtpb").write_bytes(octets)
    with pytest.raises(TargetError, match=r"cannot be read .*: compile it again with `make p4`"):
        loaded_from(monkeypatch, copy)


def test_a_cookie_holds_the_digest_and_the_boot_id() -> None:
    ours = Program.load()
    cookie = ours.cookie(0xFFFFFFFF)
    assert 0 <= cookie < 1 << 64
    assert split(cookie) == Cookie(ours.digest, 0xFFFFFFFF)


def test_another_version_of_it_is_ours_and_another_program_is_not() -> None:
    ours = Program.load()
    version = p4i.P4Info()
    version.CopyFrom(ours.p4info)
    version.tables.add().preamble.name = "SegmentIngress.new"
    assert ours.is_ours(version)
    assert not ours.is_ours(p4i.P4Info())
    del version.tables[:]
    version.tables.add().preamble.name = "ingress.flows"
    assert not ours.is_ours(version)
