# SPDX-License-Identifier: Apache-2.0
"""What segments answer, as tables for people or JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import click
from pydantic_core import to_json
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from admin.answers import Counter, Flow, Messages, Node, Status, VirtualServer
from splitplane.commands.where import Asked

Row: TypeAlias = dict[str, Any]
Titled: TypeAlias = list[tuple[str, list[Row]]]  # (title, rows); "" is the main table

# the columns of what has more fields than a table has room for, in this order
COLUMNS: Final[Mapping[type, tuple[str, ...]]] = {
    Flow: (
        "client", "vip", "protocol", "virtual_server", "node", "node_name", "state", "spliced",
        "idle_ms", "bytes_in", "bytes_out",
    ),
    Node: (
        "pool", "name", "address", "port", "state", "health", "ejected_for_ms", "in_reserve",
        "weight", "active", "sessions_without_flow", "total", "connections_per_second", "failed",
        "response_ms", "bytes_in", "bytes_out", "health_reason", "ejection_reason",
    ),
    VirtualServer: (
        "name", "address", "port", "protocol", "kind", "pool", "serving_pool", "method",
        "forward_mode", "active", "total", "refused", "answered_ahead", "asked", "granted",
        "why_asked", "maintenance", "group_id", "active_cs",
    ),
}  # fmt: skip
_HEADINGS: Final = {
    "answered_ahead": "ahead",
    "connections_per_second": "new/s",
    "ejected_for_ms": "ejected ms",
    "response_ms": "response ms",
    "serving_pool": "serving",
    "sessions_without_flow": "silent",
    "virtual_server": "server",
}
_REASONS: Final = frozenset({"health_reason", "ejection_reason"})
_SENTENCES: Final = frozenset({"meaning", "value", "what"})  # columns that may be folded
ROWS_LAID_OUT_MAX: Final = 500  # by rich, which takes a millisecond for each
_UNITS: Final = ("", " K", " M", " G", " T")


def print_json(answers: Sequence[tuple[Asked, Any]]) -> None:
    """One array, one element per segment."""
    said = [{"segment": segment.name, **segment.place, "data": data} for segment, data in answers]
    click.echo(to_json(said, indent=2).decode())


def print_tables(answers: Sequence[tuple[Asked, Any]]) -> None:
    """Each segment's tables, titled where there are several."""
    for segment, data in answers:
        for title, rows in tables_of(data):
            if len(rows) > ROWS_LAID_OUT_MAX:
                _print_long(rows, f"{segment.name} {title}".strip() if len(answers) > 1 else title)
                continue
            table = table_of(rows)
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


def _print_long(rows: Sequence[Row], title: str) -> None:
    """The same lines, without rich."""
    if title:
        click.echo(title)
    for line in lines_of(rows):
        click.echo(line)
    click.echo()


# --- from answers to rows --------------------------------------------------------------------


def tables_of(answer: Any) -> Titled:
    """The tables for what a segment answered."""
    if isinstance(answer, Messages):
        return _messages(answer)
    if isinstance(answer, Status):
        return _status(answer)
    if isinstance(answer, Mapping):
        return [("", _counters(answer))]
    return [("", [_row(model) for model in answer])]


def _row(model: Any) -> Row:
    columns = COLUMNS.get(type(model))
    if columns is None:
        return asdict(model)
    row = {name: getattr(model, name) for name in columns}
    # most have none, and then there is no column
    return {name: None if name in _REASONS and not it else it for name, it in row.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How many connections of a virtual server a rule decided, or none did."""

    virtual_server: str
    rule: str
    pool: str | None  # None: the client got a RST
    connections: int


def decided(servers: Iterable[VirtualServer]) -> list[Decided]:
    """The rules of virtual servers that have some, in their order; then what no rule decided."""
    rows: list[Decided] = []
    for server in servers:
        counts = [(it.name, it.pool, it.matched) for it in server.rules or ()]
        if counts:
            counts.append(("(no rule)", server.pool, server.unmatched or 0))
            counts.append(("(unreadable)", None, server.unreadable or 0))
        rows += [
            Decided(virtual_server=server.name or "", rule=name, pool=pool, connections=count)
            for name, pool, count in counts
        ]
    return rows


def message_rows(messages: Messages) -> list[Row]:
    """One row per message type: how many were sent and received."""
    names = sorted({*messages.sent, *messages.received})
    return [
        {
            "message": name,
            "sent": messages.sent.get(name, 0),
            "received": messages.received.get(name, 0),
        }
        for name in names
    ]


def _messages(messages: Messages) -> Titled:
    titled: Titled = [("", message_rows(messages))]
    refused = [
        {"name": name, "count": count} for name, count in (messages.refused or {}).items() if count
    ]
    further = [("refused", refused), ("dropped", _counters(messages.dropped))]
    return titled + [(title, rows) for title, rows in further if rows]


def _counters(counters: Mapping[str, Counter]) -> list[Row]:
    return [
        {
            "name": name,
            "count": counter.value,
            "normal": counter.normal,
            "meaning": counter.meaning,
        }
        for name, counter in counters.items()
        if counter.value
    ]


def _status(status: Status) -> Titled:
    """Plain values in one table, and one more for each member of each list."""
    row = asdict(status)
    lists = {name: value for name, value in row.items() if isinstance(value, list)}
    plain = {name: value for name, value in row.items() if name not in lists}
    return [("", _pairs(plain))] + [
        (name.replace("_", " "), _pairs(member))
        for name, value in lists.items()
        for member in value
    ]


def _pairs(values: Mapping[str, Any], before: str = "") -> list[Row]:
    pairs: list[Row] = []
    for name, value in values.items():
        called = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{called}: ")
        elif isinstance(value, list):
            for number, member in enumerate(value, 1):
                pairs += _pairs(member, f"{called} {number}: ")
        else:
            pairs.append({"name": called, "value": value})
    return pairs


# --- from rows to tables ---------------------------------------------------------------------


def table_of(rows: Sequence[Row]) -> Table:
    """A rich table of *rows*; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = _columns(rows)
    for column in columns:
        table.add_column(
            _HEADINGS.get(column, column.replace("_", " ")),
            justify="right" if _is_numeric(rows, column) else "left",
            overflow="fold" if column in _SENTENCES else "ellipsis",
            no_wrap=column not in _SENTENCES,
        )
    for row in rows:
        table.add_row(*(escape(_text(column, row.get(column))) for column in columns))
    if not rows:
        table.add_column("none")
    return table


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table of *rows*: a row is a line, however wide."""
    columns = _columns(rows)
    texts = [[_text(column, row.get(column)) for column in columns] for row in rows]
    heads = [_HEADINGS.get(column, column.replace("_", " ")) for column in columns]
    widths = [max(map(len, cells)) for cells in zip(heads, *texts, strict=True)]
    pads = [str.rjust if _is_numeric(rows, column) else str.ljust for column in columns]
    yield "  ".join(pad(head, width) for pad, head, width in zip(pads, heads, widths, strict=True))
    yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    for row in texts:
        cells = (pad(text, width) for pad, text, width in zip(pads, row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _is_numeric(rows: Sequence[Row], column: str) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _columns(rows: Sequence[Row]) -> list[str]:
    """All names for which some row has a value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if any(row.get(name) is not None for row in rows)]


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, int) and column.startswith(("bytes", "packets")):
        return amount(value)
    return str(value)


def amount(number: float) -> str:
    """A large number in three or four digits and a unit."""
    for unit in _UNITS:
        if abs(number) < 10_000 or unit == _UNITS[-1]:
            return f"{number:.0f}{unit}"
        number /= 1000
    raise AssertionError
