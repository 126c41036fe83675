# SPDX-License-Identifier: Apache-2.0
"""The BPF program as another version might have it: its sources with some lines changed."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_TARGET: Final = "data_flow_segment/targets/bpf"
COMPILED: Final = Path(".make/variants")
"""Objects, named by digests of what they were made from; `make clean` takes them away."""
_COMPILED_MAX: Final = 200  # files, two for each object
_CLANG: Final = (
    "clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3",
    f"-I/usr/include/{platform.machine()}-linux-gnu",
)  # fmt: skip


class Edit(NamedTuple):
    """One text for another in a file; it has to be there."""

    path: str
    before: str
    after: str


A_FIELD: Final = Edit("bpf/shared.h", "\t/* what was observed */\n", "\t__u64 spare;\n")
"""In the middle of struct flow, so that everything behind it lies elsewhere."""
A_COUNTER: Final = Edit(
    "bpf/shared.h", "\tCOUNTER_UP_CALLS,\n", "\tCOUNTER_SPARE,\n\tCOUNTER_UP_CALLS,\n"
)
"""Likewise in the enumeration."""
A_FIELD_ELSEWHERE: Final = (
    Edit("bpf/shared.h", "struct meta {\n", "struct meta {\n\t__u64 spare;\n"),
    Edit("bpf/shared.h", "struct virtual_server {\n", "struct virtual_server {\n\t__u32 spare;\n"),
    Edit("bpf/shared.h", "struct fragment {\n", "struct fragment {\n\t__u64 spare;\n"),
)
"""In front of what the small maps have."""
A_FIELD_OF_REQUESTS: Final = Edit(
    "bpf/shared.h", "struct request {\n", "struct request {\n\t__u64 spare;\n"
)
A_REQUEST_OF_ANOTHER_KIND: Final = Edit(
    "bpf/shared.h", "struct request {\n\t__u32 client_isn;", "struct request {\n\t__u64 client_isn;"
)
NO_REQUEST_SIZE: Final = Edit(
    "bpf/splice.h", "sizeof(struct request) == 536", "sizeof(struct request) > 536"
)
A_LAST_COUNTER: Final = Edit("bpf/shared.h", "\tCOUNTERS,\n", "\tCOUNTER_SPARE,\n\tCOUNTERS,\n")
A_FIELD_LESS: Final = (
    Edit("bpf/shared.h", "\t__u32 ts_offset;\n", "\t__u32 spare;\n"),
    Edit("bpf/endings.h", "home->ts_offset", "home->spare"),
    Edit("bpf/splice.h", "home->ts_offset", "home->spare"),
)
A_FIELD_OF_ANOTHER_SIZE: Final = Edit(
    "bpf/shared.h", "\t__u16 group_id;\n\t__u16 flags;\n\t__be16 node_port;",
    "\t__u32 group_id;\n\t__u16 spare;\n\t__u16 flags;\n\t__be16 node_port;",
)  # fmt: skip
NO_XDP: Final = Edit("bpf/dfs.bpf.c", 'SEC("xdp")\n', 'SEC("?xdp")\n')
"""Loads in half the time."""
COUNTERS_WITHOUT_NAMES: Final = Edit("bpf/upcall.h", "enum counter reason", "__u32 reason")
"""As the program was when BTF did not have them."""


def _added(path: str, line: str, more: str) -> Edit:
    return Edit(path, f"{line}\n", f"{line}\n{more}\n")


A_VERSION_WITH_MORE: Final = (
    _added("bpf/shared.h", "\t__be32 next_hop[4];", "\t__u64 spare;"),
    A_LAST_COUNTER,
    _added(f"{_TARGET}/layout.py", '    ("next_hop", "16s"),', '    ("spare", "Q"),'),
    _added(f"{_TARGET}/layout.py", "    next_hop: bytes", "    spare: int"),
    _added(f"{_TARGET}/layout.py", '    "event_lost",', '    "spare",'),
    _added(f"{_TARGET}/counters.py", "    **CONTRACT,", '    "spare": (True, "Spare."),'),
)
"""A field more in struct flow and a counter more, in the program and in the agent."""


def copy_version(into: Path, *edits: Edit) -> Path:
    """All of the product with these edits, compiled: what PYTHONPATH has to be to run it."""
    for package in Path().iterdir():
        if (package / "__init__.py").exists():
            shutil.copytree(package, into / package, ignore=shutil.ignore_patterns("__pycache__"))
    made = compile_program(into, *edits)
    made.rename(into / "data_flow_segment/artifacts/dfs.bpf.o")
    return into


def compile_program(into: Path, *edits: Edit) -> Path:
    """The object of the sources with these edits; `into` is a folder for it.

    What was compiled before, by whichever process, is not compiled again.
    """
    shutil.copytree("bpf", into / "bpf")
    apply(into, edits)
    made = into / "dfs.bpf.o"
    known = COMPILED / _digest(into / "bpf")
    COMPILED.mkdir(parents=True, exist_ok=True)
    with known.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not known.exists():
            _forget_old()
            subprocess.run([*_CLANG, "-c", "bpf/dfs.bpf.c", "-o", "made.o"], cwd=into, check=True)
            shutil.copy(into / "made.o", known.with_suffix(".part"))
            known.with_suffix(".part").rename(known)
    shutil.copy(known, made)
    return made


def _digest(folder: Path) -> str:
    """Of all that the object depends on."""
    clang = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True)
    digest = hashlib.sha256(repr((_CLANG, clang.stdout)).encode())
    for path in sorted(folder.iterdir()):
        digest.update(repr((path.name, path.read_bytes())).encode())
    return digest.hexdigest()[:32]


def _forget_old() -> None:
    """Objects of sources that are no more; a run uses some twenty."""
    found = sorted(COMPILED.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in found[:-_COMPILED_MAX]:
        path.unlink(missing_ok=True)


def apply(tree: Path, edits: Iterable[Edit]) -> None:
    """Change the files of a tree."""
    for path, before, after in edits:
        text = (tree / path).read_text()
        assert before in text, f"{path} has no {before!r} any more"
        (tree / path).write_text(text.replace(before, after))
