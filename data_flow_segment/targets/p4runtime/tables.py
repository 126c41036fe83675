# SPDX-License-Identifier: Apache-2.0
"""Every row except for the flows', as it is to be in the switch; what differs is to be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from data_flow_segment.targets.p4runtime.schema import Key, Kind, Row, key

Change = tuple[Kind, Row]
_LAST: Final = ("interfaces",)


class Tables:
    """The small tables: what they are to hold."""

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}

    def put(self, row: Row) -> Iterator[Change]:
        """Add the row, or replace the one with its key."""
        row = canonical(row)
        known = self._rows.get(key(row))
        if known != row:
            self._rows[key(row)] = row
            yield ("INSERT" if known is None else "MODIFY"), row

    def drop(self, row: Row) -> Iterator[Change]:
        """Take the row with this key out."""
        known = self._rows.pop(key(canonical(row)), None)
        if known is not None:
            yield "DELETE", known

    def count(self, table: str) -> int:
        """How many rows a table is to hold."""
        return sum(row.table == table for row in self._rows.values())

    def refused(self, kind: Kind, row: Row) -> None:
        """The switch did not take it: it is as if it had never been put."""
        if kind == "INSERT" and self._rows.get(key(row)) == row:
            del self._rows[key(row)]

    def replace(self, tables: frozenset[str], rows: Iterable[Row]) -> Iterator[Change]:
        """Let these tables hold these rows and no others."""
        wanted = {key(row): row for row in map(canonical, rows)}
        gone = [k for k, row in self._rows.items() if row.table in tables and k not in wanted]
        for row_key in gone:  # first, so that a full table has room for what comes
            yield "DELETE", self._rows.pop(row_key)
        for row in wanted.values():
            yield from self.put(row)

    def missing(self, found: Iterable[Row]) -> Iterator[Change]:
        """What brings a switch that has these rows to the desired ones, the interfaces' rows last:
        without them it accepts no packet, and so sends none by a route that another row changes."""
        present = {key(row): row for row in map(canonical, found)}
        for row_key, row in present.items():
            if row_key not in self._rows:
                yield "DELETE", row
        for row_key, row in sorted(self._rows.items(), key=lambda item: item[1].table in _LAST):
            known = present.get(row_key)
            if known != row:
                yield ("INSERT" if known is None else "MODIFY"), row


def canonical(row: Row) -> Row:
    """A prefix of no bits matches everything, which a switch expresses by omitting the field."""
    match = tuple(None if isinstance(m, tuple) and m[1] == 0 else m for m in row.match)
    return row if match == row.match else row._replace(match=match)
