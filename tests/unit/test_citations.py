# SPDX-License-Identifier: Apache-2.0
"""What comments and documents cite is in the repository: every section, rule, record and file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from typing import Final

import pytest

from support import citations
from support.citations import PROTOCOLS, ROOT, Citation

KINDS: Final = (
    "section", "rule", "decision", "figure", "table", "statement", "record", "path", "file",
    "module", "dead",
)  # fmt: skip
# files of the kernel that comments name
ELSEWHERE: Final = frozenset({"sched.h"})


@cache
def all_citations() -> tuple[Citation, ...]:
    return tuple(found for block in citations.blocks() for found in citations.citations_of(block))


def documents() -> Iterator[str]:
    for path in sorted((ROOT / PROTOCOLS).glob("*.md")):
        yield re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def sections() -> dict[str, str]:
    """The text of every section of the wire protocols, by number."""
    found: dict[str, str] = {}
    for text in documents():
        parts = re.split(r"^#+ (?=\d)", text, flags=re.MULTILINE)[1:]
        for part in parts:
            number = re.match(r"(\d+(?:\.\d+)?)\.? ", part)
            assert number is not None, part[:40]
            assert number[1] not in found, f"{number[1]} stands twice"
            found[number[1]] = part
    return found


def rules_of(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]


@cache
def known(kind: str) -> frozenset[str]:
    """What may be cited, of a kind whose names are numbers."""
    readme = (ROOT / PROTOCOLS / "README.md").read_text()
    if kind == "section":
        return frozenset(sections())
    if kind == "rule":
        pairs = ((number, rule) for number, text in sections().items() for rule in rules_of(text))
        return frozenset(f"{number}, rule {rule}" for number, rule in pairs)
    if kind == "decision":
        return frozenset(map(str, rules_of(readme.split("## Decisions\n")[1].split("\n## ")[0])))
    if kind in ("figure", "table"):
        column = r"^\| FIG\. (\d+) " if kind == "figure" else r"^\| FIG[^|]*\| Table ([IVX]+) "
        return frozenset(re.findall(column, readme, re.MULTILINE))
    if kind == "statement":
        rows = re.findall(r"^\| ([A-Q]\d+) \|", conformance(), re.MULTILINE)
        return frozenset({*rows, *(row[0] for row in rows)})
    records = [path.stem for path in (ROOT / "docs/design").glob("*.md")]
    return frozenset({*records, *(name[:4] for name in records)})


def conformance() -> str:
    return (ROOT / "docs/conformance.md").read_text()


@cache
def names() -> frozenset[str]:
    files = citations.files()
    return frozenset({*files, *citations.folders()})


@cache
def file_names() -> frozenset[str]:
    """Without their folders."""
    return frozenset(name.rpartition("/")[2] for name in names())


@cache
def path_exists(what: str) -> bool:
    if what in names():
        return True
    if what.startswith("data_flow_segment/artifacts/"):  # where the programs go that make builds
        return True
    patterns = [what, f"{what}.*"]
    if what.endswith((".py", ".md", ".p4", ".yaml")):
        patterns.append(f"*/{what}")  # from a folder on
    if what.startswith("docs/design/"):
        patterns.append(f"{what}-*")  # its number is enough
    return any(fnmatch(name, pattern) for name in names() for pattern in patterns)


def module_exists(what: str) -> bool:
    """Whether the longest part that is a module says the rest; other dotted names are not ours."""
    parts = what.split(".")
    if not (ROOT / parts[0] / "__init__.py").is_file():
        return True
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            return count == len(parts) or bool(re.search(rf"\b{parts[count]}\b", file.read_text()))
    return False


def is_there(cited: Citation) -> bool:
    if cited.kind == "dead":
        return False
    if cited.kind == "path":
        return path_exists(cited.what)
    if cited.kind == "file":
        if cited.what in ELSEWHERE:
            return True
        return cited.what in file_names()
    if cited.kind == "module":
        return module_exists(cited.what)
    return cited.what in known(cited.kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cited_is_there(kind: str) -> None:
    missing = [each for each in all_citations() if each.kind == kind and not is_there(each)]
    lines = [f"{each.path}:{each.line}: {each.kind} {each.what}" for each in missing]
    assert not lines, "\n".join(lines)


# --- the test can fail ---------------------------------------------------------------------------

CITED: Final = [  # a file, what stands in it, what it cites (kind, what, line), what is not there
    ("a.py", "# As 9.4 says.\n", "section 9.4 1", ""),
    ("a.py", "# As 9.99 says.\n", "section 9.99 1", "9.99"),
    ("a.py", '"""Nothing\n\nof (3.7)."""\n', "section 3.7 3", "3.7"),
    ("a.py", "# (wire protocol\n# 24)\n", "section 24 2", "24"),
    ("a.py", "# (7.2 to 7.4)\n", "section 7.2 1; section 7.3 1; section 7.4 1", ""),
    ("a.py", "# 6.7 and 6.31, then 12\n", "section 6.7 1; section 6.31 1", "6.31"),
    ("a.py", "def test_x_as_8_7_says(): ...\n", "section 8.7 1", "8.7"),
    ("a.py", "x = 9.99\n", "", ""),
    ("a.py", "# RFC 8200 8.1, RFC 4861 7.1, 7.2; Linux 6.13; 6.5 s; 10.1.2.3; HTTP/9.9\n", "", ""),
    ("a.py", "# (7.7, rule\n# 10)\n", "section 7.7 1; rule 7.7, rule 10 1", ""),
    ("a.h", "/* 7.7, rule 99 */\n", "section 7.7 1; rule 7.7, rule 99 1", "7.7, rule 99"),
    ("a.c", "int x; // rule 3\n", "rule of no section, rule 3 1", "of no section, rule 3"),
    ("a.p4", "// wire protocol\n// 9.41\n", "section 9.41 2", "9.41"),
    ("a.yaml", "a: 9.9 # 9.12\n", "section 9.12 1", "9.12"),
    ("Makefile", "# 9.13\n", "section 9.13 1", "9.13"),
    ("a.md", "# 9.14 is a heading\n\nIt takes 9.15, or 9.16 (9.17).\n", "section 9.17 3", "9.17"),
    ("a.md", "Wire protocol 9.18.\n", "section 9.18 1", "9.18"),
    ("docs/protocols/a.md", "See 9.19.\n", "section 9.19 1", "9.19"),
    ("a.py", "# decision 11, FIG. 23, Table VII\n",
     "decision 11 1; figure 23 1; table VII 1", "11 23 VII"),
    ("a.py", "# checklist N10 to N23\n", "statement N10 1; statement N23 1", "N23"),
    ("a.py", "# docs/design/0001 and docs/design/0099\n",
     "record 0001 1; record 0099 1; path docs/design/0001 1; path docs/design/0099 1",
     "0099 docs/design/0099"),
    ("a.md", "`bpf/no.h`, bpf/*.h\n", "path bpf/no.h 1; path bpf/*.h 1",
     "bpf/no.h"),
    ("a.py", "# `layout.md` and `ssmb.codec.gone`, `ssmb.codec.encode`\n",
     "file layout.md 1; module ssmb.codec.gone 1; module ssmb.codec.encode 1",
     "layout.md ssmb.codec.gone"),
    ("a.md", "`p4runtime/session.py`, p4runtime/no.py\n",
     "path p4runtime/session.py 1; path p4runtime/no.py 1", "p4runtime/no.py"),
    ("a.py", "# Style says so\n", "dead Style says 1", "Style says"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "cited", "missing"), CITED)
def test_a_citation_is_found_and_a_dead_one_reported(
    path: str, text: str, cited: str, missing: str
) -> None:
    found = [
        each for block in citations.blocks_of(path, text) for each in citations.citations_of(block)
    ]
    assert "; ".join(f"{each.kind} {each.what} {each.line}" for each in found) == cited
    assert " ".join(each.what for each in found if not is_there(each)) == missing


def test_every_kind_is_cited_somewhere() -> None:
    """A pattern that finds nothing proves nothing."""
    kinds = {each.kind for each in all_citations()}
    assert kinds >= set(KINDS) - {"dead"}
    assert {each.kind for each in all_citations()} <= set(KINDS)
    assert sum(each.kind == "section" for each in all_citations()) > 200
