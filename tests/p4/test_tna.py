# SPDX-License-Identifier: Apache-2.0
"""The Tofino program means by its names and numbers what the v1model program means by them.

That needs no compiler; where there is one (scripts/p4_tna.py), the program is compiled too."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from google.protobuf import text_format

ROOT: Final = Path(__file__).parents[2]
OURS: Final = sorted(ROOT.glob("p4/tna/*.p4"))
SHARED: Final = [ROOT / f"p4/include/{name}.p4" for name in ("ids", "constants")]
WIDTHS: Final = {"address_t": 128, "mac_t": 48, "port_t": 9}
# what Tofino has in another form: docs/design/0003-p4.md
# The Tofino program does not look at sources, and knows no flows that are asleep, yet
# (docs/design/0003-p4.md, TNA).
NOT_PORTED: Final = frozenset(
    (
        "asleep",
        "set_asleep",
        "not_asleep",
        "own_sources",
        "virtual_sources",
        "from_own",
        "from_virtual",
        "not_from_own",
        "not_from_virtual",
    )
)
REPLACED_TABLES: Final = {"flows"}
REPLACED_ACTIONS: Final = {"inbound", "returning"}
NARROWER: Final = {"new_src_addr", "new_dst_addr", "towards"}  # in the IPv4 table
MISSING: Final = 77


class Action(NamedTuple):
    name: str
    parameters: dict[str, tuple[int, int]]  # name -> id, bits


class Table(NamedTuple):
    name: str
    fields: dict[str, tuple[int, str]]  # name -> id, kind of match


def _source() -> str:
    return "\n".join(path.read_text() for path in OURS)


def _ids() -> dict[str, int]:
    text = "\n".join(path.read_text() for path in (SHARED[0], ROOT / "p4/tna/ids.p4"))
    return {name: int(value, 16) for name, value in re.findall(r"#define (\w+_ID)\s+(\w+)", text)}


def _width(kind: str) -> int:
    return WIDTHS[kind] if kind in WIDTHS else int(re.sub(r"\D", "", kind))


def _actions() -> dict[int, Action]:
    found = re.findall(
        r"@id\((\w+_ID)\)(?: @\w+\(.*?\))?\s+action (\w+)\((.*?)\) \{", _source(), re.S
    )
    ids = _ids()
    parameter = re.compile(r"@id\((\d+)\) (\w+(?:<\d+>)?) (\w+)")
    return {
        ids[given]: Action(
            name,
            {field: (int(at), _width(kind)) for at, kind, field in parameter.findall(parameters)},
        )
        for given, name, parameters in found
    }


def _tables() -> dict[int, Table]:
    found = re.findall(r"@id\((\w+_ID)\)\s+table (\w+) \{\s+key = \{(.*?)\}", _source(), re.S)
    ids = _ids()
    field = re.compile(r": (\w+) @id\((\d+)\) @name\(\"(\w+)\"\)")
    return {
        ids[given]: Table(name, {word: (int(at), kind) for kind, at, word in field.findall(key)})
        for given, name, key in found
    }


@pytest.fixture(scope="module")
def info() -> Any:
    from finsy.proto import p4i

    parsed = p4i.P4Info()
    text_format.Parse((ROOT / "p4/dfs.p4info.txtpb").read_text(), parsed)
    return parsed


def test_an_id_is_given_once_in_both_programs() -> None:
    repeated = [value for value, times in Counter(_ids().values()).items() if times > 1]
    assert repeated == []
    assert len(_ids()) > 40


def test_a_number_is_said_once_in_both_programs() -> None:
    text = "\n".join(path.read_text() for path in (SHARED[1], ROOT / "p4/tna/constants.p4"))
    for kind in ("REASON", "OPERATION", "COUNTER"):
        numbers = re.findall(rf"const bit<\d+> {kind}_\w+ = (\d+);", text)
        assert numbers, kind
        assert len(numbers) == len(set(numbers)), kind


def test_a_table_of_both_programs_has_one_shape(info: Any) -> None:
    ours = _tables()
    for table in info.tables:
        name = table.preamble.alias
        if name in REPLACED_TABLES or name in NOT_PORTED:
            assert table.preamble.id not in ours
            continue
        fields = {
            f.name: (f.id, f.MatchType.Name(f.match_type).lower()) for f in table.match_fields
        }
        assert ours[table.preamble.id] == Table(name, fields)


def test_an_action_of_both_programs_has_one_shape(info: Any) -> None:
    ours = _actions()
    for action in info.actions:
        name = action.preamble.alias
        if name in REPLACED_ACTIONS or name in NOT_PORTED:
            assert action.preamble.id not in ours
            continue
        parameters = {p.name: (p.id, p.bitwidth) for p in action.params}
        assert ours[action.preamble.id] == Action(name, parameters)


@pytest.mark.parametrize("name", sorted(REPLACED_ACTIONS))
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_flows_fields_keep_their_names_and_ids(info: Any, name: str, family: str) -> None:
    wide = next(action for action in info.actions if action.preamble.alias == name)
    theirs = {p.name: (p.id, p.bitwidth) for p in wide.params}
    ours = next(a for a in _actions().values() if a.name == f"{name}_{family}")
    assert ours.parameters
    for field, (at, bits) in ours.parameters.items():
        expected = 32 if family == "ipv4" and field in NARROWER else theirs[field][1]
        assert (at, bits) == (theirs[field][0], expected), field


def test_each_control_has_its_picture() -> None:
    for path in OURS:
        text = path.read_text()
        if re.search(r"^(control|parser) ", text, re.M):
            opening = text[: re.search(r"^#", text, re.M).start()]  # type: ignore[union-attr]
            assert "->" in opening, f"{path.name} does not show what it does"


def test_it_compiles_as_far_as_the_compiler_here_goes(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/p4_tna.py", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode == MISSING:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
