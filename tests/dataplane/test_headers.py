# SPDX-License-Identifier: Apache-2.0
"""Each C file of the program includes exactly what it uses, so each header stands alone."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.require import require

FILES = sorted(path for path in Path("bpf").iterdir() if path.suffix in (".c", ".h"))
HEADERS = [path for path in FILES if path.suffix == ".h"]

SYSTEM = {  # what each header of the system is included for
    "stdbool.h": r"bool|true|false",
    "stddef.h": r"NULL",
    "linux/types.h": r"__[us](?:8|16|32|64)|__be(?:16|32|64)",
    "linux/bpf.h": r"BPF_[A-Z0-9_]+|XDP_[A-Z]+|SKB|XDP|(?:struct (?:__sk_buff|xdp_md|bpf_\w+))",
    "linux/pkt_cls.h": r"TC_ACT_\w+",
    "linux/ip.h": r"struct iphdr",
    "linux/ipv6.h": r"struct ipv6hdr",
    "bpf/bpf_helpers.h": r"bpf_(?!hton|ntoh|redir_)\w+|SEC|__always_inline"
    r"|__noinline|barrier_var|__uint|__type",
    "bpf/bpf_endian.h": r"bpf_(?:hton|ntoh)[sl]",
}
DEFINITIONS = (
    r"^#define (\w+)",
    r"^(?:static |__noinline )[^;{=]*?\b(\w+)\(",
    r"^(?:struct|enum) (\w+) \{",
    r"^\} (\w+) SEC",
    r"^GLOBAL_FUNCTION\((\w+)",
)


def code(path: Path) -> str:
    """The file without comments, strings, includes and names of members."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r'"(?:[^"\\\n]|\\.)*"', "", re.sub(r"^#include.*", "", text, flags=re.MULTILINE))
    return re.sub(r"(?:\.|->)\s*\w+", "", text)


def defined(path: Path) -> set[str]:
    """The names that other files may use."""
    text = code(path)
    names = {name for form in DEFINITIONS for name in re.findall(form, text, re.MULTILINE)}
    for body in re.findall(r"^enum[^{;]*\{([^}]*)\}", text, re.MULTILINE):
        names |= set(re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", body.strip()))
    return names


def needed(path: Path) -> set[str]:
    text = code(path)
    used = set(re.findall(r"\b[A-Za-z_]\w*\b", text)) - defined(path)
    own = {header.name for header in HEADERS if header != path and used & defined(header)}
    if path.suffix == ".c":  # programs that no other code calls
        own |= {header.name for header in HEADERS if 'SEC("tc")' in header.read_text()}
    return own | {name for name, form in SYSTEM.items() if re.search(rf"\b(?:{form})\b", text)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_includes_exactly_what_it_uses(path: Path) -> None:
    assert set(re.findall(r'^#include ["<]([^">]+)', path.read_text(), re.MULTILINE)) == needed(
        path
    )


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.name)
def test_a_header_compiles_alone(path: Path) -> None:
    require("dataplane", None if shutil.which("clang") else "the command `clang` is needed")
    done = subprocess.run(
        ["clang", "-O2", "-target", "bpf", "-Wall", "-Werror", "-fsyntax-only", "-I.",
         f"-I/usr/include/{platform.machine()}-linux-gnu", "-x", "c", "-"],
        input=f'#include "{path}"\n', capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.name)
def test_a_header_may_be_included_twice(path: Path) -> None:
    guard = f"SPLITPLANE_{path.stem.upper()}_H"
    lines = path.read_text().splitlines()
    assert f"#ifndef {guard}" in lines
    assert lines[lines.index(f"#ifndef {guard}") + 1] == f"#define {guard}"
    assert lines[-1] == "#endif"
