#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compile the modules of the hot paths with mypyc (docs/design/0014-compiled-modules.md).

    .venv/bin/python scripts/compile_modules.py

The source files stay what they are, and what is compiled of them does the same.  All modules are
one group: calls between them, and attributes of their classes, cost no look-up by name.
"""

from __future__ import annotations

import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splitplane.compiled import FOLDER, LIST_NAME  # noqa: E402

GROUP: Final = "splitplane_compiled"
SOURCES: Final = tuple(
    line
    for line in (ROOT / "scripts" / "compiled_modules.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def compile_into(folder: Path, scratch: Path) -> None:
    """Compile all modules, and list the sources of which they are."""
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
    lines = [f"{sha256((ROOT / each).read_bytes()).hexdigest()}  {each}\n" for each in SOURCES]
    (folder / LIST_NAME).write_text("".join(lines))


def main() -> None:
    """What was there before stays until all is compiled."""
    os.chdir(ROOT)
    scratch = ROOT / "build" / "compiled"
    shutil.rmtree(scratch, ignore_errors=True)
    made = scratch / "made"
    made.mkdir(parents=True)
    compile_into(made, scratch)
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.move(made, FOLDER)


if __name__ == "__main__":
    main()
