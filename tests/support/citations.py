# SPDX-License-Identifier: Apache-2.0
"""What comments and documents cite: sections and rules of the wire protocols, decisions, figures,
statements of docs/conformance.md, design records, files and modules of the repository.

In a comment a number such as `9.4` is a section of docs/protocols, unless the word before it or
the unit after it says otherwise (`FOREIGN_BEFORE`, `FOREIGN_AFTER`).  Markdown elsewhere is full of
figures: there it counts in brackets, or after "wire protocol" or "section".
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PROTOCOLS: Final = "docs/protocols/"
# generated, licences, data, and what tells of the past
_NOT_READ: Final = ("*.json", "*.txtpb", "*.sha256", "LICENSE*", "requirements/*.txt", "*/corpus/*")
_HISTORY: Final = "CHANGELOG.md"
_MADE: Final = re.compile(r"\.|build$|dist$|artifacts$|__pycache__$|.*\.egg-info$")

FIRST_SECTION: Final = 5
LAST_SECTION: Final = 13
FOREIGN_BEFORE: Final = re.compile(
    r"(?:RFC\s+\d+,?(?:\s+(?:section\s+)?\d+(?:\.\d+)+(?:,|\s+and|\s+to))*(?:\s+section)?"
    r"|\b(?:Linux|[Kk]ernels?|before|since|Python|YAML|BMv2|libbpf|clang|p4c|bf-p4c|[Vv]ersions?)"
    r"|\b\d{4},\s+section|HTTP/)\s*$"
)
FOREIGN_AFTER: Final = re.compile(
    r"\s*(?:%|(?:s|ms|us|µs|ns|[KMG]iB|[MG]bit|GB|MB|seconds|minutes|million|times|points)\b)"
)
_DOTTED: Final = r"\d{1,2}\.\d{1,2}(?![\w]|\.\w)"
_NUMBER: Final = re.compile(rf"(?<![\w.-]){_DOTTED}")
_ITEM: Final = rf"(?:{_DOTTED}|\d{{1,2}}(?![\w.]*\d))(?:,?\s+rule\s+\d+)?"
_LIST: Final = rf"{_ITEM}(?:(?:,|,?\s+and|,?\s+to|,?\s+or)\s+{_ITEM})*"
_NAMED: Final = re.compile(rf"(?:[Ww]ire\s+protocol|\b[Ss]ections?)\s+({_LIST})")
_BRACKETED: Final = re.compile(rf"\(({_DOTTED}(?:(?:,|\s+and|\s+to|;)\s+{_ITEM})*)[,)]")
_RULE: Final = re.compile(rf"({_DOTTED}),?\s+rule\s+(\d+)|\b[Rr]ule\s+(\d+)\s+of\s+({_DOTTED})")
_ANY_RULE: Final = re.compile(r"\b[Rr]ule\s+\d+")
_IN_A_NAME: Final = re.compile(r"_as_(\d{1,2})_(\d{1,2})_says\b")
_DECISION: Final = re.compile(r"\b[Dd]ecision\s+(\d+)\b")
_FIGURES: Final = re.compile(r"\bFIGS?\.\s+(\d+(?:(?:,|\s+and|,\s+and|\s+to)\s+\d+)*)")
_TABLE: Final = re.compile(r"\bTable\s+([IVX]+)\b")
_STATEMENTS: Final = re.compile(
    r"\b[Cc]hecklist\s+([A-Q]\d*(?:(?:,|\s+and|\s+to)\s+[A-Q]\d*)*|\d\S*)"
)
_RECORD: Final = re.compile(r"\bdesign/(\d{4}(?:-[\w-]+)?)")
_DEAD_WORDS: Final = re.compile(
    r"\bStyle\s+(?:says|guide)\b|\b[Dd]ocument\s+\d{3}\b|\b[Ii]ssue\s+#?\d+\b|(?<![\w/])shared/"
)
_CODE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"(?<![\w./<>~$*{}-])([\w-]+\.(?:py|md|p4|h|c|yaml|toml))(?![\w/])")
_BELOW: Final = re.compile(r"(?<![\w./<>~$*{}-])([a-z]\w*/[\w/-]+\.(?:py|md|p4|yaml))(?![\w/])")
_MODULE: Final = re.compile(r"`([a-z_0-9]+(?:\.(?!(?:py|md|p4|h|c|yaml|toml)`)\w+)+)(?:\(\))?`")


class Block(NamedTuple):
    """A comment, a docstring, or a whole document."""

    path: str
    line: int
    text: str

    def line_of(self, offset: int) -> int:
        """The line of the file that a place in the text stands in."""
        return self.line + self.text.count("\n", 0, offset)


class Citation(NamedTuple):
    """Something that is said to be elsewhere."""

    kind: str
    what: str
    path: str
    line: int


def files() -> list[str]:
    """Every file of the tree, except for what is made or cached."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name == ".ci" or not _MADE.match(name)]
        found += [str((Path(folder) / name).relative_to(ROOT)) for name in names]
    return sorted(found)


# --- what is prose ---------------------------------------------------------------------------


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    yield from _joined(
        (token.start[0], token.string[1:])
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    )
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            if isinstance(value, str):
                yield node.lineno, value
        elif isinstance(node, ast.FunctionDef) and _IN_A_NAME.search(node.name):
            yield node.lineno, node.name


def _of_c(text: str) -> Iterator[tuple[int, str]]:
    found = []
    for match in re.finditer(r"/\*.*?\*/|//[^\n]*", text, re.DOTALL):
        plain = re.sub(r"^[ \t]*(?:/\*+|//+|\*+/?)|\*/$", "", match[0], flags=re.MULTILINE)
        found.append((text.count("\n", 0, match.start()) + 1, plain))
    yield from _joined(iter(found))


