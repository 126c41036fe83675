# SPDX-License-Identifier: Apache-2.0
"""A program that the switch had before its agent: it is never installed nor replaced.

The cookie of its configuration is somebody else's.  So the life of its tables, their boot_id,
stands in a row of next_hops that nothing leads to; a switch without that row has tables that begin
anew, also if this agent filled them before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from finsy.proto import p4i, p4r

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.p4runtime.failures import NotPrimary, SwitchLost, where
from data_flow_segment.targets.p4runtime.fit import misfit
from data_flow_segment.targets.p4runtime.operations import LOST, Connected, UpdateError
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.reconcile import LIFE, life_row
from data_flow_segment.targets.p4runtime.schema import Row, Schema, SchemaError

DELETED_AT_ONCE: Final = 500

Reader = Callable[[Sequence[p4r.Entity]], Awaitable[tuple[p4r.Entity, ...] | str]]
WriterOf = Callable[[Sequence[p4r.Update]], Awaitable[Mapping[int, UpdateError]]]


class LoadedProgram:
    """That of one session, which `read` and `write` belong to."""

    def __init__(
        self, options: P4RuntimeOptions, program: Program, read: Reader, write: WriterOf
    ) -> None:
        self._options, self._program = options, program
        self._schema = Schema(program.p4info)
        self._read, self._write = read, write

    async def prepare(self, found: p4r.ForwardingPipelineConfig, boot_id: int) -> Connected:
        """Take the program that the switch reports; `boot_id` is for tables that begin anew."""
        at = where(self._options)
        if not found.HasField("p4info"):
            raise SwitchLost(
                f"{at}: it has no program yet, and p4runtime.program says that it is loaded by"
                " somebody else"
            )
        if (lacking := self._difference(found.p4info)) is not None:
            raise TargetError(
                f"{at}: it runs another program than p4runtime.program.p4info_file describes:"
                f" {lacking}; correct the file, or load that program"
            )
        cookie = await self.cookie()
        if cookie is not None:
            return Connected(pushed=False, cookie=cookie)
        errors = await self._write([self._schema.update("INSERT", life_row(boot_id))])
        if errors:
            if errors[0].code == LOST:
                raise NotPrimary(f"{at}: no longer primary")
            raise TargetError(
                f"{at}: it refused an entry of next_hops: {errors[0].code} {errors[0].message}"
            )
        return Connected(pushed=False, cookie=self._program.cookie(boot_id), renewed=True)

    async def cookie(self) -> int | None:
        """As of a program that we have pushed; None if its tables begin anew."""
        for row in await self._rows(self._schema.encode(Row("next_hops", (LIFE,)))):
            if row.table == "next_hops" and row.match == (LIFE,):
                life = cast(bytes, row.parameters[1])
                return self._program.cookie(int.from_bytes(life, "big"))
        return None

    async def empty(self) -> None:
        """Leave the tables as they were found: nothing in them, the interfaces' first."""
        for table in sorted(self._schema.tables, key=lambda name: name != "interfaces"):
            rows = await self._rows(self._schema.whole_table(table).table_entry)
            updates = [self._schema.update("DELETE", row) for row in rows]
            for first in range(0, len(updates), DELETED_AT_ONCE):
                await self._write(updates[first : first + DELETED_AT_ONCE])

    async def _rows(self, entry: p4r.TableEntry) -> list[Row]:
        found = await self._read([p4r.Entity(table_entry=entry)])
        if isinstance(found, str):
            raise TargetError(f"{where(self._options)}: its tables cannot be read: {found}")
        entries = (each.table_entry for each in found)
        try:
            return [self._schema.decode(each) for each in entries if not each.is_default_action]
        except SchemaError as error:
            raise TargetError(
                f"{where(self._options)}: it has entries unknown to its program: {error}; restart"
                " it, or correct p4runtime.program.p4info_file"
            ) from None

    def _difference(self, reported: p4i.P4Info) -> str | None:
        ours = self._program.p4info
        if (lacking := misfit(ours, reported)) is not None:
            return lacking
        for table in ours.tables:
            if all(table.preamble.id != each.preamble.id for each in reported.tables):
                return f"table {table.preamble.name} has another id"
        return None
