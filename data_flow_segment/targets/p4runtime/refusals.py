# SPDX-License-Identifier: Apache-2.0
"""What the switch refused to write: flows fail whole, other rows are told in one line a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from data_flow_segment.targets.p4runtime.commands import Commands
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.operations import UpdateError, WriteDone
from data_flow_segment.targets.p4runtime.schema import Schema
from data_flow_segment.targets.p4runtime.writer import FlowToken, RowToken

LOST_CODES: Final = frozenset(("UNAVAILABLE", "CANCELLED"))
"""The connection is gone: when it is back everything is compared anyway."""

_FULL: Final = "RESOURCE_EXHAUSTED"


class Refusals:
    """Looks through the answers to Writes."""

    def __init__(self, desired: Desired, commands: Commands, schema: Schema) -> None:
        self._desired = desired
        self._commands = commands
        self._schema = schema

    def of(self, result: WriteDone) -> Iterable[str]:
        """Undo what was not taken; a sentence for each kind of refusal, flows' excepted."""
        tokens = result.token
        assert isinstance(tokens, tuple)
        kinds: Counter[tuple[str, str, str]] = Counter()
        for position, error in result.errors.items():
            token = tokens[position]
            if error.code in LOST_CODES:
                continue
            if isinstance(token, FlowToken):
                self._flow(token, error)
            elif not (token.kind == "DELETE" and error.code == "NOT_FOUND"):
                what = f"{error.code} {error.message}".rstrip() + self._if_full(token, error)
                kinds[token.kind, token.row.table, what] += 1
                self._desired.refused(token.kind, token.row)
        self._desired.counters.add("write_refused", kinds.total())
        return [
            f"the switch at {self._desired.options.address} refused {count} x {kind} in"
            f" {table}: {what}"
            for (kind, table, what), count in kinds.items()
        ]

    def _flow(self, token: FlowToken, error: UpdateError) -> None:
        reason = f"the switch refused it: {error.code} {error.message}".rstrip()
        is_full = error.code == _FULL
        self._commands.fail(token.flow, token.entry, reason, table_full=is_full)

    def _if_full(self, token: RowToken, error: UpdateError) -> str:
        """BMv2 does not say that a table is full, but we know what it holds."""
        if token.kind != "INSERT" or token.row.table not in self._schema.tables:
            return ""
        size = self._schema.size(token.row.table)
        if error.code != _FULL and self._desired.tables.count(token.row.table) <= size:
            return ""
        return f" (the table has {size} places: fewer entries, or a program with larger tables)"
