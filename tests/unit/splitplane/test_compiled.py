# SPDX-License-Identifier: Apache-2.0
"""Compiled modules: used if they are of these source files and of this Python, otherwise not."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import control_segment.decisions
from splitplane import compiled
from support.compiled import IMPLEMENTATION

SUFFIX = EXTENSION_SUFFIXES[0]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one module, which was compiled of the source file beside it."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    for finder in tuple(sys.meta_path):
        if type(finder).__module__ == compiled.__name__:
            sys.meta_path.remove(finder)
    monkeypatch.delenv(compiled.SWITCH, raising=False)
    (tmp_path / "of" / "made").mkdir(parents=True)
    (tmp_path / "of" / "module.py").write_text("")
    (tmp_path / "made" / "of").mkdir(parents=True)
    (tmp_path / "made" / "of" / f"module{SUFFIX}").write_bytes(b"")
    listed(tmp_path)
    return tmp_path


def listed(folder: Path, octets: bytes = b"") -> None:
    digest = sha256(octets).hexdigest()
    (folder / "made" / compiled.LIST_NAME).write_text(f"{digest}  of/module.py\n")


def use(folder: Path) -> str:
    return compiled.use(folder / "made", folder)


def test_what_was_compiled_of_these_source_files_is_found(folder: Path) -> None:
    assert use(folder) == "compiled modules"
    found = sys.meta_path[0].find_spec("of.module", None)
    assert found is not None
    assert found.origin == str(folder / "made" / "of" / f"module{SUFFIX}")
    assert sys.meta_path[0].find_spec("of.another", None) is None
    assert use(folder) == "compiled modules"


def test_a_source_file_that_has_changed_since_is_named_and_nothing_compiled_is_used(
    folder: Path,
) -> None:
    before = list(sys.meta_path)
    (folder / "of" / "module.py").write_text("changed = True")
    assert "of/module.py is not what was compiled" in use(folder)
    (folder / "of" / "module.py").unlink()
    assert "of/module.py is not what was compiled" in use(folder)
    assert sys.meta_path == before


def test_without_a_list_nobody_knows_of_what_they_were_compiled(folder: Path) -> None:
    (folder / "made" / compiled.LIST_NAME).unlink()
    assert compiled.LIST_NAME in use(folder)


def test_modules_of_another_python_are_none(folder: Path) -> None:
    made = folder / "made" / "of" / f"module{SUFFIX}"
    made.rename(made.with_name("module.cpython-39-x86_64-linux-gnu.so"))
    assert "none compiled for this Python" in use(folder)


def test_the_environment_says_no(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert use(folder) == f"Python's source files: {compiled.SWITCH}=0"


def test_what_had_been_imported_already_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "of.module", sys)
    assert "of.module had been imported already" in use(folder)


def test_these_tests_meet_what_users_run() -> None:
    is_compiled = control_segment.decisions.__file__.endswith(SUFFIX)
    assert is_compiled == (IMPLEMENTATION == "compiled modules")
    if (compiled.FOLDER / compiled.LIST_NAME).exists() and os.environ.get(compiled.SWITCH) != "0":
        assert is_compiled, IMPLEMENTATION


@pytest.mark.parametrize(
    ("command", "module"),
    [("cs", "control_segment.decisions"), ("dfs", "data_flow_segment.flows.grants")],
)
def test_the_installed_command_runs_them(command: str, module: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        "(it,) = entry_points(group='console_scripts', name='splitplane')\n"
        "sys.argv[1:] = sys.argv[2:]\n"
        "try:\n"
        "    it.load()()\n"
        "finally:\n"
        "    from importlib import import_module\n"
        f"    print(import_module({module!r}).__file__)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "-", command, str(tmp_path / "none.yaml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    is_compiled = ended.stdout.rstrip().endswith(SUFFIX)
    assert ended.returncode == 3, ended.stderr
    assert is_compiled == (IMPLEMENTATION == "compiled modules")


def test_the_source_files_pass_the_same_tests() -> None:
    tests = ("test_answers.py", "test_decisions.py", "test_grants.py", "test_limits.py",
             "test_persistence.py", "test_sync.py")  # fmt: skip
    of = ROOT / "tests" / "unit" / "control_segment"
    environment = os.environ | {compiled.SWITCH: "0"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         *(str(of / name) for name in tests)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4000:]
