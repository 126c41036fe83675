# SPDX-License-Identifier: Apache-2.0
"""The switch's tables and the agent's copy: what a new agent adopts, and what is to be written.

A flow is two entries.  Where both are there and say the same, nothing is written.  A client's entry
without its return entry holds the whole decision and is completed; a return entry alone is what an
agent left that died between the two, and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast

from finsy.proto import p4r

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.schema import Row, Schema
from data_flow_segment.targets.translation import CannotInstall, Key

STEP: Final = 256
"""Entries looked at before something else gets its turn: some 5 ms."""


_OWNER: Final = 0xFFFFFFFF
"""A next hop that nothing leads to."""


def owner_row(agent: int) -> Row:
    """Which agent wrote last: a random number from its start, written before all else.  Whoever
    reads another one here was not alone, and what it believes of the tables is worth nothing.  No
    such row: nobody has written since the program was pushed."""
    return Row("next_hops", (_OWNER,), "forward", (0, agent.to_bytes(6, "big"), bytes(6), 0))


LIFE: Final = 0xFFFFFFFE
"""Another one: it only holds the boot_id of tables whose program the agent did not push."""


def life_row(boot_id: int) -> Row:
    """The row that says so (loaded.py)."""
    return Row("next_hops", (LIFE,), "forward", (0, boot_id.to_bytes(6, "big"), bytes(6), 0))


class Found:
    """What was read from the switch."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.rows: list[Row] = []  # of the small tables
        self.owner: Row | None = None
        self.refused: list[str] = []  # why flows could not be taken over
        self._inbound: dict[Key, tuple[FlowEntry, int, int]] = {}
        self._returning: dict[Key, tuple[int, int, bool]] = {}

    def take(self, entities: Iterable[p4r.Entity]) -> Iterator[None]:
        """Sort them; a step at a time.  SchemaError if one is not of this program."""
        for number, entity in enumerate(entities, 1):
            row = self._schema.decode(entity.table_entry)
            if row.table == "next_hops" and row.match == (_OWNER,):
                self.owner = row
            elif row.table == "next_hops" and row.match == (LIFE,):
                pass
            elif row.table != "flows":
                self.rows.append(row)
            elif row.action == "inbound":
                self._inbound[cast(Key, row.match)] = entries.flow_of(row)
            else:
                self._returning[cast(Key, row.match)] = entries.place_of(row)
            if number % STEP == 0:
                yield

    def adopt(self, flows: Flows, now: float) -> Iterator[None]:
        """Take every flow over whose decision is there; a step at a time."""
        for number, (entry, index, cookie) in enumerate(self._inbound.values(), 1):
            try:
                flows.adopt(entry, index, cookie, now)
            except CannotInstall as error:  # strangers are taken out
                self.refused.append(str(error))
            if number % STEP == 0:
                yield
        flows.adopted()

    def has(self, flow: SwitchFlow) -> bool:
        """Whether both its entries are there, as they are to be.  Asked once for each flow; what is
        left then is to be taken out (`strangers`)."""
        there, back = self._inbound.get(flow.key), self._returning.get(flow.reverse_key)
        wanted = (flow.index + 1, flow.cookie, flow.entry.held)
        if there != (flow.entry, flow.index, flow.cookie) or back != wanted:
            return False
        del self._inbound[flow.key], self._returning[flow.reverse_key]
        return True

    def strangers(self) -> dict[Key, None]:
        """The keys of entries that belong to no known flow, or are not as they are to be."""
        return dict.fromkeys((*self._inbound, *self._returning))


def reserved_of(rows: Iterable[Row]) -> frozenset[bytes]:
    """The addresses that the last agent kept wildcards off."""
    return frozenset(
        cast(bytes, row.match[0])
        for row in rows
        if row.table == "local_addresses" and row.action == "reserved"
    )


def outbound_query_of(rows: Iterable[Row]) -> bool:
    """Whether the last agent wanted the internal side's packets."""
    return any(row.parameters[3] for row in rows if row.table == "interfaces")
