# SPDX-License-Identifier: Apache-2.0
"""Flows that were taken out although their connection may go on: rows of the table `asleep`, by
which the switch sends their nodes' packets up."""

from __future__ import annotations

from collections.abc import Iterator

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.schema import Row
from data_flow_segment.targets.p4runtime.tables import Change, Tables
from data_flow_segment.targets.translation import Key


class Asleep:
    """The key of the node's packets -> that of the client's; the oldest yields."""

    def __init__(self, tables: Tables, size: int) -> None:
        self._tables = tables
        self._size = size
        self._by_back: dict[Key, Key] = {}

    def add(self, entry: FlowEntry) -> Iterator[Change]:
        """This flow was taken out."""
        back, session = entries.return_key(entry), entry.signature.session
        self._by_back.pop(back, None)
        if len(self._by_back) >= self._size:
            yield from self.forget(next(iter(self._by_back)))
        self._by_back[back] = session
        yield from self._tables.put(entries.asleep_row(back, session))

    def forget(self, back: Key) -> Iterator[Change]:
        """It is awake again, or gives way."""
        session = self._by_back.pop(back, None)
        if session is not None:
            yield from self._tables.drop(entries.asleep_row(back, session))

    def adopt(self, row: Row) -> None:
        """One that the switch has."""
        back, session = entries.asleep_of(row)
        self._by_back[back] = session
        for _ in self._tables.put(row):
            pass  # it is there already

    def find(self, key: Key) -> Key | None:
        """The client's key, if such a flow's node sends packets with this one."""
        return self._by_back.get(key)
