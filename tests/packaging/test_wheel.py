# SPDX-License-Identifier: Apache-2.0
"""What is shipped: our packages and no other, typed, with the licences and the compiled program."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import splitplane

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "admin",
    "api",
    "control_segment",
    "csmb",
    "data_flow_segment",
    "packets",
    "splicing",
    "splitplane",
    "ssmb",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of the work tree."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Iterator[zipfile.ZipFile]:
    """The opened wheel."""
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """The wheel's METADATA."""
    (name,) = (name for name in wheel.namelist() if name.endswith("dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def test_the_wheel_has_our_packages_and_no_other(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_the_wheel_has_every_module_and_nothing_that_was_made_beside_them(
    wheel: zipfile.ZipFile,
) -> None:
    shipped = {name for name in wheel.namelist() if name.endswith(".py")}
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert shipped == ours
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_the_wheel_has_the_compiled_programs(wheel: zipfile.ZipFile) -> None:
    compiled = {path.name for path in (ROOT / "data_flow_segment/artifacts").glob("*.bpf.o")}
    shipped = {Path(name).name for name in wheel.namelist() if name.endswith(".bpf.o")}
    assert shipped == compiled
    for name in ("control_segment/artifacts/datagrams", "data_flow_segment/artifacts/reports"):
        assert (f"{name}.so" in wheel.namelist()) == (ROOT / f"{name}.so").exists()
    for name in ("dfs.json", "dfs.p4info.txtpb"):
        octets = wheel.read(f"data_flow_segment/artifacts/{name}")
        assert octets == (ROOT / "p4" / name).read_bytes()


def test_every_package_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    typed = {name for name in wheel.namelist() if name.endswith("py.typed")}
    assert typed == {f"{package}/py.typed" for package in PACKAGES}


def test_the_wheel_has_the_page(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for path in (ROOT / "api/web").rglob("*"):
        if path.suffix in {".css", ".html", ".js", ".svg"}:
            assert str(path.relative_to(ROOT)) in names


def test_the_wheel_carries_all_licences(wheel: zipfile.ZipFile, metadata: Message) -> None:
    carried = {Path(name).name for name in wheel.namelist() if "/licenses/" in name}
    assert {"LICENSE", "GPL-2.0-only.txt", "preact.LICENSE", "htm.LICENSE"} <= carried
    assert metadata["License-Expression"] == "Apache-2.0 AND GPL-2.0-only AND MIT"


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "splitplane = splitplane.cli:main" in wheel.read(name).decode()


def test_the_source_distribution_can_build_the_program(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"Makefile", "pyproject.toml", "scripts/setup", "requirements/dev.txt"} <= names
    assert {"p4/dfs.p4", "p4/dfs.json", "p4/dfs.p4info.txtpb", "p4/SOURCES.sha256"} <= names
    assert {"native/datagrams.c", "native/reports.c"} <= names
    assert not [name for name in names if name.endswith((".o", ".so"))]


def test_one_version_everywhere(metadata: Message) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None, "CHANGELOG.md has no version"
    assert newest[1] == PROJECT["version"] == splitplane.__version__ == metadata["Version"]


def test_each_dependency_is_locked_with_hashes() -> None:
    wanted = {re.split(r"[<>=\[]", line)[0].lower() for line in PROJECT["dependencies"]}
    locked = (ROOT / "requirements/run.txt").read_text()
    requirements = re.findall(r"^([a-z0-9._-]+)==\S+ \\\n    --hash=sha256:", locked, re.MULTILINE)
    assert wanted <= set(requirements)


def test_no_lock_names_a_package_host() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        said = [
            line for line in lock.read_text().splitlines() if re.search(r"://|index|trusted", line)
        ]
        assert said == [], lock.name
