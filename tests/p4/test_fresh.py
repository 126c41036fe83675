# SPDX-License-Identifier: Apache-2.0
"""What `make p4` wrote belongs to the sources beside it.

The hashes show it on any machine; where there is a P4 compiler the program is compiled again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("p4c-bm2-ss")
PROGRAMS = ["p4/dfs", "bench/p4/minimal"]
INCLUDED = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("p4/include/*.p4"))
SOURCES = [*(f"{name}.p4" for name in PROGRAMS), *INCLUDED]
OUTPUTS = [f"{name}.{kind}" for name in PROGRAMS for kind in ("json", "p4info.txtpb")]


def _recorded() -> dict[str, str]:
    lines = (ROOT / "p4/SOURCES.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def test_every_source_and_output_is_recorded() -> None:
    assert sorted(_recorded()) == sorted(SOURCES + OUTPUTS), "run `make p4`"


@pytest.mark.parametrize("name", SOURCES + OUTPUTS)
def test_nothing_changed_since_it_was_compiled(name: str) -> None:
    digest = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
    assert digest == _recorded().get(name), f"{name} is not what `make p4` saw: run it"


def _ids(kind: str) -> list[str]:
    text = (ROOT / "p4/include/ids.p4").read_text()
    return re.findall(rf"^#define \w+_ID\s+(0x{kind}[0-9a-f]{{6}})\b", text, re.M)


@pytest.mark.parametrize("kind", ["01", "02", "12", "13", "14", "16"])
def test_no_id_is_given_twice(kind: str) -> None:
    ids = _ids(kind)
    assert ids
    assert len(ids) == len(set(ids))


def _pipeline(path: Path) -> Any:
    program = json.loads(path.read_text())
    return program["__meta__"].pop("compiler"), program


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiling_again_gives_the_same(name: str, tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("p4c-bm2-ss is not on the PATH (p4lang's packages p4lang-p4c have it)")
    raw_path, json_path = tmp_path / "raw.json", tmp_path / "dfs.json"
    info_path = tmp_path / "dfs.p4info.txtpb"
    flags = ["--std", "p4-16", "--Wdisable=unused", "--Wdisable=invalid_header"]
    flags += ["--p4runtime-files", str(info_path)]
    compile_it = [COMPILER, *flags, "-o", str(raw_path), f"{name}.p4"]
    shrink_it = [sys.executable, "scripts/p4_compact.py", str(raw_path), str(json_path)]
    for command in (compile_it, shrink_it):
        subprocess.run(command, check=True, cwd=ROOT)
    committed = ROOT / f"{name}.p4info.txtpb"
    assert info_path.read_text() == committed.read_text()
    ours, theirs = _pipeline(ROOT / f"{name}.json"), _pipeline(json_path)
    if ours[0] != theirs[0]:
        pytest.skip(f"the pipeline was compiled with p4c {ours[0]}, this one is {theirs[0]}")
    assert ours[1] == theirs[1]
