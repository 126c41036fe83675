# SPDX-License-Identifier: Apache-2.0
"""The P4Runtime target without a switch: the real core and target, a driver that is no thread, a
model of the switch with the program's behaviour, and a clock that a test moves.

What it cannot tell is whether the P4 program does what `switch_path` says: the rig `p4` does, with
the same tests.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from finsy.proto import p4r

from data_flow_segment.targets.contract import Command, Event, Target
from data_flow_segment.targets.p4runtime.constants import INJECT_ARRIVAL, Outcome
from data_flow_segment.targets.p4runtime.constants import Operation as Ask
from data_flow_segment.targets.p4runtime.core import Core
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import (
    Fence,
    FenceDone,
    IdleTimeout,
    Operation,
    PacketUp,
    Result,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.schema import key
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from support.targets.rig import Frame, MemoryRig, Rig, Side
from support.targets.switch_model import SwitchModel
from support.targets.switch_path import SwitchPath

STEP_S = 0.5
"""How far time goes between two looks of the agent: it says LISTEN once a second."""


@dataclass
class Clock:
    """Everybody's."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class WholeSwitch(SwitchModel):
    """Tables that packets go through."""

    def __init__(self, clock: Clock, *, flow_entries: int = 1 << 20) -> None:
        super().__init__(flow_entries=flow_entries)
        self._clock = clock
        self.path = SwitchPath(clock)
        self.out: list[tuple[int, bytes]] = []  # port, frame
        self.unanswered = 0  # so many of the next questions get no answer; -1: none does
        self.questions = 0
        self._entries: Counter[str] = Counter()  # of each table

    def forget(self) -> None:
        super().forget()
        self._entries.clear()
        self.path = SwitchPath(self._clock)

    def receive(self, port: int, frame: bytes) -> Iterator[Result]:
        """A frame arrives from a cable."""
        self.path.arrive(port, frame)
        yield from self.went_up()

    def idle(self) -> Iterator[Result]:
        """What it found idle."""
        rows = self.path.flows.idle()
        if rows and self.is_connected:
            yield IdleTimeout(tuple(map(self.schema.encode, rows)))

    def went_up(self) -> Iterator[Result]:
        """And what left."""
        self.out += self.path.take_transmitted()
        up, self.path.up = self.path.up, []
        if self.is_connected:
            yield from map(PacketUp, up)

    def _carry_out(self, operation: Operation) -> Iterator[Result]:
        if isinstance(operation, Fence) and self._keeps_silent():
            yield FenceDone(operation.index, False)
        else:
            yield from super()._carry_out(operation)

    def _keeps_silent(self) -> bool:
        self.questions += 1
        if self.unanswered > 0:
            self.unanswered -= 1
            return True
        return self.unanswered < 0

    def _update(self, update: p4r.Update) -> str:
        if not update.entity.HasField("table_entry"):
            return super()._update(update)
        row = self.schema.decode(update.entity.table_entry)
        place = key(row)
        is_new = update.type == p4r.Update.INSERT and place not in self.rows
        if is_new and self._entries[row.table] >= self.schema.size(row.table):
            return "RESOURCE_EXHAUSTED"
        code = super()._update(update)
        if not code:
            self._entries[row.table] += is_new - (update.type == p4r.Update.DELETE)
            self.path.changed(place, self.rows.get(place))
        return code

    def _read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        entities = tuple(entities)
        counters = [each for each in entities if each.HasField("counter_entry")]
        if not counters:
            yield from super()._read(entities)
            return
        values = self.path.counters.as_mapping()
        for outcome in Outcome:
            entity = p4r.Entity(counter_entry=counters[0].counter_entry)
            entity.counter_entry.index.index = outcome
            if outcome.counter in values:
                entity.counter_entry.data.packet_count = values[outcome.counter].value
            yield entity
        wanted = [each for each in entities if each.HasField("table_entry")]
        for entity in super()._read(wanted):
            port = self.schema.decode(entity.table_entry).match[0]
            count = self.path.packets.get(cast(int, port), 0)
            entity.table_entry.counter_data.packet_count = count
            yield entity

    def _packet(self, packet: p4r.PacketOut) -> Iterator[Result]:
        fields = {m.metadata_id: int.from_bytes(m.value, "big") for m in packet.metadata}
        wish, port, value = fields[1], fields[3], fields[4]
        if wish == Ask.REPORT:
            if not self._keeps_silent():
                self.path.report(value)
        elif wish == Ask.LISTEN:
            self.path.listens_until = self._clock() + value / 1000 if value else -1.0
        elif wish == Ask.SEND:
            self.out.append((port, packet.payload))
        elif wish == Ask.ROUTE:
            self.path.route(packet.payload)
        else:
            waited = value == INJECT_ARRIVAL
            self.path.arrive_again(port, packet.payload, injected=not waited)
        yield from self.went_up()


