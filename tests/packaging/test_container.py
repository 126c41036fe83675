# SPDX-License-Identifier: Apache-2.0
"""The Containerfile is read, and what it does is done without an engine, where that can be."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "Containerfile").read_text()
INSTRUCTIONS: Final = [
    line
    for line in re.sub(r"\\\n", " ", TEXT).splitlines()
    if line.strip() and not line.startswith("#")
]
STAGES: Final = [position for position, line in enumerate(INSTRUCTIONS) if line.startswith("FROM ")]
BUILD, RUN = INSTRUCTIONS[: STAGES[1]], INSTRUCTIONS[STAGES[1] :]


def copied(stage: list[str]) -> list[tuple[list[str], str]]:
    """What is taken from the context, and where it goes."""
    found = []
    for line in stage:
        words = line.split()
        if words[0] == "COPY" and not words[1].startswith("--"):
            found.append((words[1:-1], words[-1]))
    return found


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as the build stage has it before it runs make."""
    folder = tmp_path_factory.mktemp("src")
    for sources, target in copied(BUILD):
        for source in sources:
            path = ROOT / source
            assert path.exists(), f"Containerfile: there is no {source}"
            aim = folder / target
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.o", "*.so")
                shutil.copytree(path, aim, ignore=ignored)
            else:
                if target.endswith("/"):
                    aim /= path.name
                aim.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, aim)
    return folder


def test_what_is_copied_is_enough_to_build_from(context: Path) -> None:
    (order,) = [line for line in BUILD if line.startswith("RUN make ")]
    targets = re.findall(r"\S+/artifacts/\S+", order)
    if shutil.which("clang") is None or shutil.which("make") is None:
        pytest.skip("clang and make compile the program, and are not installed")
    subprocess.run(["make", *targets], cwd=context, check=True, capture_output=True, timeout=300)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(context / "dist")],
        cwd=context, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = (context / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {"splitplane/cli.py", "api/app.py", *targets} <= names
    assert any(name.startswith("api/web/") and name.endswith(".js") for name in names)


def test_what_compiles_the_modules_has_all_of_them(context: Path) -> None:
    (order,) = [line for line in BUILD if "scripts/compile_modules.py" in line and "RUN" in line]
    assert order.index("compile_modules.py") < order.index("pip install")
    listed = (context / "scripts/compiled_modules.txt").read_text().splitlines()
    sources = [line for line in listed if line and not line.startswith("#")]
    assert [source for source in sources if not (context / source).is_file()] == []


def test_the_compiler_of_the_image_is_that_of_the_developers() -> None:
    """Another mypy would make other machine code than the one that is tested."""
    pins = [
        dict(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.M))
        for name in ("compile.txt", "dev.txt")
    ]
    assert {"mypy", "setuptools"} <= pins[0].keys()
    assert {name: pins[1].get(name) for name in pins[0]} == pins[0]


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".containerignore").read_text().splitlines()
    wanted = {line.removeprefix("!/") for line in lines if line.startswith("!/")}
    assert wanted == {source for sources, _ in copied(BUILD) for source in sources}
    assert "*" in lines


def test_the_image_runs_as_nobody_in_particular_and_has_no_compiler() -> None:
    assert [line for line in RUN if line.startswith("USER ")] == ["USER splitplane"]
    assert RUN.index("USER splitplane") > max(
        position for position, line in enumerate(RUN) if line.startswith(("RUN ", "COPY "))
    )
    assert 'ENTRYPOINT ["splitplane"]' in RUN
    installed = " ".join(line for line in RUN if line.startswith("RUN "))
    assert not re.search(r"\b(clang|llvm|make|gcc|pip)\b", installed)
    assert copied(RUN) == []  # it has only what was built


def test_dependencies_are_those_that_are_locked() -> None:
    orders = [line for line in BUILD if "requirements/run.txt" in line and "pip install" in line]
    assert len(orders) == 2  # of the image, and of what compiles for it
    for order in orders:
        assert "--require-hashes" in order
        assert "--only-binary" in order
    assert all(line.endswith(("AS build", "bookworm-slim")) for line in INSTRUCTIONS
               if line.startswith("FROM "))  # fmt: skip
