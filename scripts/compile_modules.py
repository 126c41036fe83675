#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compile the modules of the hot paths with mypyc (docs/design/0014-compiled-modules.md).

    .venv/bin/python scripts/compile_modules.py [--check]

With --check it says by its exit code whether what is there is still the right one.

The source files stay what they are, and what is compiled of them does the same.  All modules are
one group: calls between them, and attributes of their classes, cost no look-up by name.

mypyc takes from the other modules what it knows of them by their types, and has it in the machine
code: the value of each Final, the place of each field in a NamedTuple, what cannot be None.  So the
list of sources has every module that the compiled ones import, and what those import.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splitplane.compiled import FOLDER, LIST_NAME, fitting  # noqa: E402

GROUP: Final = "splitplane_compiled"
MODULES: Final = ROOT / "scripts" / "compiled_modules.txt"
SOURCES: Final = tuple(
    line for line in MODULES.read_text().splitlines() if line and not line.startswith("#")
)


def read_with(sources: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return these and every source file below *root* of what they import, wherever it stands."""
    found, names, open_ = set[str](), set[str](), list(sources)
    while open_:
        source = open_.pop()
        if source not in found:
            found.add(source)
            imported = set(_imported(ast.parse((root / source).read_bytes()))) - names
            names |= imported
            open_ += (file for name in imported for file in _files_of(name, root))
    return sorted(found)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _files_of(name: str, root: Path) -> Iterator[str]:
    """Of a module and of what it is in; a name may also be that of something in a module."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file.relative_to(root).as_posix()


def is_current(folder: Path = FOLDER) -> bool:
    """Whether what was compiled is of these sources, of these modules, and for this Python."""
    places = fitting(folder, ROOT)
    if isinstance(places, str):
        return False
    made_at = (folder / LIST_NAME).stat().st_mtime
    wanted = {source.removesuffix(".py").replace("/", ".") for source in SOURCES}
    return wanted <= places.keys() and made_at > max(
        file.stat().st_mtime for file in (Path(__file__), MODULES)
    )


def compile_into(folder: Path, scratch: Path) -> None:
    """Compile all modules, and list the files of which they are, and what they are."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # before mypy reads them: whoever edits one meanwhile has another one than was compiled
    lines = [_line(ROOT / each, each) for each in read_with(SOURCES)]
    os.environ.setdefault("CC", "clang")
    extensions = mypycify(
        [f"--cache-dir={scratch / 'mypy'}", *SOURCES],  # the rest is in pyproject.toml
        opt_level="2",
        debug_level="0",
        group_name=GROUP,
        target_dir=str(scratch / "c"),
    )
    distribution = Distribution({"name": GROUP, "ext_modules": extensions, "packages": []})
    command = build_ext(distribution)
    command.build_lib, command.build_temp = str(folder), str(scratch / "objects")
    command.ensure_finalized()
    command.run()
    at = FOLDER.relative_to(ROOT)
    made = sorted(path for path in folder.rglob("*") if path.is_file())
    lines += [_line(path, (at / path.relative_to(folder)).as_posix()) for path in made]
    (folder / LIST_NAME).write_text("".join(lines))


def _line(path: Path, name: str) -> str:
    return f"{sha256(path.read_bytes()).hexdigest()}  {name}\n"


def put(made: Path, folder: Path) -> None:
    """Have what was *made* in the *folder*.  Whatever ends this, a folder with a list is whole."""
    held = f"{LIST_NAME}.made"
    (made / LIST_NAME).rename(made / held)
    (folder / LIST_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(made, folder)
    (folder / held).rename(folder / LIST_NAME)


def main() -> None:
    """What was there before stays until all is compiled."""
    if sys.argv[1:] == ["--check"]:
        raise SystemExit(0 if is_current() else 1)
    os.chdir(ROOT)
    scratch = ROOT / "build" / "compiled"
    shutil.rmtree(scratch, ignore_errors=True)
    made = scratch / "made"
    made.mkdir(parents=True)
    compile_into(made, scratch)
    put(made, FOLDER)


if __name__ == "__main__":
    main()
