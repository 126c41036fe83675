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

from splitplane.commands.shapes import shaped
from splitplane.commands.sockets import Segment

# command -> its columns, in this order; `...` stands for whatever else comes
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "flows": (
        "client", "vip", "protocol", "virtual_server", "node", "at", "state", "idle_ms",
        "bytes_in", "bytes_out",
    ),
    "nodes": (
        "pool", "name", "address", "state", "weight", "active", "total",
        "connections_per_second", "response_ms", "bytes_in", "bytes_out",
    ),
    "virtual_servers": (
        "name", "address", "port", "protocol", "pool", "method", "forward_mode", "active", "total",
        "refused", "maintenance", "group", "cs",
    ),
}  # fmt: skip
_HEADINGS: Final = {
    "connections_per_second": "new/s",
    "response_ms": "answers in ms",
    "virtual_server": "server",
}
_SENTENCES: Final = frozenset({"meaning", "value", "what"})  # columns that may be folded
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
    """Each segment's tables, titled where there are several."""
    for segment, data in answers:
        for title, rows in shaped(command, data):
            table = table_of(rows, () if title else COLUMNS.get(command, ()))
            titles = [segment.name] if len(answers) > 1 else []
            table.title = " ".join([*titles, title]).strip() or None
            table.title_justify = "left"
            # a row is a line: a terminal that is too narrow folds lines better than we fold columns
            console = Console()
            if not any(column.overflow == "fold" for column in table.columns):
                natural = Console(width=10_000).measure(table).maximum
                console = Console(width=max(console.width, natural))
            console.print(table)
            console.print()


def table_of(rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> Table:
    """A rich table of *rows*; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = _columns(rows, first)
    for column in columns:
        values = [row[column] for row in rows if row.get(column) is not None]
        numeric = all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )
        table.add_column(
            _HEADINGS.get(column, column.replace("_", " ")),
            justify="right" if numeric and values else "left",
            overflow="fold" if column in _SENTENCES else "ellipsis",
            no_wrap=column not in _SENTENCES,
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
    if isinstance(value, int) and column.startswith(("bytes", "pkts")):
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
