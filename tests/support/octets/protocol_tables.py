# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/protocols that come from the code.

    python tests/support/octets/protocol_tables.py      # writes them anew

Where a field stands is found by trying: it is set to ones, and the octets that change are its own.
So the documents say what the codecs do, not what somebody copied from them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # pytest has its own path
    sys.path[:0] = [str(Path(__file__).parents[3])]

import csmb.constants
import ssmb.constants
from csmb import codec as csmb_codec
from csmb import messages as csmb_messages
from csmb.constants import Role
from csmb.errors import EncodeError as CsmbEncodeError
from csmb.transitions import TABLE, Input, State
from ssmb import codec as ssmb_codec
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED
from ssmb.errors import EncodeError
from ssmb.messages import FlowSignature, Query

DOCUMENTS = Path(__file__).parents[3] / "docs" / "protocols"
_BEGIN, _END = "<!-- from the code: {} -->", "<!-- end -->"
_ONES = (2**64 - 1, 2**32 - 1, 2**16 - 1, 0xEFFF, 0xFF, -1)  # 0xEFFF: flags without PARKED
_DERIVED = {
    "app_data": "app_length",
    "frag_data": "frag_length",
    "grant_data": "grant_length",
    "taken_data": "taken_length",
    "entries": "vs_count",
}
_CSMB_HEADER = ("msg_type", "serial_global", "serial_bytype", "msg_length")


class Field(NamedTuple):
    """Where a field stands; no size: to the end."""

    offset: int
    size: int | None
    name: str


# --- finding the fields --------------------------------------------------------------------


def fields_of(bus: str, cls: type[Any], version: int) -> list[Field]:
    """Return every field of a message, reserved ones too, in order."""
    base = _zero(cls)
    empty = _encode(bus, base, version)
    found = (
        [Field(0, 1, "msg_type")]
        if bus == "ssmb"
        else [Field(2 * at, 2, name) for at, name in enumerate(_CSMB_HEADER)]
    )
    for name in cls._fields:
        if name == "frame" and "app_data" in cls._fields:
            continue  # in place of the data, and no layout of its own (15.2)
        if name in _DERIVED or name in ("frame", "nodes"):
            found += _variable(bus, base, name, empty, version)
        else:
            changed = _encode_ones(bus, base, name, version)
            first, last = _difference(_without_length(bus, empty), _without_length(bus, changed))
            found.append(Field(first, last - first + 1, name))
    found.sort()
    return _with_reserved(found, len(empty))


def _zero(cls: type[Any]) -> Any:
    """A message of zeros; HELLO with its tail."""
    values: dict[str, Any] = {}
    for name, default in cls._field_defaults.items():
        if isinstance(default, bytes):
            values[name] = bytes(len(default))
        else:
            values[name] = {int: 0, tuple: (), type(None): UNSPECIFIED}[type(default)]
    return cls(**values)


def _encode(bus: str, message: Any, version: int) -> bytes:
    if bus == "ssmb":
        return ssmb_codec.encode(message, version)
    return csmb_codec.encode(message, version, 0, 0)


def _encode_ones(bus: str, base: Any, name: str, version: int) -> bytes:
    before = getattr(base, name)
    narrow = version == 1 or (isinstance(base, csmb_messages.Hello) and not name.endswith("6"))
    values: Iterable[Any] = _ONES
    if isinstance(before, bytes):
        values = [IPV4_PREFIX + b"\xff" * 4 if "ipaddr" in name and narrow else b"\xff" * 32]
        values = [value[: len(before)] for value in values]
        if name.endswith("ipaddr6"):
            values = [b"\xff" * 16]
    for value in values:
        try:
            return _encode(bus, base._replace(**{name: value}), version)
        except (EncodeError, CsmbEncodeError):
            continue
    raise AssertionError(f"{name} takes no value")


def _variable(bus: str, base: Any, name: str, empty: bytes, version: int) -> list[Field]:
    """The variable part, and the field that says its length or count."""
    changes: dict[str, Any] = {name: b"\xff" * 256}
    if name == "entries":
        changes = {name: (csmb_messages.VsEntry(),)}
    elif name == "frame":
        changes["flags"] = ssmb.constants.Flag.PARKED
    lists = {"entries": "vs_entry[]", "nodes": "node[]"}
    made = [Field(len(empty), None, lists.get(name, name))]
    if name in _DERIVED:
        changed = _encode(bus, base._replace(**changes), version)[: len(empty)]
        first, _ = _difference(_without_length(bus, empty), _without_length(bus, changed))
        made.append(Field(first & ~1, 2, _DERIVED[name]))
    return made


def _without_length(bus: str, octets: bytes) -> bytes:
    return octets if bus == "ssmb" else octets[:6] + bytes(2) + octets[8:]


def _difference(before: bytes, after: bytes) -> tuple[int, int]:
    places = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    return places[0], places[-1]


def _with_reserved(found: list[Field], end: int) -> list[Field]:
    made, offset = [], 0
    for field in found:
        if field.offset > offset:
            made.append(Field(offset, field.offset - offset, "reserved"))
        made.append(field)
        offset = field.offset + (field.size or 0)
    if offset < end:
        made.append(Field(offset, end - offset, "reserved"))
    return made


# --- writing the tables --------------------------------------------------------------------


def _yes(condition: bool) -> str:
    return "yes" if condition else ""


def _meaning(cls: type[Any]) -> str:
    text = " ".join(str(cls.__doc__).split()).split(": ", 1)[1].rstrip(".")
    return re.sub(r" \((section )?[0-9.]+\)", "", text)


