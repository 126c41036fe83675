# SPDX-License-Identifier: Apache-2.0
"""The compiled program: found, told apart from others, and known again by its cookie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from finsy.proto import p4i
from google.protobuf import text_format

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.p4runtime import program
from data_flow_segment.targets.p4runtime.options import ProgramOptions
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


# --- a program that was compiled for another switch ----------------------------------------------


@pytest.fixture
def given(copy: Path) -> ProgramOptions:
    """Ours, as if another compiler had made it."""
    return ProgramOptions(copy / "dfs.p4info.txtpb", copy / "dfs.json", 320)


def rewritten(given: ProgramOptions, change: Callable[[p4i.P4Info], object]) -> ProgramOptions:
    """With a P4Info that differs."""
    info = text_format.Parse(given.p4info_file.read_text(), p4i.P4Info())
    change(info)
    given.p4info_file.write_text(text_format.MessageToString(info))
    return given


def table(info: p4i.P4Info, name: str) -> p4i.Table:
    return next(each for each in info.tables if each.preamble.alias == name)


def test_a_configured_program_is_read_with_its_own_ids_and_ports(given: ProgramOptions) -> None:
    def renumber(info: p4i.P4Info) -> None:
        table(info, "flows").preamble.id += 77
        table(info, "interfaces").match_fields[0].bitwidth = 16

    found = Program.load(rewritten(given, renumber))
    assert found.device_config == Program.load().device_config
    assert (found.is_loaded, found.agent_port) == (False, 320)
    assert found.digest != Program.load().digest
    found.require_ports([Interface(65535, "last", bytes(6))])
    with pytest.raises(TargetError, match=r"port 512 of in: the program's ports have 9 bits"):
        Program.load().require_ports([Interface(1, "in", bytes(6), more_ports=(512,))])


def test_one_that_the_switch_has_needs_no_binary(given: ProgramOptions) -> None:
    found = Program.load(replace(given, device_config_file=None))
    assert (found.is_loaded, found.device_config) == (True, b"")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda info: info.actions.pop(), "it has no action"),
        (lambda info: info.tables.pop(), "it has no table"),
        (lambda info: table(info, "flows").match_fields.pop(), "table flows has not the fields"),
        (
            lambda info: setattr(table(info, "flows"), "size", 1024),
            "table flows has room for 1024 entries, and the agent needs 262144",
        ),
        (
            lambda info: setattr(table(info, "routes").match_fields[0], "bitwidth", 32),
            "table routes has address with 32 bits instead of 128",
        ),
        (
            lambda info: setattr(table(info, "routes").match_fields[0], "bitwidth", 129),
            "table routes has address with 129 bits instead of 128",
        ),
        (
            lambda info: setattr(table(info, "routes").match_fields[0], "match_type", 2),
            "table routes matches address in another way",
        ),
        (
            lambda info: setattr(info.controller_packet_metadata[0].metadata[0], "id", 99),
            "has other ids of its fields",
        ),
    ],
)
def test_what_is_not_this_program_is_told(
    given: ProgramOptions, change: Callable[[p4i.P4Info], object], said: str
) -> None:
    with pytest.raises(TargetError, match=said):
        Program.load(rewritten(given, change))


@pytest.mark.parametrize(
    ("field", "name"), [("p4info_file", "nothing.txtpb"), ("device_config_file", "nothing.bin")]
)
def test_a_configured_file_that_is_missing_is_told(
    given: ProgramOptions, tmp_path: Path, field: str, name: str
) -> None:
    changes: dict[str, Any] = {field: tmp_path / name}
    with pytest.raises(TargetError, match=rf"p4runtime.program.{field}: .*{name} cannot be read"):
        Program.load(replace(given, **changes))


def test_a_configured_file_that_is_damaged_is_told(given: ProgramOptions) -> None:
    given.p4info_file.write_text("tables {")
    with pytest.raises(TargetError, match=r"cannot be read .*: correct p4runtime.program.p4info_"):
        Program.load(given)
