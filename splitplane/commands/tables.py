# SPDX-License-Identifier: Apache-2.0
"""Rows that segments answer with, as tables for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from splitplane.commands.sockets import Segment

# command -> the columns shown first, in this order; `...` stands for whatever else comes
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "flows": ("client", "virtual_address", "virtual_server", "node", "state", "..."),
    "nodes": ("pool", "name", "address", "port", "state", "weight", "active", "total", "..."),
    "virtual_servers": ("name", "address", "port", "protocol", "pool", "..."),
    "trace": ("time", "segment", "what"),
}
_UNITS: Final = ("", " K", " M", " G", " T")


def print_json(answers: Sequence[tuple[Segment, Any]]) -> None:
    """One array, one element a segment."""
    click.echo(
        json.dumps(
            [
                {"segment": segment.name, "socket": str(segment.socket), "data": data}
                for segment, data in answers
            ],
            indent=2,
        )
    )


def print_tables(command: str, answers: Sequence[tuple[Segment, Any]]) -> None:
    """One table a segment, titled where there are several."""
    console = Console()
    for segment, data in answers:
        table = table_of(rows_of(data), COLUMNS.get(command, ()))
        if len(answers) > 1:
            table.title = segment.name
            table.title_justify = "left"
        console.print(table)


def rows_of(data: Any) -> list[dict[str, Any]]:
    """What a segment answered, as rows: it answers with lists of objects, or with objects."""
    if isinstance(data, list):
        return [row if isinstance(row, dict) else {"": row} for row in data]
    if not isinstance(data, Mapping):
        return [{"": data}]
    if data and all(isinstance(value, Mapping) for value in data.values()):
        return [{"name": name, **value} for name, value in data.items()]
    return [{"name": name, "value": value} for name, value in data.items()]


def table_of(rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> Table:
    """A rich table of *rows*; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = _columns(rows, first)
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(
            column.replace("_", " "),
            justify="right" if numeric and rows else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(escape(_text(column, row.get(column))) for column in columns))
    if not rows:
        table.add_column("none")
    return table


def _columns(rows: Iterable[Mapping[str, Any]], first: Sequence[str]) -> list[str]:
    present = list(dict.fromkeys(name for row in rows for name in row))
    chosen = [name for name in first if name in present]
    if "..." in first or not chosen:
        chosen += [name for name in present if name not in chosen]
    return chosen


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, int) and column.endswith(("bytes", "octets")):
        return amount(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {below}" for name, below in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def amount(number: float) -> str:
    """A large number in three or four digits and a unit."""
    for unit in _UNITS:
        if abs(number) < 10_000 or unit == _UNITS[-1]:
            return f"{number:.0f}{unit}"
        number /= 1000
    raise AssertionError