def _sizes(first: int | None, second: int | None) -> str:
    if first is None:
        return "to the end"
    return str(first) if first == second else f"{first} / {second}"


def ssmb_messages_table() -> str:
    """Every message type of SSMB."""
    c = ssmb.constants
    rows = [
        f"| {kind:d} | {kind.name} | {_yes(kind in c.DFS_SENDS)} | {_yes(kind in c.CS_SENDS)} "
        f"| {'high' if kind in c.HIGH_PRIORITY else 'low'} | {_yes(kind in c.BATCHABLE)} "
        f"| {_yes(kind in c.STATE_SHARING)} | {ssmb_codec.size_of(kind, 1)} "
        f"| {ssmb_codec.size_of(kind, 2)} | {_meaning(cls)} |"
        for cls, kind in ssmb_codec.TYPE_OF.items()
    ]
    return "\n".join(
        [
            "| type | name | DFS sends | CS sends | priority | shares a datagram "
            "| shared with the standby | octets v1 | v2 | says |",
            "| ---: | --- | --- | --- | --- | --- | --- | ---: | ---: | --- |",
            *rows,
        ]
    )


def csmb_size(cls: type[Any], version: int) -> int:
    """Octets of a message without its variable part, and of HELLO without its tail."""
    message = cls() if cls is csmb_messages.Hello else _zero(cls)
    return len(csmb_codec.encode(message, version, 0, 0))


def csmb_messages_table() -> str:
    """Every message type of CSMB."""
    c = csmb.constants
    kinds = {kind: cls for cls, kind in csmb_codec.TYPE_OF.items()}
    rows = [
        f"| {kind:d} | {kind.name} | {_yes(kind in c.DFS_SENDS)} | {_yes(kind in c.CS_SENDS)} "
        f"| {_yes(kind in c.ACKNOWLEDGED)} | {csmb_size(kinds[kind], 1)} "
        f"| {csmb_size(kinds[kind], 2)} | {_meaning(kinds[kind])} |"
        for kind in c.MessageType
    ]
    return "\n".join(
        [
            "| type | name | DFS sends | CS sends | ACK follows | octets v1 | v2 | says |",
            "| ---: | --- | --- | --- | --- | ---: | ---: | --- |",
            *rows,
        ]
    )


def _rows(bus: str, cls: type[Any], known: frozenset[str]) -> str:
    return "\n".join(
        f"| {one.offset} | {two.offset} | {_sizes(one.size, two.size)} | {one.name} |"
        for one, two in zip(fields_of(bus, cls, 1), fields_of(bus, cls, 2), strict=True)
        if one.name not in known
    )


def _layouts(bus: str, kinds: dict[type[Any], Any], known: frozenset[str]) -> str:
    """A table for each layout, whichever messages have it; *known* fields stand elsewhere."""
    sharing: dict[str, list[str]] = {}
    for cls, kind in sorted(kinds.items(), key=lambda item: int(item[1])):
        about_flow = _SIGNATURE if hasattr(cls, "signature") else frozenset()
        sharing.setdefault(_rows(bus, cls, known | about_flow), []).append(
            f"{kind.name} ({kind:d})"
        )
    return "\n\n".join(
        f"#### {', '.join(names)}\n\n{_HEADINGS}\n{rows}" for rows, names in sharing.items()
    )


_HEADINGS = "| v1 | v2 | size | field |\n| ---: | ---: | --- | --- |"
_SSMB_HEAD = frozenset({"msg_type", "error_code", "flags", "serial"})
_SIGNATURE = frozenset({*FlowSignature._fields, "tcp_flags", "detail"})


def ssmb_layouts() -> str:
    """Every SSMB message, without what all of them, or all about a flow, begin with."""
    return _layouts("ssmb", ssmb_codec.TYPE_OF, _SSMB_HEAD)


def ssmb_beginning() -> str:
    """What every SSMB message about a flow begins with."""
    others = frozenset(Query._fields) - _SSMB_HEAD - _SIGNATURE
    return f"{_HEADINGS}\n{_rows('ssmb', Query, others)}"


def csmb_layouts() -> str:
    """Every CSMB message, without the header that all have."""
    return _layouts("csmb", csmb_codec.TYPE_OF, frozenset(_CSMB_HEADER))


def transitions(role: Role) -> str:
    """The connection's table, a column a state."""
    states = [state for state in State if TABLE[role][state]]
    lines = [
        "| input | " + " | ".join(state.name for state in states) + " |",
        "| --- |" + " --- |" * len(states),
    ]
    for happens in Input:
        steps = [TABLE[role][state].get(happens) for state in states]
        if any(steps):
            cells = [f"{step[1]} → {step[0].name}" if step else "" for step in steps]
            lines.append(f"| {happens.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "ssmb.md": {
        "messages": ssmb_messages_table,
        "beginning": ssmb_beginning,
        "layouts": ssmb_layouts,
    },
    "csmb.md": {
        "messages": csmb_messages_table,
        "layouts": csmb_layouts,
        "transitions of the CS": lambda: transitions(Role.CS),
        "transitions of the DFS": lambda: transitions(Role.DFS),
    },
}


def renewed(document: str, text: str) -> str:
    """Return a document's text with its tables as the code has them now."""
    for name, table in TABLES[document].items():
        begin = _BEGIN.format(name)
        before, rest = text.split(f"{begin}\n", 1)
        _, after = rest.split(f"{_END}\n", 1)
        text = f"{before}{begin}\n{table()}\n{_END}\n{after}"
    return text


if __name__ == "__main__":
    for name in TABLES:
        path = DOCUMENTS / name
        path.write_text(renewed(name, path.read_text()))
        print(path)
