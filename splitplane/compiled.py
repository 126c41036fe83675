# SPDX-License-Identifier: Apache-2.0
"""Modules of the hot paths as machine code: what `make compiled` has made of the same source files
(docs/design/0014-compiled-modules.md).

Without it, or with SPLITPLANE_COMPILED=0 in the environment, Python reads the source files: both do
the same, at another speed.  Machine code of a source file that has changed since is never used, nor
beside one: it has in it what its modules have from others, as the values of constants.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

SWITCH: Final = "SPLITPLANE_COMPILED"  # in the environment; 0: the source files alone
FOLDER: Final = Path(__file__).with_name("artifacts") / "compiled"
LIST_NAME: Final = "SOURCES.sha256"
_CODE: Final = "__mypyc"  # ends the name of what has the code of all of them
_ROOT: Final = Path(__file__).resolve().parents[1]


class _Finder(MetaPathFinder):
    """Finds the compiled modules before Python looks for their source files."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib calls it."""
        place = self._places.get(fullname)
        return None if place is None else spec_from_file_location(fullname, place)


def use(folder: Path = FOLDER, root: Path = _ROOT) -> str:
    """Have the compiled modules imported from now on; return in words what is used, and why.

    To be called before any of them is imported: with the source file of one and the machine code of
    another, the classes of both would be different ones.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return "compiled modules"
    if os.environ.get(SWITCH) == "0":
        return f"Python's source files: {SWITCH}=0"
    places = fitting(folder, root)
    if isinstance(places, str):
        return f"Python's source files: {places} (make compiled)"
    early = sorted(places.keys() & sys.modules.keys())
    if early:
        return f"Python's source files: {early[0]} had been imported already"
    finder = _Finder(places)
    sys.meta_path.insert(0, finder)
    try:
        for name in places:
            if name.endswith(_CODE):
                import_module(name)
    except ImportError as error:  # it was made for another C library, say
        sys.meta_path.remove(finder)
        return f"Python's source files: {error} (make compiled)"
    return "compiled modules"


def fitting(folder: Path = FOLDER, root: Path = _ROOT) -> dict[str, Path] | str:
    """Return the compiled modules by their full names, or why they are not to be used here."""
    places = _places_in(folder)
    if not places:
        return "none compiled for this Python"
    try:
        lines = (folder / LIST_NAME).read_text().splitlines()
    except OSError:
        return f"no {LIST_NAME} beside the compiled ones"
    for line in lines:
        digest, _, name = line.partition("  ")
        if _digest(root / name) != digest:
            return f"{name} is not what was compiled"
    return places


def _places_in(folder: Path) -> dict[str, Path]:
    """Return the compiled modules for this Python, by their full names."""
    suffix = EXTENSION_SUFFIXES[0]  # the one that names the version
    found = (path.relative_to(folder) for path in folder.rglob(f"*{suffix}"))
    ends = len(suffix)
    return {".".join((*path.parts[:-1], path.name[:-ends])): folder / path for path in found}


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