class ModelDriver:
    """A driver in the agent's own thread: the switch works while somebody waits for it."""

    dropped = 0

    def __init__(self, switch: WholeSwitch, clock: Clock) -> None:
        self.switch = switch
        self.inbox: deque[Result] = deque()
        self._clock = clock
        self._is_woken = False

    def put(self, results: Iterable[Result]) -> None:
        self.inbox.extend(results)

    def submit(self, operations: Sequence[Operation]) -> None:
        self.put(self.switch.submit(operations))

    def take(self, limit: int | None = None) -> list[Result]:
        self._is_woken = False
        count = len(self.inbox) if limit is None else min(limit, len(self.inbox))
        return [self.inbox.popleft() for _ in range(count)]

    def wait(self, timeout_s: float) -> bool:
        """Time passes only where the switch has nothing to say."""
        self.put(self.switch.step())
        if not self.inbox and not self._is_woken:
            self._clock.now += timeout_s
        return bool(self.inbox) or self._is_woken

    def wake(self) -> None:
        self._is_woken = True

    def fileno(self) -> int:
        return -1

    def close(self, *, forget: bool = False) -> None:
        self.put(self.switch.step())
        if self.switch.is_connected:
            list(self.switch.lose())
        if forget:
            self.switch.forget()


class P4ModelRig:
    """What the contract suite wants of it."""

    name = "p4-model"
    moves_time = True

    def __init__(self, flow_capacity: int = 4096) -> None:
        memory = MemoryRig(flow_capacity).options
        self.options = P4RuntimeOptions(
            "model",
            memory.interfaces,
            memory.routes,
            memory.neighbours,
            flow_capacity=flow_capacity,
            half_open_timeout_s=1,
        )
        self.clock = Clock()
        self.switch = WholeSwitch(self.clock)
        self.keeps_chatter = False
        self._numbers = {Side.EXTERNAL: 1, Side.INTERNAL: 2}
        self._events: list[Event] = []
        self._boots = 0
        self.open()

    def open(self) -> None:
        """Another agent takes the switch over."""
        self._boots += 1
        first_cookie = self._boots << 20  # of each agent others, as good as at random
        core = Core(self.options, self.switch.program, first_cookie, self.clock())
        self.driver = ModelDriver(self.switch, self.clock)
        self.p4 = P4RuntimeTarget(core, cast(Driver, self.driver), self.clock)
        self.target: Target = self.p4
        self.driver.put(self.switch.connect(self._boots))
        self.p4._wait_until_ready()

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def interface(self, side: Side) -> int:
        return self._numbers[side]

    def exchange(self, frames: Iterable[Frame]) -> list[Frame]:
        for side, octets in frames:
            self.driver.put(self.switch.receive(self._numbers[side], octets))
            self.settle()
        return self._went_out()

    def apply(self, *commands: Command) -> list[Frame]:
        self.target.apply(commands)
        self.settle()
        return self._went_out()

    def events(self) -> list[Event]:
        self.settle()
        found, self._events = self._events, []
        return found

    def settle(self) -> None:
        """The agent takes what came up until nothing more follows from it."""
        if not self.switch.is_connected:
            return
        for _ in range(2):  # what came up, and what it led to
            self.p4.settle()
            while self.driver.inbox or self.p4._core.events:
                self._events += self.p4.events()
                self.driver.put(self.switch.step())

    def target_time(self) -> float:
        return self.clock.now

    def advance(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + STEP_S)
            if self.switch.is_connected:
                self.driver.put(self.switch.idle())
                self._events += self.p4.events()
                self.settle()

    def kept_from_the_agent(self, frames: Iterable[Frame]) -> list[PacketUp]:
        """What comes up because of these frames, and does not reach the agent."""
        came: list[Result] = []
        for side, octets in frames:
            came += self.switch.receive(self._numbers[side], octets)
        return [each for each in came if isinstance(each, PacketUp)]

    def lose(self) -> None:
        """The connection ends."""
        self.driver.put(self.switch.lose())
        self._events += self.p4.events()

    def find_again(self, *, forgotten: bool = False) -> None:
        """It is there again; the switch may have died meanwhile."""
        if forgotten:
            self.switch.forget()
        self.driver.put(self.switch.connect(self._boots))
        while self.p4.phase != "ready" or self.p4._core.is_working:
            self._events += self.p4.events()
            self.driver.put(self.switch.step())
        self.settle()

    def sized(self, flow_capacity: int) -> contextlib.AbstractContextManager[Rig]:
        return contextlib.nullcontext(P4ModelRig(flow_capacity))

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        self.target.close(detach=False)
        self._events = []
        yield
        self.open()

    def restart_switch(self) -> None:
        """The switch dies, and one without memory takes its place, which the agent fills."""
        self.lose()
        self.find_again(forgotten=True)

    def reopened(self, options: P4RuntimeOptions) -> P4RuntimeTarget:
        """Another agent with other options."""
        self.options = options
        with self.agent_away():
            pass
        return self.p4

    def close(self) -> None:
        self.target.close(detach=True)

    def _went_out(self) -> list[Frame]:
        sides = {number: side for side, number in self._numbers.items()}
        out, self.switch.out = self.switch.out, []
        return [(sides[number], octets) for number, octets in out if not self._is_chatter(octets)]

    def _is_chatter(self, octets: bytes) -> bool:
        """The agent's questions for MAC addresses, which it repeats."""
        if self.keeps_chatter:
            return False
        if octets[12:14] == b"\x08\x06":
            return octets[20:22] == b"\x00\x01" and octets[28:32] != octets[38:42]
        return octets[12:14] == b"\x86\xdd" and octets[20] == 58 and octets[54:55] == b"\x87"
