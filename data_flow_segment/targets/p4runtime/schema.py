# SPDX-License-Identifier: Apache-2.0
"""Names to ids, values to octets: table entries as rows, by the P4Info of the program.

A row's fields and parameters stand in P4Info's order.  Values are integers, but addresses (128
bits) and MAC addresses (48 bits) are octets of full length.  On the wire a value is in canonical
form: big endian, no leading zeros, never empty; what matches everything is left out.

Each flow is two entries of up to 36 values, so an update begins as a copy of one that holds all
ids already: for each table and action there is such a form, and only values are set in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from finsy.proto import p4i, p4r

Value = int | bytes
Match = Value | tuple[Value, int] | tuple[Value, Value] | None
"""Exact: the value.  LPM: (value, prefix length).  Ternary: (value, mask).  None: whatever."""

Key = tuple[str, tuple[Match, ...], int]
Kind = Literal["INSERT", "MODIFY", "DELETE"]

_ADDRESS_BITS: Final = 128
_MAC_BITS: Final = 48
_KINDS: Final = {
    "INSERT": p4r.Update.INSERT,
    "MODIFY": p4r.Update.MODIFY,
    "DELETE": p4r.Update.DELETE,
}


class SchemaError(Exception):
    """An entry of another program, or a P4Info that is not this program's."""


class Row(NamedTuple):
    """A table entry by names.  To take one out, the key is enough: no action, no parameters."""

    table: str
    match: tuple[Match, ...]
    action: str = ""
    parameters: tuple[Value, ...] = ()
    priority: int = 0
    idle_timeout_ns: int = 0


def key(row: Row) -> Key:
    """What no two rows share."""
    return row.table, row.match, row.priority


def octets(value: Value) -> bytes:
    """P4Runtime's canonical form of a value."""
    if isinstance(value, bytes):
        return value.lstrip(b"\0") or b"\0"
    return value.to_bytes((value.bit_length() + 7) >> 3 or 1, "big")


class Schema:
    """The tables, actions, counters and packet headers of one program."""

    def __init__(self, info: p4i.P4Info) -> None:
        self.actions = {_last(action.preamble.name): _Action(action) for action in info.actions}
        self.tables = {_last(table.preamble.name): _Table(table) for table in info.tables}
        self.counters = {_last(c.preamble.name): c.preamble.id for c in info.counters}
        self.meters = {_last(meter.preamble.name): meter.preamble.id for meter in info.meters}
        self.headers = {
            header.preamble.name: {field.name: field.id for field in header.metadata}
            for header in info.controller_packet_metadata
        }
        self._tables_by_id = {table.id: table for table in self.tables.values()}
        self._actions_by_id = {action.id: action for action in self.actions.values()}
        self._forms: dict[tuple[str, str], p4r.Update] = {}

    def encode(self, row: Row) -> p4r.TableEntry:
        """The entry that this row stands for."""
        entry = p4r.TableEntry()
        entry.CopyFrom(self._form(row).entity.table_entry)
        self._fill(entry, row)
        return entry

    def update(self, kind: Kind, row: Row) -> p4r.Update:
        """One change of a table; of a row to delete only the key counts."""
        update = p4r.Update()
        update.CopyFrom(self._form(row))
        update.type = _KINDS[kind]
        self._fill(update.entity.table_entry, row)
        return update

    def decode(self, entry: p4r.TableEntry) -> Row:
        """The row of an entry that was read from the switch, or SchemaError."""
        table = self._tables_by_id.get(entry.table_id)
        action = self._actions_by_id.get(entry.action.action.action_id)
        if table is None or (action is None and entry.HasField("action")):
            raise SchemaError(f"table {entry.table_id:#x} or its action is not in this program")
        try:
            match = table.read(entry)
            parameters = () if action is None else action.read(entry.action.action)
        except KeyError as unknown:
            raise SchemaError(f"{table.name}: no field or parameter {unknown}") from None
        name = "" if action is None else action.name
        timeout = entry.idle_timeout_ns
        return Row(table.name, match, name, parameters, entry.priority, timeout)

    def whole_table(self, table: str) -> p4r.Entity:
        """What to read to get every entry of a table."""
        return p4r.Entity(table_entry=p4r.TableEntry(table_id=self.tables[table].id))

    def whole_counter(self, counter: str) -> p4r.Entity:
        """What to read to get every place of a counter."""
        return p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=self.counters[counter]))

    def size(self, table: str) -> int:
        """How many entries the table has room for."""
        return self.tables[table].size

    def _form(self, row: Row) -> p4r.Update:
        form = self._forms.get((row.table, row.action))
        if form is None:
            form = p4r.Update()
            self.tables[row.table].prepare(form.entity.table_entry)
            if row.action:
                self.actions[row.action].prepare(form.entity.table_entry.action.action)
            self._forms[row.table, row.action] = form
        return form

    def _fill(self, entry: p4r.TableEntry, row: Row) -> None:
        self.tables[row.table].write(entry, row.match)
        if row.parameters:
            parameters = entry.action.action.params
            for parameter, value in zip(parameters, row.parameters, strict=True):
                parameter.value = octets(value)
        if row.priority:
            entry.priority = row.priority
        if row.idle_timeout_ns:
            entry.idle_timeout_ns = row.idle_timeout_ns


