# SPDX-License-Identifier: Apache-2.0
"""What the switch refused to write: flows fail whole, other rows give one line per kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from data_flow_segment.targets.p4runtime.commands import Commands
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.operations import LOST, UpdateError, WriteDone
from data_flow_segment.targets.p4runtime.schema import Schema
from data_flow_segment.targets.p4runtime.writer import FlowToken, RowToken

_FULL: Final = "RESOURCE_EXHAUSTED"
_STRANGE: Final = frozenset(("NOT_FOUND", "ALREADY_EXISTS"))
"""Another agent wrote to the table of flows."""


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
        counts: dict[str, int] = {}  # how many rows a table is to hold, counted once
        for position, error in result.errors.items():
            token = tokens[position]
            if error.code == LOST:
                continue  # when the switch is back everything is compared anyway
            if isinstance(token, FlowToken):
                self._flow(token, error)
            elif not (token.kind == "DELETE" and error.code == "NOT_FOUND"):
                what = f"{error.code} {error.message}".rstrip() + self._if_full(
                    token, error, counts
                )
                kinds[token.kind, token.row.table, what] += 1
                self._desired.refused(token.kind, token.row)
        self._desired.counters.add("write_refused", kinds.total())
        return [
            f"the switch at {self._desired.options.address} refused {count} x {kind} in"
            f" {table}: {what}"
            for (kind, table, what), count in kinds.items()
        ]

    def _flow(self, token: FlowToken, error: UpdateError) -> None:
        if error.code in _STRANGE and self._commands.heal(token.flow, token.entry):
            return
        reason = f"the switch refused it: {error.code} {error.message}".rstrip()
        is_full = error.code == _FULL
        self._commands.fail(token.flow, token.entry, reason, table_full=is_full)

    def _if_full(self, token: RowToken, error: UpdateError, counts: dict[str, int]) -> str:
        """BMv2 does not say that a table is full, but it is known what the table is to hold."""
        table = token.row.table
        if token.kind != "INSERT" or table not in self._schema.tables:
            return ""
        size = self._schema.size(table)
        if table not in counts:
            counts[table] = self._desired.tables.count(table)
        if error.code != _FULL and counts[table] <= size:
            return ""
        return f" (the table has {size} places: configure fewer entries, or larger tables)"