def _of_hashes(text: str) -> Iterator[tuple[int, str]]:
    yield from _joined(
        (number, line.split("#", 1)[1])
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"(?:^|\s)#", line)
    )


def _of_markdown(text: str) -> Iterator[tuple[int, str]]:
    blank = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    yield 1, re.sub(r"^#+ [\d.]* ", "", blank, flags=re.MULTILINE)  # a heading cites nothing


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Comments that stand one below the other are one: a citation may be broken in two."""
    begin, last, held = 0, -1, list[str]()
    for number, text in lines:
        if held and number != last + 1:
            yield begin, "\n".join(held)
            held = []
        if not held:
            begin = number
        held.append(text)
        last = number + text.count("\n")
    if held:
        yield begin, "\n".join(held)


_READERS: Final[dict[str, Callable[[str], Iterator[tuple[int, str]]]]] = {
    ".py": _of_python, ".c": _of_c, ".h": _of_c, ".p4": _of_c, ".md": _of_markdown,
}  # fmt: skip


def blocks_of(path: str, text: str) -> Iterator[Block]:
    """The prose of one file."""
    if path == _HISTORY or any(fnmatch(path, pattern) for pattern in _NOT_READ):
        return
    for line, prose in _READERS.get(Path(path).suffix, _of_hashes)(text):
        yield Block(path, line, prose)


def blocks() -> Iterator[Block]:
    """The prose of the whole repository."""
    for path in files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        yield from blocks_of(path, text)


# --- what it cites -----------------------------------------------------------------------------


def _numbers(text: str) -> Iterator[str]:
    """The items of a list; a range stands for all that it spans."""
    before = ""
    for match in re.finditer(rf"(to\s+)?({_ITEM})", text):
        item = re.match(r"[\d.]*\d", match[2])
        assert item is not None
        if match[1] and "." in before and "." in item[0]:
            chapter, first = before.split(".")
            yield from (f"{chapter}.{n}" for n in range(int(first) + 1, int(item[0].split(".")[1])))
        yield item[0]
        before = item[0]


def _sections(block: Block, strict: bool) -> Iterator[tuple[int, str]]:
    text, found = block.text, dict[tuple[int, str], None]()
    lists = [*_NAMED.finditer(text), *_BRACKETED.finditer(text)]
    for match in lists:
        if not FOREIGN_BEFORE.search(text[max(0, match.start(1) - 60) : match.start(1)]):
            found |= {(match.start(1), number): None for number in _numbers(match[1])}
    seen = [range(match.start(1), match.end(1)) for match in lists]
    for match in _NUMBER.finditer(text) if strict else ():
        chapter = int(match[0].split(".")[0])
        if (
            FIRST_SECTION <= chapter <= LAST_SECTION
            and not any(match.start() in span for span in seen)
            and not FOREIGN_BEFORE.search(text[max(0, match.start() - 60) : match.start()])
            and not FOREIGN_AFTER.match(text[match.end() :])
        ):
            found[match.start(), match[0]] = None
    yield from found


def _rules(block: Block) -> Iterator[tuple[int, str]]:
    resolved = set()
    for match in _RULE.finditer(block.text):
        section, rule = (match[1], match[2]) if match[1] else (match[4], match[3])
        resolved.add(block.text.index("ule", match.start()))
        yield match.start(), f"{section}, rule {rule}"
    for match in _ANY_RULE.finditer(block.text):
        if match.start() + 1 not in resolved:
            yield match.start(), f"of no section, {match[0]}"


def _listed(pattern: re.Pattern[str], item: str, text: str) -> Iterator[tuple[int, str]]:
    for match in pattern.finditer(text):
        yield from ((match.start(), found) for found in re.findall(item, match[1]))


def citations_of(block: Block) -> Iterator[Citation]:
    """Everything that one block cites."""
    text = block.text
    strict = not block.path.endswith(".md") or block.path.startswith(PROTOCOLS)
    named = ((m.start(), f"{m[1]}.{m[2]}") for m in _IN_A_NAME.finditer(text))
    found: dict[str, Iterator[tuple[int, str]]] = {
        "section": iter([*_sections(block, strict), *named]),
        "rule": _rules(block),
        "decision": _listed(_DECISION, r"\d+", text),
        "figure": _listed(_FIGURES, r"\d+", text),
        "table": _listed(_TABLE, r"[IVX]+", text),
        "statement": _listed(_STATEMENTS, r"[A-Q]?[\d.]+|[A-Q]", text),
        "record": _listed(_RECORD, r".+", text),
        "path": _paths(text),
        "file": _listed(_FILE, r".+", text),
        "module": _listed(_MODULE, r".+", text),
        "dead": ((m.start(), m[0]) for m in _DEAD_WORDS.finditer(text)),
    }
    for kind, places in found.items():
        for offset, what in places:
            yield Citation(kind, what, block.path, block.line_of(offset))


def _paths(text: str) -> Iterator[tuple[int, str]]:
    tops = sorted({name.split("/")[0] for name in folders()})
    pattern = re.compile(
        rf"(?<![\w./~$<>{{}}-])((?:{'|'.join(map(re.escape, tops))})/(?!s\b)[\w./*-]*\w)"
    )
    for match in [*pattern.finditer(text), *_BELOW.finditer(text)]:
        if match.re is pattern or match[1].split("/")[0] not in tops:
            yield match.start(), match[1]


_FOLDERS: Final[set[str]] = set()


def folders() -> set[str]:
    """Every folder that has a file."""
    if not _FOLDERS:
        _FOLDERS.update(str(up) for name in files() for up in Path(name).parents)
        _FOLDERS.discard(".")
    return _FOLDERS
