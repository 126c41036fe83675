# SPDX-License-Identifier: Apache-2.0
"""A switch as the core sees it: operations in, results out, tables in between, no packets but
reports.  It can be slow, refuse, be lost at any operation, and forget everything.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.constants import Operation as Ask
from data_flow_segment.targets.p4runtime.constants import Reason
from data_flow_segment.targets.p4runtime.operations import (
    LOST,
    Connected,
    Fence,
    FenceDone,
    Lost,
    Operation,
    PacketUp,
    Read,
    ReadDone,
    Result,
    Send,
    UpdateError,
    Write,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.schema import Key, Row, Schema, key

GONE = UpdateError(LOST, "the switch is gone")


_NOW_US = 1_000_000_000


class SwitchModel:
    """The switch and the driver before it."""

    def __init__(self, *, flow_entries: int = 1 << 20) -> None:
        self.program = Program.load()
        self.schema = Schema(self.program.p4info)
        self.flow_entries = flow_entries
        self.rows: dict[Key, Row] = {}
        self.seen: dict[int, tuple[int, int, int, int, int]] = {}  # index: as `count` has it
        self.boot_id = 0
        self.is_connected = False
        self.waiting: deque[Operation] = deque()
        self.refuse: set[Key] = set()  # rows that it does not take, and what it says then
        self.refusal = "INTERNAL"
        self.also_read: list[p4r.Entity] = []
        self.listens = 0
        self.up_calls_per_s = 0  # 0: no limit
        self.put_out: list[tuple[int, int, bytes]] = []  # operation, port, frame

    # --- what a test does to it --------------------------------------------------------------

    def connect(self, boot_id: int) -> Iterator[Result]:
        """The agent's side connects; an empty switch gets the program."""
        assert not self.is_connected
        self.is_connected = True
        pushed = self.boot_id == 0
        self.boot_id = self.boot_id or boot_id
        yield Connected(pushed, self.program.cookie(self.boot_id))

    def lose(self) -> Iterator[Result]:
        """The connection ends: what was not done will not be."""
        assert self.is_connected
        self.is_connected = False
        while self.waiting:
            yield from self._failed(self.waiting.popleft())
        yield Lost("pulled")

    def forget(self) -> None:
        """The switch restarts: program, tables and registers are gone."""
        assert not self.is_connected
        self.rows.clear()
        self.seen.clear()
        self.up_calls_per_s = 0
        self.boot_id = 0

    def count(
        self, index: int, cookie: int, packets: int, close: int = 0, idle_ms: int = 0
    ) -> None:
        """A direction's packets, of 100 octets."""
        self.seen[index] = (cookie, packets, packets * 100, close, idle_ms)

    # --- the driver's side -------------------------------------------------------------------

    def submit(self, operations: Iterable[Operation]) -> Iterator[Result]:
        """Take operations; only what cannot be done is answered at once."""
        for operation in operations:
            if self.is_connected:
                self.waiting.append(operation)
            else:
                yield from self._failed(operation)

    def step(self, count: int = 1 << 30) -> Iterator[Result]:
        """Carry out up to so many operations."""
        while self.waiting and count > 0:
            count -= 1
            yield from self._carry_out(self.waiting.popleft())

    def _failed(self, operation: Operation) -> Iterator[Result]:
        if isinstance(operation, Write):
            errors = dict.fromkeys(range(len(operation.updates)), GONE)
            yield WriteDone(operation.token, errors)
        elif isinstance(operation, Read):
            yield ReadDone(operation.token, (), f"{LOST} the switch is gone")
        elif isinstance(operation, Fence):
            yield FenceDone(operation.index, False)

    def _carry_out(self, operation: Operation) -> Iterator[Result]:
        if isinstance(operation, Write):
            errors = {}
            for position, update in enumerate(operation.updates):
                code = self._update(update)
                if code:
                    errors[position] = UpdateError(code, "")
            yield WriteDone(operation.token, errors)
        elif isinstance(operation, Read):
            yield ReadDone(operation.token, tuple(self._read(operation.entities)), None)
        elif isinstance(operation, Fence):
            yield FenceDone(operation.index, True)
        elif isinstance(operation, Send):
            yield from self._packet(operation.packet)

    def _update(self, update: p4r.Update) -> str:
        if update.entity.HasField("meter_entry"):
            self.up_calls_per_s = update.entity.meter_entry.config.pir
            return ""
        row = self.schema.decode(update.entity.table_entry)
        place = key(row)
        is_there = place in self.rows
        if place in self.refuse and update.type != p4r.Update.DELETE:
            return self.refusal
        if update.type == p4r.Update.DELETE:
            return "" if self.rows.pop(place, None) else "NOT_FOUND"
        if is_there != (update.type == p4r.Update.MODIFY):
            return "ALREADY_EXISTS" if is_there else "NOT_FOUND"
        flow_entries = sum(1 for table, *_ in self.rows if table == "flows")
        if row.table == "flows" and not is_there and flow_entries >= self.flow_entries:
            return "RESOURCE_EXHAUSTED"
        self.rows[place] = row
        return ""

    def _read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        yield from self.also_read
        wanted = {entity.table_entry.table_id for entity in entities}
        for row in self.rows.values():
            entry = self.schema.encode(row)
            if entry.table_id in wanted:
                yield p4r.Entity(table_entry=entry)

    def _packet(self, packet: p4r.PacketOut) -> Iterator[Result]:
        fields = {m.metadata_id: int.from_bytes(m.value, "big") for m in packet.metadata}
        if fields[1] == Ask.REPORT:
            yield PacketUp(self._report(fields[4]))
        elif fields[1] == Ask.LISTEN:
            self.listens = fields[4]
        else:
            self.put_out.append((fields[1], fields[3], packet.payload))

    def _report(self, index: int) -> p4r.PacketIn:
        payload = struct.pack("!IHI", index, 0, _NOW_US)
        for half in (index, index + 1):
            cookie, packets, octets, close, idle_ms = self.seen.get(half, (0, 0, 0, 0, 0))
            counts = (cookie << 96 | packets << 56 | octets).to_bytes(16, "big")
            payload += counts + struct.pack("!HBBIHI", close, 0, 0, 0, 0, _NOW_US - 1000 * idle_ms)
        reason = p4r.PacketMetadata(metadata_id=1, value=bytes((Reason.REPORT,)))
        return p4r.PacketIn(payload=payload + bytes(14), metadata=[reason])
