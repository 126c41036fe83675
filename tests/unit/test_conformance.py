# SPDX-License-Identifier: Apache-2.0
"""docs/conformance.md has every statement once and in order, names tests that exist, and counts
right."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "conformance.md").read_text()

# How many statements each section of the document's checklist has
SECTIONS: Final = {
    "A": 21, "B": 19, "C": 22, "D": 8, "E": 6, "F": 6, "G": 11, "H": 7, "I": 22,
    "J": 19, "K": 22, "L": 4, "M": 6, "N": 22, "O": 23, "P": 10, "Q": 7,
}  # fmt: skip


class Row(NamedTuple):
    """One statement."""

    number: str
    statement: str
    how: str
    tests: tuple[str, ...]
    state: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def read_rows() -> list[Row]:
    rows = []
    for line in TEXT.splitlines():
        if re.match(r"\| [A-Q]\d+ \|", line):
            number, statement, how, tests, state = cells(line)
            names = tuple(re.findall(r"`([^`]+)`", tests))
            assert tests == ("<br>".join(f"`{name}`" for name in names) or "-"), number
            rows.append(Row(number, statement, how, names, state))
    return rows


ROWS: Final = read_rows()
NAMED: Final = sorted(set(chain.from_iterable(row.tests for row in ROWS)))


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The tests that a file defines, without importing it."""
    nodes = ast.walk(ast.parse(path.read_text()))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in nodes if isinstance(node, kinds))


def counts_below(heading: str) -> dict[str, int]:
    """The first and last cells of the table with this head."""
    lines = TEXT.split(f"\n{heading}\n", 1)[1].splitlines()[1:]
    table = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return {cells(line)[0]: int(cells(line)[-1]) for line in table}


def test_every_statement_stands_there_once_and_in_order() -> None:
    expected = [
        f"{section}{number}"
        for section, count in SECTIONS.items()
        for number in range(1, count + 1)
    ]  # fmt: skip
    assert len(expected) == 235
    assert [row.number for row in ROWS] == expected


def test_each_statement_stands_under_its_section() -> None:
    assert re.findall(r"^## ([A-Q])\. ", TEXT, re.MULTILINE) == list(SECTIONS)
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        assert set(re.findall(r"^\| ([A-Q])\d+ \|", part, re.MULTILINE)) == {part[0]}


@pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])
def test_a_row_is_whole(row: Row) -> None:
    assert row.statement
    assert row.how
    assert row.state in ("shown", "partly")
    if row.state == "shown":
        assert row.tests, "what is shown, some test shows"
    assert len(set(row.tests)) == len(row.tests)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert path.startswith("tests/")
    assert function.startswith("test_")
    assert function in functions_of(ROOT / path)


def test_files_that_rows_point_to_exist() -> None:
    for row in ROWS:
        for name in re.findall(r"\b[a-z_0-9]+/[a-z_0-9/-]+\.[a-z]+\b", row.how):
            assert (ROOT / name).exists(), (row.number, name)


def test_the_counts_are_right() -> None:
    states = Counter(row.state for row in ROWS)
    assert counts_below("| state | means | rows |") == {
        word: states[word] for word in ("shown", "partly")
    }
