# SPDX-License-Identifier: Apache-2.0
"""What the segments answer, brought into titled rows for tables.

Segments answer with what they know, in their own shape; how a person wants to read it is decided
here alone.  `--json` bypasses this.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Row: TypeAlias = dict[str, Any]
Shape: TypeAlias = list[tuple[str, list[Row]]]  # (title, rows); "" is the main table

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def shaped(command: str, data: Any) -> Shape:
    """The tables for what a segment answered to *command*."""
    return _SHAPES.get(command, _rows)(data)


def endpoint(address: str, port: object) -> str:
    """10.0.0.1:80 or [fd00::1]:80; `*` stays."""
    try:
        bracketed = ipaddress.ip_address(address).version == 6
    except ValueError:
        bracketed = False
    return f"[{address}]:{port}" if bracketed else f"{address}:{port}"


def flow_row(flow: Mapping[str, Any]) -> Row:
    """A flow of either segment: who talks to whom, and by whose decision."""
    row = dict(flow)
    if "source_address" in row:  # a CS's
        row["client"] = endpoint(row.pop("source_address"), row.pop("source_port"))
        row["vip"] = endpoint(row.pop("destination_address"), row.pop("destination_port"))
        address, port = row.pop("node_address"), row.pop("node_port")
        row["at"] = endpoint(address, port) if port else address  # none: as the client sent it
    if "serial" in row:
        row["serial"] = f"{row['serial']:#x}"
    row.pop("opened_ms", None)  # --json tells it; a table has no room
    return row


def message_rows(data: Mapping[str, Any]) -> list[Row]:
    """One row a message type: how many were sent and received."""
    names: dict[str, Row] = {}
    for direction in ("sent", "received"):
        for name, count in data.get(direction, {}).items():
            wire_name = _HUMP.sub("_", str(name)).upper()
            row = names.setdefault(wire_name, {"message": wire_name, "sent": 0, "received": 0})
            row[direction] += count
    return sorted(names.values(), key=lambda row: str(row["message"]))


def _messages(data: Any) -> Shape:
    shape: Shape = [("", message_rows(data))]
    for name, counts in data.items():
        if name in {"sent", "received"} or not isinstance(counts, Mapping):
            continue
        rows = [_counter_row(cause, counter) for cause, counter in counts.items()]
        rows = [row for row in rows if row["count"]]
        if rows:
            shape.append((name, rows))
    return shape


def _counter_row(name: str, counter: Any) -> Row:
    if not isinstance(counter, Mapping):
        return {"name": name, "count": counter}
    return {
        "name": name,
        "count": counter["value"],
        "normal": counter["normal"],
        "meaning": counter["meaning"],
    }


def _counters(data: Any) -> Shape:
    rows = [_counter_row(name, counter) for name, counter in data.items()]
    return [("", [row for row in rows if row["count"]])]


def _flows(data: Any) -> Shape:
    return [("", [flow_row(flow) for flow in data])]


def _nodes(data: Any) -> Shape:
    return [("", [{**node, "address": endpoint(node["address"], node["port"])} for node in data])]


def _status(data: Any) -> Shape:
    """Plain values in one table, and one more for each object of each list."""
    further: Shape = []
    plain: Row = {}
    for name, value in data.items():
        if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
            further += [(name.replace("_", " "), _pairs(row)) for row in value]
        else:
            plain[name] = value
    return [("", _pairs(plain)), *further]


def _pairs(values: Mapping[str, Any], before: str = "") -> list[Row]:
    pairs: list[Row] = []
    for name, value in values.items():
        called = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{called}: ")
        else:
            pairs.append({"name": called, "value": value})
    return pairs


def _rows(data: Any) -> Shape:
    """Whatever else: a list of objects, or an object."""
    if isinstance(data, list):
        return [("", [row if isinstance(row, dict) else {"": row} for row in data])]
    if isinstance(data, Mapping):
        return [("", [{"name": name, "value": value} for name, value in data.items()])]
    return [("", [{"": data}])]


_SHAPES: Final[Mapping[str, Callable[[Any], Shape]]] = {
    "flows": _flows,
    "nodes": _nodes,
    "messages": _messages,
    "counters": _counters,
    "status": _status,
}
