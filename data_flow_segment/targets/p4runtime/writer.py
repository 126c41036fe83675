# SPDX-License-Identifier: Apache-2.0
"""Rows into the batch of operations, with a token on each by which a refusal is understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from finsy.proto import p4r

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.batch import Batch
from data_flow_segment.targets.p4runtime.flows import SwitchFlow
from data_flow_segment.targets.p4runtime.schema import Kind, Row, Schema, key
from data_flow_segment.targets.translation import Key


class FlowToken(NamedTuple):
    """An entry of a flow, as it was decided then."""

    flow: SwitchFlow
    entry: FlowEntry


class RowToken(NamedTuple):
    """A row of another table, or an entry of a flow that is taken out."""

    kind: Kind
    row: Row


class Writer:
    """Writes flows and rows; what was written decides between P4Runtime's INSERT and MODIFY."""

    def __init__(
        self, schema: Schema, batch: Batch, comes_from_inside: Callable[[FlowEntry], bool]
    ) -> None:
        self._schema = schema
        self._batch = batch
        self._comes_from_inside = comes_from_inside
        self.strangers: dict[Key, None] = {}  # entries of unknown flows, still there

    def change(self, kind: Kind, row: Row, now: float) -> None:
        """A row of a small table."""
        if kind != "INSERT":
            self._batch.settle(None, now)
        self._batch.write(key(row), self._schema.update(kind, row), RowToken(kind, row))

    def enter(self, flow: SwitchFlow, now: float) -> None:
        """Both entries of a flow that the switch does not have, the return entry first."""
        self._batch.settle(flow.key, now)
        there, back = self._rows(flow)
        for match in (flow.key, flow.reverse_key):
            self.take_stranger(match)
        self._flow("INSERT", back, flow)
        self._flow("INSERT", there, flow)
        flow.written = True

    def update(self, flow: SwitchFlow, old_back: Key, now: float) -> None:
        """Both entries of a flow that it has, whose return entry had this key."""
        self._batch.settle(flow.key, now)
        there, back = self._rows(flow)
        if old_back == flow.reverse_key:
            self._flow("MODIFY", back, flow)
        else:
            self.delete(entries.flow_row_key(old_back))
            self.take_stranger(flow.reverse_key)
            self._flow("INSERT", back, flow)
        self._flow("MODIFY", there, flow)

    def take_out(self, flow: SwitchFlow, now: float) -> None:
        """Both entries."""
        self._batch.settle(flow.key, now)
        self.delete(entries.flow_row_key(flow.key))
        self.delete(entries.flow_row_key(flow.reverse_key))
        flow.written = False

    def take_stranger(self, match: Key) -> None:
        """Take such an entry out, if there is one."""
        if match in self.strangers:
            del self.strangers[match]
            self.delete(entries.flow_row_key(match))

    def delete(self, row: Row) -> None:
        """One entry of a flow."""
        self._batch.write(key(row), self._schema.update("DELETE", row), RowToken("DELETE", row))

    def limit_up_calls(self, a_second: int, burst: int) -> None:
        """The meter that what comes up passes."""
        config = p4r.MeterConfig(cir=a_second, cburst=burst, pir=a_second, pburst=burst)
        entry = p4r.MeterEntry(
            meter_id=self._schema.meters["up_calls"], index=p4r.Index(index=0), config=config
        )
        update = p4r.Update(type=p4r.Update.MODIFY, entity=p4r.Entity(meter_entry=entry))
        self._batch.write("up_calls", update, RowToken("MODIFY", Row("up_calls", ())))

    def _rows(self, flow: SwitchFlow) -> tuple[Row, Row]:
        entry = flow.entry
        from_inside = self._comes_from_inside(entry)
        return entries.flow_rows(entry, flow.index, flow.cookie, from_inside=from_inside)

    def _flow(self, kind: Kind, row: Row, flow: SwitchFlow) -> None:
        self._batch.write(key(row), self._schema.update(kind, row), FlowToken(flow, flow.entry))
