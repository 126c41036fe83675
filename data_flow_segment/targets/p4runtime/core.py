# SPDX-License-Identifier: Apache-2.0
"""What the agent's side of a switch decides: commands and the switch's words in, operations and
events out.  No I/O, no clock.

            Connected, not empty           what it has was compared
    LOST  ---------------------> READING ---------------------------> READY
     |  ^                                                              |
     |  +-------------------------- Lost ------------------------------+
     +--- Connected, empty: everything is written --------------------->

What the switch is to hold is always known here, in whatever phase; only in READY is a change
written at once.  So a loss of the connection at any point, or of the switch's memory, needs nothing
of its own: after it the whole is compared, or written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final

from finsy.proto import p4r

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Command,
    Event,
    FlowEntry,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    RemoveFlow,
    RemoveVirtualServer,
    SetLocalAddresses,
    SetOutboundQuery,
    TargetError,
    TransmitPacket,
)
from data_flow_segment.targets.memory.parse import MalformedPacket, parse
from data_flow_segment.targets.memory.table import CannotInstall
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.batch import Batch
from data_flow_segment.targets.p4runtime.constants import FLOWS
from data_flow_segment.targets.p4runtime.constants import Operation as Wish
from data_flow_segment.targets.p4runtime.counters import Counters
from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.neighbours import Neighbours
from data_flow_segment.targets.p4runtime.next_hops import (
    Action,
    Ask,
    DropRow,
    GiveUp,
    InjectFrame,
    PutRow,
)
from data_flow_segment.targets.p4runtime.operations import (
    Connected,
    Demoted,
    FenceDone,
    IdleTimeout,
    Lost,
    Operation,
    PacketUp,
    ReadDone,
    Result,
    UpdateError,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.program import Program, split
from data_flow_segment.targets.p4runtime.reconcile import (
    STEP,
    Found,
    outbound_query_of,
    reserved_of,
)
from data_flow_segment.targets.p4runtime.reports import Reports
from data_flow_segment.targets.p4runtime.schema import Row, Schema
from data_flow_segment.targets.p4runtime.servers import Servers, place_rows
from data_flow_segment.targets.p4runtime.sweep import Sweep
from data_flow_segment.targets.p4runtime.tables import Change, Tables
from data_flow_segment.targets.p4runtime.up_calls import UpCalls
from data_flow_segment.targets.p4runtime.writer import FlowToken, Writer

FENCE_INDEX: Final = 2 * (FLOWS - 1)
"""The last place belongs to no flow: its report only says that all before was handled."""

LISTEN_MS: Final = 5000
LISTEN_INTERVAL_S: Final = 1.0
TICK_S: Final = 0.05
HELD_MAX: Final = 256
"""Packets put back while the switch is compared."""

_SERVER_TABLES: Final = frozenset(("virtual_servers", "virtual_addresses"))
_PLACE_TABLES: Final = frozenset(("interfaces", "tunnel_sources", "local_addresses"))
_TABLES_READ: Final = "tables"
_COUNTERS_READ: Final = "counters"
_LOST_CODES: Final = frozenset(("UNAVAILABLE", "CANCELLED"))


class Phase(Enum):
    """How far the switch is what it is to be."""

    LOST = "lost"
    READING = "reading"
    READY = "ready"


class Core:
    """One switch, for one agent."""

    def __init__(
        self, options: P4RuntimeOptions, program: Program, first_cookie: int, now: float
    ) -> None:
        self.options = options
        self.boot_id = 0  # none yet
        self.adopted = False
        self.phase = Phase.LOST
        self.events: deque[Event] = deque()
        self.log: list[str] = []
        self.counters = Counters()
        self.counters_read = 0
        self.servers = Servers()
        self.schema = Schema(program.p4info)
        self.flows = Flows(options.flow_capacity, FLOWS - 1, first_cookie)
        self.reports = Reports()
        self.sweep = Sweep(self.flows, self.reports, self.events.append)
        self._program = program
        self._tables = Tables()
        self._batch = Batch(FENCE_INDEX)
        self._writer = Writer(self.schema, self._batch)
        self._neighbours = Neighbours(options)
        self._up_calls = UpCalls(
            options.interfaces,
            self.servers,
            self.flows,
            self.counters,
            self._neighbours,
            tell=self.events.append,
            reported=self._reported,
            send=self._send,
        )
        self._reserved: frozenset[bytes] = frozenset()
        self._outbound_query = False
        self._servers_changed = False
        self._work: Iterator[None] | None = None
        self._held: list[PacketIn] = []
        self._listen_at = now
        self._tick_at = now
        self.fences = 0
        self._now = now
        self._put_places()
        self._commands: dict[type[Any], Callable[[Any], None]] = {
            InstallFlow: self._install,
            RemoveFlow: self._remove,
            InjectPacket: self._inject,
            TransmitPacket: self._transmit,
            AddVirtualServer: self._add_server,
            RemoveVirtualServer: self._remove_server,
            SetLocalAddresses: self._set_local_addresses,
            SetOutboundQuery: self._set_outbound_query,
        }
        self._results: dict[type[Any], Callable[[Any], None]] = {
            WriteDone: self._write_done,
            ReadDone: self._read_done,
            PacketUp: self._packet_up,
            IdleTimeout: self._idle_timeout,
            FenceDone: self._fence_done,
            Connected: self._connected,
            Lost: self._lost,
            Demoted: self._demoted,
        }

    # --- in and out --------------------------------------------------------------------------

    def apply(self, commands: Iterable[Command], now: float) -> None:
        """What the agent wants, in order."""
        self._now = now
        handlers = self._commands
        for command in commands:
            handlers[command.__class__](command)
        if self._servers_changed:
            self._put_servers()

    def handle(self, results: Iterable[Result], now: float) -> None:
        """What the switch said; TargetError if this agent can no longer work with it."""
        self._now = now
        handlers = self._results
        for result in results:
            handlers[result.__class__](result)

    def tick(self, now: float) -> None:
        """As often as you like: what is to be repeated is repeated in time."""
        self._now = now
        if self.phase is not Phase.READY or now < self._tick_at:
            return
        self._tick_at = now + TICK_S
        if now >= self._listen_at:
            self._listen(LISTEN_MS)
        self._batch.forget_landed(now)
        self._act(self._neighbours.tick(now))

    @property
    def is_working(self) -> bool:
        """Whether `work` has something to do."""
        return self._work is not None

    def work(self) -> None:
        """A step of a long piece of work, of some milliseconds."""
        if self._work is not None:
            try:
                next(self._work)
            except StopIteration:
                self._work = None

    def take(self, now: float) -> list[Operation]:
        """What is to be done with the switch now."""
        if self.phase is Phase.READY and self.reports:
            unanswered = self.reports.unanswered
            for index in self.reports.due(now):
                self._batch.send(packet_out(Wish.REPORT, value=index))
            if self.reports.unanswered > unanswered:
                self.counters.add("report_unanswered", self.reports.unanswered - unanswered)
                self.sweep.give_up(now)
        return self._batch.take()

    def read_counters(self) -> None:
        """Ask for them; `counters_read` rises when they are there."""
        interfaces = self.schema.whole_table("interfaces")
        interfaces.table_entry.counter_data.SetInParent()
        self._batch.read((self.schema.whole_counter("outcomes"), interfaces), _COUNTERS_READ)

    def fence(self) -> None:
        """`fences` is 0 again when the switch has done everything until here."""
        if self.phase is Phase.READY:
            self.fences += 1
            self._batch.fence()

    def stop_listening(self) -> None:
        """The agent goes; what comes up from now on is dropped and counted by the switch."""
        if self.phase is Phase.READY:
            self._listen(0)

    # --- the switch comes and goes -----------------------------------------------------------

    def _connected(self, result: Connected) -> None:
        boot_id = split(result.cookie).boot_id
        if self.boot_id == 0:
            self.boot_id = boot_id
            self.adopted = not result.pushed
            if result.pushed:
                self._act(self._neighbours.begin((), self._now))
        elif boot_id != self.boot_id:
            raise TargetError(
                f"the switch at {self.options.address} was given to another agent meanwhile:"
                " start this one again, it adopts what is there"
            )
        elif result.pushed:
            self.counters.add("switch_refilled")
        if result.pushed:
            self.counters.forgotten()
            for flow in self.flows.all():
                flow.is_forgotten()
            self._ready()
            for change in self._tables.all():
                self._write(change)
            self._work = self._refill()
        else:
            self.phase = Phase.READING
            tables = tuple(self.schema.whole_table(name) for name in self.schema.tables)
            self._batch.read(tables, _TABLES_READ)

    def _ready(self) -> None:
        self.phase = Phase.READY
        self._listen(LISTEN_MS)

    def _listen(self, milliseconds: int) -> None:
        self._batch.send(packet_out(Wish.LISTEN, value=milliseconds))
        self._listen_at = self._now + LISTEN_INTERVAL_S

    def _lost(self, result: Lost) -> None:
        self.phase = Phase.LOST
        self.counters.add("switch_lost")
        self.log.append(
            f"the switch at {self.options.address} is lost: {result.reason};"
            f" trying again, {len(self.flows)} flows are kept for it"
        )
        self._work = None
        self.fences = 0
        self._batch.clear()
        self.reports.clear()
        self.sweep.restart()
        self._drop_held()

    def _demoted(self, result: Demoted) -> None:
        raise TargetError(result.reason)

    def _refill(self) -> Iterator[None]:
        """Write every flow that the switch does not have."""
        for number, flow in enumerate(list(self.flows.all()), 1):
            if not flow.written and self.flows.at(flow.index) is flow:
                self._writer.enter(flow, self._now)
            if number % STEP == 0:
                yield

    def _read_done(self, result: ReadDone) -> None:
        if result.token == _COUNTERS_READ:
            if result.error is None:
                self.counters.read(result.entities)
            self.counters_read += 1
        elif result.error is not None:
            if result.error.split()[0] not in _LOST_CODES:  # Lost comes next
                raise TargetError(f"the switch's tables cannot be read: {result.error}")
        else:
            self._work = self._compare(Found(self.schema), result)

    def _compare(self, found: Found, result: ReadDone) -> Iterator[None]:
        """Bring together what the switch has and what it is to have."""
        yield from found.take(result.entities)
        if self.adopted and not self.flows and not self.servers.entries:
            yield from self._adopt(found)
        remains: list[Row] = []
        for number, flow in enumerate(list(self.flows.all()), 1):
            flow.written, taken_out = found.compare(flow)
            remains += taken_out
            if number % STEP == 0:
                yield
        self._ready()
        for row in (*remains, *found.strangers()):
            self._writer.delete(row)
        for change in self._tables.missing(found.rows):
            self._write(change)
        held, self._held = self._held, []
        for packet in held:
            self._put_back(packet)
        yield from self._refill()

    def _adopt(self, found: Found) -> Iterator[None]:
        """A new agent takes over what the last one left."""
        yield from found.adopt(self.flows, self._now)
        for row in found.rows:
            if row.table == "virtual_servers":
                self.servers.adopt(*entries.server_of(row))
        self._reserved = reserved_of(found.rows)
        self._outbound_query = outbound_query_of(found.rows)
        self._act(self._neighbours.begin(found.rows, self._now))
        self._put_places()
        self._put_servers()

    # --- commands ----------------------------------------------------------------------------

    def _install(self, command: InstallFlow) -> None:
        entry = command.entry
        known = self.flows.table.lookup(entry.signature)
        old_back = None if known is None else known.reverse_key
        try:
            flow = self.flows.install(entry, self._now)
        except CannotInstall as error:
            self._not_installed(entry, str(error), table_full=error.table_full)
            return
        self._act(self._neighbours.want(entries.towards(entry), self._now))
        if self.phase is not Phase.READY:
            return
        if flow.written and old_back is not None:
            self._writer.update(flow, old_back, self._now)
        else:
            self._writer.enter(flow, self._now)

    def _not_installed(self, entry: FlowEntry, reason: str, *, table_full: bool) -> None:
        self.counters.add("install_failed")
        self.events.append(InstallFailed(entry, table_full, reason))

    def _remove(self, command: RemoveFlow) -> None:
        flow = self.flows.remove(command.signature)
        if flow is not None:
            self._forget(flow)
            if flow.written and self.phase is Phase.READY:
                self._writer.take_out(flow, self._now)

    def _forget(self, flow: SwitchFlow) -> None:
        self.reports.forget(flow)
        self.sweep.forget(flow)

    def _inject(self, command: InjectPacket) -> None:
        if self.phase is Phase.READY:
            self._put_back(command.packet)
        elif self.phase is Phase.READING and len(self._held) < HELD_MAX:
            self._held.append(command.packet)
        else:
            self.counters.add("drop_switch_gone")

    def _put_back(self, packet: PacketIn) -> None:
        if self._work is not None:  # the switch is being filled: not before its flow is there
            flow = self.flows.table.lookup(packet.signature)
            if flow is not None and not flow.written:
                self._writer.enter(flow, self._now)
        message = packet_out(Wish.INJECT, port=packet.interface, frame=packet.frame)
        self._batch.put_back(message, packet.signature.session, self._now)

    def _drop_held(self) -> None:
        self.counters.add("drop_switch_gone", len(self._held))
        self._held.clear()

    def _transmit(self, command: TransmitPacket) -> None:
        octets = command.octets
        is_ipv4 = octets[:1] and octets[0] >> 4 == 4
        frame = bytes(12) + (b"\x08\x00" if is_ipv4 else b"\x86\xdd") + octets
        try:
            parse(frame)
        except MalformedPacket:
            self.counters.add("drop_malformed")
        else:
            self._send(packet_out(Wish.ROUTE, frame=frame))

    def _send(self, packet: p4r.PacketOut) -> None:
        """Put a packet of our own out."""
        if self.phase is Phase.READY:
            self._batch.send(packet)
        else:
            self.counters.add("drop_switch_gone")

    def _add_server(self, command: AddVirtualServer) -> None:
        self.servers.add(command.entry)
        self._servers_changed = True

    def _remove_server(self, command: RemoveVirtualServer) -> None:
        self.servers.remove(command.key)
        self._servers_changed = True

    def _set_local_addresses(self, command: SetLocalAddresses) -> None:
        self._reserved = command.addresses
        self._put_places()

    def _set_outbound_query(self, command: SetOutboundQuery) -> None:
        self._outbound_query = command.enabled
        self._put_places()

    # --- the small tables --------------------------------------------------------------------

    def _put_servers(self) -> None:
        self._servers_changed = False
        for change in self._tables.replace(_SERVER_TABLES, self.servers.rows()):
            self._write(change)

    def _put_places(self) -> None:
        rows = place_rows(
            self.options.interfaces, self._reserved, outbound_query=self._outbound_query
        )
        for change in self._tables.replace(_PLACE_TABLES, rows):
            self._write(change)

    def _act(self, actions: Iterable[Action]) -> None:
        """What the neighbours want done."""
        for action in actions:
            match action:
                case PutRow(row):
                    for change in self._tables.put(row):
                        self._write(change)
                case DropRow(row):
                    for change in self._tables.drop(row):
                        self._write(change)
                case Ask(port, frame):
                    self._send(packet_out(Wish.SEND, port=port, frame=frame))
                case InjectFrame(up):
                    self.counters.instead("drop_no_neighbour", "resolve_waited")
                    wish = Wish.INJECT if up.port else Wish.ROUTE
                    self._send(packet_out(wish, port=up.port, frame=up.frame))
                case GiveUp():
                    pass  # the switch counted it as drop_no_neighbour

    def _write(self, change: Change) -> None:
        if self.phase is Phase.READY:
            kind, row = change
            self._writer.change(kind, row, self._now)

    # --- what the switch said ----------------------------------------------------------------

    def _write_done(self, result: WriteDone) -> None:
        tokens = result.token
        assert isinstance(tokens, tuple)
        for position, error in result.errors.items():
            if error.code not in _LOST_CODES:  # then all is compared anyway
                self._refused(tokens[position], error)

    def _refused(self, token: Any, error: UpdateError) -> None:
        if isinstance(token, FlowToken):
            flow = token.flow
            if self.flows.at(flow.index) is flow and flow.entry is token.entry:
                self.flows.remove(flow.entry.signature)
                self._forget(flow)
                self._writer.take_out(flow, self._now)
                reason = f"the switch refused it: {error.code} {error.message}".rstrip()
                is_full = error.code == "RESOURCE_EXHAUSTED"
                self._not_installed(token.entry, reason, table_full=is_full)
        elif token.kind != "DELETE" or error.code != "NOT_FOUND":
            self.counters.add("write_refused")
            self.log.append(
                f"the switch at {self.options.address} refused {token.kind} in"
                f" {token.row.table}: {error.code} {error.message}"
            )

    def _packet_up(self, result: PacketUp) -> None:
        if self.phase is Phase.READY:  # what waited for an earlier agent is not for us
            self._act(self._up_calls.take(result.packet, self._now))

    def _reported(self, flow: SwitchFlow, now: float) -> None:
        self.reports.answered(flow.index)
        self.sweep.reported(flow, now)

    def _idle_timeout(self, result: IdleTimeout) -> None:
        for entry in result.entries:
            found = self.flows.table.find(self.schema.decode(entry).match)  # type: ignore[arg-type]
            if found is not None:
                self.sweep.hasten(found[0])

    def _fence_done(self, result: FenceDone) -> None:
        self.fences = max(0, self.fences - 1)
        if not result.answered:
            self.counters.add("report_unanswered")
