# SPDX-License-Identifier: Apache-2.0
"""What the agent's side of a switch decides: commands and the switch's words in, operations and
events out.  No I/O, no clock.

            Connected, not empty           what it has was compared
    LOST  ---------------------> READING ---------------------------> READY
     |  ^                                                              |
     |  +-------------------------- Lost ------------------------------+
     +--- Connected, empty: everything is written --------------------->

What the switch is to hold is always known here, in whatever phase; only in READY is a change
written at once.  So a loss of the connection at any point, or of the switch's memory, needs no
special treatment: after it everything is compared, or written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import islice
from typing import Any, Final, cast

from data_flow_segment.targets.became_ours import BecameOurs
from data_flow_segment.targets.contract import Command, Event, TargetError, TargetTaken
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.commands import Commands
from data_flow_segment.targets.p4runtime.constants import Operation as Wish
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.flows import SwitchFlow
from data_flow_segment.targets.p4runtime.operations import (
    LOST,
    Connected,
    Demoted,
    FenceDone,
    IdleTimeout,
    Lost,
    Operation,
    PacketRefused,
    PacketUp,
    ReadDone,
    Result,
    Write,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.program import Program, split
from data_flow_segment.targets.p4runtime.reconcile import (
    STEP,
    Found,
    outbound_query_of,
    owner_row,
    reserved_of,
)
from data_flow_segment.targets.p4runtime.refusals import Refusals
from data_flow_segment.targets.p4runtime.reports import Reports
from data_flow_segment.targets.p4runtime.schema import Kind, Row, Schema, SchemaError
from data_flow_segment.targets.p4runtime.sweep import Sweep
from data_flow_segment.targets.p4runtime.up_calls import UpCalls
from data_flow_segment.targets.translation import Key

LISTEN_MS: Final = 5000
LISTEN_INTERVAL_S: Final = 1.0
UP_CALLS_PER_S: Final = 10_000
UP_CALLS_BURST: Final = 64
"""What comes up for new flows: ten times what agent and CS decide with BMv2 beside them, and no
more at once than its queue to the agent holds.  More is dropped where it is counted."""

WRITES_UNDER_WAY: Final = 2
TICK_S: Final = 0.05

_TABLES_READ: Final = "tables"
_COUNTERS_READ: Final = "counters"


class Phase(Enum):
    """How far the switch has the desired state."""

    LOST = "lost"
    READING = "reading"
    READY = "ready"


class Core:
    """One switch, for one agent."""

    def __init__(
        self, options: P4RuntimeOptions, program: Program, first_cookie: int, now: float
    ) -> None:
        """`first_cookie`: 32 random bits."""
        self.options = options
        self.boot_id = 0  # none yet
        self.adopted = False
        self.phase = Phase.LOST
        self.events: deque[Event] = deque()
        self.log: list[str] = []
        self.counters_read = 0  # times
        self.fences = 0  # that are not answered yet
        self.schema = Schema(program.p4info)
        desired = self._desired = Desired(options, self.schema, first_cookie, now)
        self.flows, self.servers, self.counters = desired.flows, desired.servers, desired.counters
        self.reports = Reports()
        self.sweep = Sweep(
            self.flows,
            self.reports,
            self.events.append,
            options.half_open_timeout_s,
            BecameOurs(self.servers.addresses, lambda: desired.own_addresses),
        )
        self._commands = Commands(desired, self.reports, self.sweep, self.events.append)
        self._refusals = Refusals(desired, self._commands, self.schema)
        self._up_calls = UpCalls(desired, emit=self.events.append, reported=self._reported)
        self._number = first_cookie  # identifies this agent
        self._has_led = False
        self._work: Iterator[None] | None = None
        self._writes = 0  # that are not answered yet
        self._listen_at = now
        self._tick_at = now
        self._results: dict[type[Any], Callable[[Any], None]] = {
            WriteDone: self._write_done,
            ReadDone: self._read_done,
            PacketUp: self._packet_up,
            PacketRefused: lambda _: self.counters.add("drop_packet_refused"),
            IdleTimeout: self._idle_timeout,
            FenceDone: self._fence_done,
            Connected: self._connected,
            Lost: self._lost,
            Demoted: self._demoted,
        }

    # --- in and out --------------------------------------------------------------------------

    def apply(self, commands: Iterable[Command], now: float) -> None:
        """What the agent wants, in order."""
        self._desired.now = now
        self._commands.apply(commands)

    def handle(self, results: Iterable[Result], now: float) -> None:
        """What the switch said; TargetError if this agent can no longer work with it."""
        self._desired.now = now
        handlers = self._results
        for result in results:
            handlers[result.__class__](result)

    def tick(self, now: float) -> None:
        """As often as you like: what is to be repeated is repeated in time."""
        self._desired.now = now
        if self.phase is not Phase.READY or now < self._tick_at:
            return
        self._tick_at = now + TICK_S
        if now >= self._listen_at:
            self._listen(LISTEN_MS)
        self._desired.batch.forget_landed(now)
        self._desired.act(self._desired.neighbours.tick(now))

    @property
    def is_working(self) -> bool:
        """Whether a long piece of work is not done yet."""
        return self._work is not None

    @property
    def can_work(self) -> bool:
        """Whether `work` has something to do now.  New flows do not stand in line behind a whole
        table: filling goes on when the switch has taken what it was given."""
        return self._work is not None and self._writes <= WRITES_UNDER_WAY

    def work(self) -> None:
        """A step of a long piece of work, of some milliseconds."""
        if self._work is not None and self._writes <= WRITES_UNDER_WAY:
            try:
                next(self._work)
            except StopIteration:
                self._work = None

    def take(self, now: float) -> list[Operation]:
        """What is to be done with the switch now."""
        if self.phase is Phase.READY and self.reports:
            unanswered = self.reports.unanswered
            for index in self.reports.due(now):
                self._desired.batch.send(packet_out(Wish.REPORT, value=index))
            if self.reports.unanswered > unanswered:
                self.counters.add("report_unanswered", self.reports.unanswered - unanswered)
                self.sweep.give_up(now)
        operations = self._desired.batch.take()
        self._writes += sum(type(operation) is Write for operation in operations)
        return operations

    def read_counters(self) -> None:
        """Ask for them; `counters_read` rises when they are there."""
        interfaces = self.schema.whole_table("interfaces")
        interfaces.table_entry.counter_data.SetInParent()
        self._desired.batch.read(
            (self.schema.whole_counter("outcomes"), interfaces), _COUNTERS_READ
        )

    def fence(self) -> None:
        """`fences` is 0 again when the switch has done everything until here."""
        if self.phase is Phase.READY:
            self.fences += 1
            self._desired.batch.fence()

    def stop_listening(self) -> None:
        """The agent goes; what comes up from now on is dropped and counted by the switch."""
        if self.phase is Phase.READY:
            self._listen(0)

    # --- the switch comes and goes -----------------------------------------------------------

    def _connected(self, result: Connected) -> None:
        boot_id = split(result.cookie).boot_id
        is_new = result.pushed or result.renewed  # its tables
        if self.boot_id == 0:
            self.boot_id = boot_id
            self.adopted = not is_new
        elif boot_id != self.boot_id:
            raise TargetTaken(self._given_away())
        elif is_new:
            self.counters.add("switch_refilled")
        self._commands.holds = True
        if is_new:
            self.counters.forgotten()
            for flow in self.flows.all():
                flow.is_forgotten()
        if result.pushed:
            had_led = self._has_led
            self._lead("INSERT")
            if not had_led:
                self._desired.act(self._desired.neighbours.begin((), self._desired.now))
            self._desired.put_again()
            self._work = self._fill(())
        else:
            self.phase = Phase.READING
            tables = tuple(self.schema.whole_table(name) for name in self.schema.tables)
            self._desired.batch.read(tables, _TABLES_READ)

    def _lead(self, kind: Kind) -> None:
        """From here on this agent writes."""
        self.phase = Phase.READY
        self._has_led = True
        self._desired.is_writing = True
        self._desired.writer.change(kind, owner_row(self._number), self._desired.now)
        self._desired.batch.barrier()
        self._desired.writer.limit_up_calls(UP_CALLS_PER_S, UP_CALLS_BURST)
        self._listen(LISTEN_MS)

    def _listen(self, milliseconds: int) -> None:
        self._desired.batch.send(packet_out(Wish.LISTEN, value=milliseconds))
        self._listen_at = self._desired.now + LISTEN_INTERVAL_S

    def _given_away(self) -> str:
        return (
            f"another agent wrote to the switch at {self.options.address} in the meantime: this"
            " agent discards its own copy and reads the switch's tables"
        )

    def _lost(self, result: Lost) -> None:
        self.phase = Phase.LOST
        self._desired.is_writing = self._desired.writes_tables = False
        self.counters.add("switch_lost")
        self.log.append(
            f"lost the switch at {self.options.address}: {result.reason};"
            f" trying again; the agent keeps {len(self.flows)} flows to restore them"
        )
        self._work = None
        self.fences = 0
        self._desired.batch.clear()
        self.reports.clear()
        self.sweep.restart()
        self._commands.drop_held()

    def _demoted(self, result: Demoted) -> None:
        raise TargetTaken(result.reason)

    def _fill(self, rows: Iterable[Row]) -> Iterator[None]:
        """Write every flow that the switch does not have, then what differs from the rows that it
        has.  A switch that routes before it knows its flows would send the nodes' packets to the
        clients untranslated, and these would end the connections."""
        for number, flow in enumerate(list(self.flows.all()), 1):
            if not flow.written and self.flows.at(flow.index) is flow:
                self._desired.writer.enter(flow, self._desired.now)
            if number % STEP == 0:
                yield
        writer = self._desired.writer
        while writer.strangers:
            for key in list(islice(writer.strangers, STEP)):
                writer.take_stranger(key)
            yield
        self._desired.batch.barrier()
        self._desired.writes_tables = True
        for kind, row in self._desired.tables.missing(rows):
            if row.table == "interfaces":
                self._desired.batch.barrier()
            self._desired.write((kind, row))
        self._commands.release_held()

    def _read_done(self, result: ReadDone) -> None:
        if result.token == _COUNTERS_READ:
            if result.error is None:
                self.counters.read(result.entities)
            self.counters_read += 1
        elif result.error is not None:
            if result.error.split()[0] != LOST:  # else Lost comes next
                raise TargetError(f"the switch's tables cannot be read: {result.error}")
        else:
            self._work = self._compare(Found(self.schema), result)

    def _compare(self, found: Found, result: ReadDone) -> Iterator[None]:
        """Compare what the switch has with what it is to have."""
        try:
            yield from found.take(result.entities)
        except SchemaError as error:
            raise TargetError(
                f"the switch at {self.options.address} has entries unknown to its program: {error};"
                " restart it, or set p4runtime.replace_program: true"
            ) from None
        if self._has_led and found.owner not in (None, owner_row(self._number)):
            raise TargetTaken(self._given_away())
        if not self._has_led:
            yield from self._adopt(found)
        # In one step until it is written: a command in between would be half compared.
        for flow in self.flows.all():
            flow.written = found.has(flow)
        self._desired.writer.strangers = found.strangers()
        had_led = self._has_led
        self._lead("INSERT" if found.owner is None else "MODIFY")
        if not had_led:
            self._desired.act(self._desired.neighbours.begin(found.rows, self._desired.now))
        self._desired.put_again()
        yield from self._fill(found.rows)

    def _adopt(self, found: Found) -> Iterator[None]:
        """A new agent takes over what the last one left."""
        yield from found.adopt(self.flows, self._desired.now)
        for row in found.rows:
            if row.table == "virtual_servers":
                self.servers.adopt(*entries.server_of(row))
            elif row.table == "asleep":
                self._desired.asleep.adopt(row)
        self._desired.reserved = reserved_of(found.rows)
        self._desired.outbound_query = outbound_query_of(found.rows)
        if found.refused:
            self.log.append(
                f"the switch at {self.options.address}: {len(found.refused)} flows cannot be"
                f" adopted and are removed: {found.refused[0]}"
            )
            self.counters.add("install_failed", len(found.refused))

    # --- what the switch said ----------------------------------------------------------------

    def _write_done(self, result: WriteDone) -> None:
        self._writes -= 1
        if result.errors:
            self.log += self._refusals.of(result)

    def _packet_up(self, result: PacketUp) -> None:
        if self.phase is Phase.READY:
            self._up_calls.take(result.packet)
        else:  # what waited for an earlier agent is not for this one
            self.counters.add("drop_detached")

    def _reported(self, flow: SwitchFlow, now: float) -> None:
        self.reports.answered(flow.index)
        self.sweep.reported(flow, now)

    def _idle_timeout(self, result: IdleTimeout) -> None:
        for entry in result.entries:
            try:
                key = cast(Key, self.schema.decode(entry).match)
            except SchemaError:
                continue  # of a table that is not used here
            found = self.flows.table.find(key)
            if found is not None:
                self.sweep.hasten(found[0])

    def _fence_done(self, result: FenceDone) -> None:
        self.fences = max(0, self.fences - 1)
        if not result.answered:
            self.counters.add("report_unanswered")