class _Action:
    def __init__(self, info: p4i.Action) -> None:
        self.id = info.preamble.id
        self.name = _last(info.preamble.name)
        self.parameters = tuple(parameter.name for parameter in info.params)
        self._readers = {
            parameter.id: (place, _reader(parameter.bitwidth))
            for place, parameter in enumerate(info.params)
        }

    def prepare(self, action: p4r.Action) -> None:
        """Every id; values are still missing."""
        action.action_id = self.id
        for number in self._readers:
            action.params.add(param_id=number)

    def read(self, action: p4r.Action) -> tuple[Value, ...]:
        values: list[Value] = [0] * len(self._readers)
        for parameter in action.params:
            place, read = self._readers[parameter.param_id]
            values[place] = read(parameter.value)
        return tuple(values)


class _Table:
    def __init__(self, info: p4i.Table) -> None:
        self.id = info.preamble.id
        self.name = _last(info.preamble.name)
        self.size = info.size
        self.fields = tuple(field.name for field in info.match_fields)
        self._ids = tuple(field.id for field in info.match_fields)
        kinds = tuple(field.match_type for field in info.match_fields)
        self._is_exact = all(kind == p4i.MatchField.EXACT for kind in kinds)
        self._writers = tuple(map(_match_writer, info.match_fields))
        self._readers = {
            field.id: (place, _match_reader(field)) for place, field in enumerate(info.match_fields)
        }

    def prepare(self, entry: p4r.TableEntry) -> None:
        """The table's id and, if none can be missing, those of its fields."""
        entry.table_id = self.id
        if self._is_exact:
            for number in self._ids:
                entry.match.add(field_id=number)

    def write(self, entry: p4r.TableEntry, match: tuple[Match, ...]) -> None:
        if self._is_exact:
            for field, value in zip(entry.match, match, strict=True):
                field.exact.value = octets(value)  # type: ignore[arg-type]  # it is exact
            return
        for number, write, wanted in zip(self._ids, self._writers, match, strict=True):
            if wanted is not None:
                given = p4r.FieldMatch(field_id=number)
                if write(given, wanted):
                    entry.match.append(given)

    def read(self, entry: p4r.TableEntry) -> tuple[Match, ...]:
        match: list[Match] = [None] * len(self._ids)
        for given in entry.match:
            place, read = self._readers[given.field_id]
            match[place] = read(given)
        return tuple(match)


def _match_writer(field: p4i.MatchField) -> Callable[[p4r.FieldMatch, Match], bool]:
    """What sets a field's value and says whether it matters."""

    def exact(given: p4r.FieldMatch, wanted: Match) -> bool:
        assert isinstance(wanted, int | bytes)
        given.exact.value = octets(wanted)
        return True

    def lpm(given: p4r.FieldMatch, wanted: Match) -> bool:
        assert isinstance(wanted, tuple)
        prefix_length = wanted[1]
        assert isinstance(prefix_length, int)
        given.lpm.value, given.lpm.prefix_len = octets(wanted[0]), prefix_length
        return prefix_length > 0

    def ternary(given: p4r.FieldMatch, wanted: Match) -> bool:
        assert isinstance(wanted, tuple)
        given.ternary.value, given.ternary.mask = octets(wanted[0]), octets(wanted[1])
        return given.ternary.mask != b"\0"

    if field.match_type == p4i.MatchField.EXACT:
        return exact
    return lpm if field.match_type == p4i.MatchField.LPM else ternary


def _match_reader(field: p4i.MatchField) -> Callable[[p4r.FieldMatch], Match]:
    read = _reader(field.bitwidth)
    if field.match_type == p4i.MatchField.EXACT:
        return lambda given: read(given.exact.value)
    if field.match_type == p4i.MatchField.LPM:
        return lambda given: (read(given.lpm.value), given.lpm.prefix_len)
    return lambda given: (read(given.ternary.value), read(given.ternary.mask))


def _reader(bits: int) -> Callable[[bytes], Value]:
    if bits in (_ADDRESS_BITS, _MAC_BITS):
        length = bits // 8
        return lambda value: value[-length:].rjust(length, b"\0")
    return lambda value: int.from_bytes(value, "big")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
