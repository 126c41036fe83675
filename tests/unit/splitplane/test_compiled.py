# SPDX-License-Identifier: Apache-2.0
"""Compiled modules: used if they are of these source files and of this Python, otherwise not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

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


def test_what_was_half_copied_is_not_used(folder: Path) -> None:
    made = folder / "made" / "of" / f"module{SUFFIX}"
    listing = folder / "made" / compiled.LIST_NAME
    name = made.relative_to(folder).as_posix()
    listing.write_text(f"{listing.read_text()}{sha256(b'').hexdigest()}  {name}\n")
    assert compiled.fitting(folder / "made", folder) == {"of.module": made}
    made.write_bytes(b"half")
    assert f"{name} is not what was compiled" in use(folder)


def test_code_that_this_machine_cannot_load_is_not_used(folder: Path) -> None:
    before = list(sys.meta_path)
    (folder / "made" / f"all__mypyc{SUFFIX}").write_bytes(b"of another machine")
    assert use(folder).startswith("Python's source files: ")
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


@pytest.fixture(scope="module")
def compiling() -> Any:
    """scripts/compile_modules.py."""
    spec = spec_from_file_location("compile_modules", ROOT / "scripts" / "compile_modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_compiled_is_of_all_that_it_imports(compiling: Any, tmp_path: Path) -> None:
    """A compiled module has others' constants in it, and the order of their fields."""
    (tmp_path / "of" / "deep").mkdir(parents=True)
    for name, text in {
        "of/__init__.py": "",
        "of/module.py": "import os\nif TYPE_CHECKING:\n    from of.another import Thing\n",
        "of/another.py": "def late():\n    from of.deep import values\n",
        "of/deep/__init__.py": "import of.module\nimport of.last as last\n",
        "of/deep/values.py": "",
        "of/last.py": "",
        "of/nobodys.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    found = compiling.read_with(["of/module.py"], tmp_path)
    assert found == ["of/__init__.py", "of/another.py", "of/deep/__init__.py",
                     "of/deep/values.py", "of/last.py", "of/module.py"]  # fmt: skip


def test_the_protocols_constants_and_messages_are_among_what_was_compiled(compiling: Any) -> None:
    found = compiling.read_with(["ssmb/codec.py"])
    assert {"ssmb/codec.py", "ssmb/constants.py", "ssmb/messages.py"} <= set(found)


def test_a_compilation_that_is_ended_while_it_replaces_another_leaves_no_list(
    compiling: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    for folder in (made, there):
        folder.mkdir()
        (folder / compiled.LIST_NAME).write_text(folder.name)

    def ended(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for function in ("rmtree", "move"):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, function, ended)
            with pytest.raises(KeyboardInterrupt):
                compiling.put(made, there)
        assert not (there / compiled.LIST_NAME).exists()
        (made / f"{compiled.LIST_NAME}.made").rename(made / compiled.LIST_NAME)
    compiling.put(made, there)
    assert (there / compiled.LIST_NAME).read_text() == "made"


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
