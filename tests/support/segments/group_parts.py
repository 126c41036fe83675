# SPDX-License-Identifier: Apache-2.0
"""The parts of a `GroupGrid`: CSs that know each other, DFSs that have state files, and connections
for CSMB whose ends learn separately that they are over."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from control_segment.config import ControlSegmentConfig
from control_segment.group.views import Role
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.fencing import NO_CLAIM, Claim
from support.segments.grid import Dfs, Member

if TYPE_CHECKING:
    from support.segments.group_grid import GroupGrid

CONNECT_S: Final = 5.0  # how long a CS waits for a connection, as its runtime does
INBOX_MAX: Final = 500  # datagrams that wait in the socket of a process that hangs
GROUP: Final = 1  # the group_id of all
Inbox: TypeAlias = "deque[Callable[[], None]]"


class Wire:
    """One TCP connection for CSMB."""

    def __init__(self, member: Fellow, dfs: KeepingDfs, number: int) -> None:
        self.member = member
        self.dfs = dfs
        self.number: int | None = number  # at the agent; None: it is over there
        self.agent = dfs.agent
        self.is_open = True  # at the CS
        self.to_dfs: deque[tuple[float, bytes]] = deque()
        self.to_cs: deque[tuple[float, bytes]] = deque()

    def carry(self) -> None:
        """Send what either end has to say."""
        member, dfs = self.member, self.dfs
        if self.is_open and member.runs:
            there = member.cs.connections.stream_to_send(dfs.number)
            if there:
                self.send(self.to_dfs, there)
        if self.number is not None and dfs.runs and dfs.agent is self.agent:
            back, closed = self.agent.connections.octets_to_send(self.number)
            if back:
                self.send(self.to_cs, back)
            if closed:
                self.number = None
                self.send(self.to_cs, b"")

    def send(self, queue: deque[tuple[float, bytes]], octets: bytes) -> None:
        grid = self.member.grid
        due = grid.now + grid.delay()
        if queue:
            due = max(due, queue[-1][0])
        queue.append((due, octets))
        grid.at(due - grid.now, self.arrive)

    def arrive(self) -> None:
        """Hand over what has come, to whoever can take it."""
        grid, member, dfs = self.member.grid, self.member, self.dfs
        while self._has_come(self.to_dfs) and grid.passes(member, dfs) and not dfs.hangs:
            _, octets = self.to_dfs.popleft()
            if self.number is None or self.agent is not dfs.agent or not dfs.up:
                if octets:
                    self.send(self.to_cs, b"")  # RST
                continue
            grid.touch(dfs)
            self.agent.connections.receive(self.number, octets, grid.now)
            if not octets:
                self.agent.connections.octets_to_send(self.number)
                self.number = None
        while self._has_come(self.to_cs) and grid.passes(dfs, member) and not member.hangs:
            _, octets = self.to_cs.popleft()
            if not self.is_open:
                if octets:
                    self.send(self.to_dfs, b"")
                continue
            grid.touch(member)
            retry_s = member.cs.connections.stream_received(dfs.number, octets, grid.now)
            if retry_s is not None:
                self.end(retry_s)

    def _has_come(self, queue: deque[tuple[float, bytes]]) -> bool:
        return bool(queue) and queue[0][0] <= self.member.grid.now

    def end(self, retry_s: float | None) -> None:
        """The CS's end is over; its kernel says so, if it can."""
        member = self.member
        self.is_open = False
        if member.wires.get(self.dfs) is self:
            del member.wires[self.dfs]
        if retry_s is not None:
            member.connect_at[self.dfs] = member.grid.now + retry_s
            member.grid.touch(member)
        self.send(self.to_dfs, b"")

    @property
    def is_over(self) -> bool:
        at_dfs = self.number is not None and self.dfs.up and self.dfs.agent is self.agent
        return not (self.is_open or at_dfs or self.to_dfs or self.to_cs)


class KeepingDfs(Dfs):
    """It has a state file, and may hang: its data path goes on."""

    grid: GroupGrid
    hangs = False

    def __init__(self, grid: GroupGrid, number: int, flow_capacity: int) -> None:
        self.name = f"DFS {number + 1}"
        self.kept: dict[int, Claim] = {}  # on its disk
        self.highest = NO_CLAIM  # that it ever obeyed
        self.inbox: Inbox = deque(maxlen=INBOX_MAX)
        super().__init__(grid, number, flow_capacity)

    @property
    def runs(self) -> bool:
        return self.up and not self.hangs

    def epochs(self) -> RoleEpochs:
        return RoleEpochs(self.kept)

    def kill(self) -> None:
        self.up = self.hangs = False
        self.inbox.clear()
        self.target.close(detach=False)
        for wire in self.grid.wires:
            if wire.dfs is self and wire.number is not None and wire.agent is self.agent:
                wire.number = None
                wire.send(wire.to_cs, b"")

    def keep(self) -> None:
        """Write the state file; it takes a moment."""
        agent, grid = self.agent, self.grid
        wanted = agent.epochs.take()
        if wanted is not None:
            seconds = 0.005 if grid.is_steady else grid.dice.uniform(0.001, 0.03)
            grid.at(seconds, self._kept, agent, dict(wanted))

    def _kept(self, agent: object, wanted: dict[int, Claim]) -> None:
        if self.agent is agent and self.up:
            self.kept = wanted
            self.agent.epochs.written()
            if self.runs:
                self.agent.handle_timer(self.grid.now)
                self.grid.touch(self)

    @property
    def obeys(self) -> Fellow | None:
        """The CS that is active here."""
        active = self.agent.peers.active_of(GROUP) if self.up else None
        return None if active is None else self.grid.fellow(active.hello.segment_id)


class Fellow(Member):
    """A CS that knows the others."""

    grid: GroupGrid
    hangs = False

    def __init__(self, grid: GroupGrid, config: ControlSegmentConfig) -> None:
        self.name = f"CS {config.segment_id}"
        self.wires: dict[Dfs, Wire] = {}
        self.inbox: Inbox = deque(maxlen=INBOX_MAX)
        super().__init__(grid, config)

    @property
    def runs(self) -> bool:
        return self.up and not self.hangs

    @property
    def role(self) -> Role:
        return self.cs.group.election.role

    def homes(self) -> dict[bytes, bytes]:
        """The node of each client that persistence remembers, by their addresses."""
        return {address: node for address, (node, _) in self.visits().items()}

    def visits(self) -> dict[bytes, tuple[bytes, float]]:
        """The same, and when it was seen there."""
        return {
            address: (place[0], seen)
            for server in self.cs.model.virtual_servers.values()
            if server.persistence is not None
            for part in server.persistence.entries(1 << 20, self.grid.now, math.inf)
            for address, place, seen in part
        }

    @property
    def lacks_records(self) -> bool:
        """Whether it has to ask another CS for persistent clients and idle sessions."""
        records = self.cs.group.records
        assert records is not None
        return records.owes

    def kill(self) -> None:
        """The process ends: its kernel ends its connections."""
        self.up = self.hangs = False
        self.inbox.clear()
        for wire in tuple(self.wires.values()):
            wire.end(None)

    def cut(self, dfs: Dfs) -> None:
        """The connection breaks; this end learns it first."""
        wire = self.wires.get(dfs)
        if wire is not None:
            wire.end(self.cs.connections.stream_received(dfs.number, b"", self.grid.now))

    def handle_timers(self) -> None:
        now, connections = self.grid.now, self.cs.connections
        for dfs, at in tuple(self.connect_at.items()):
            if at <= now:
                del self.connect_at[dfs]
                self._connect(dfs)
        if self.cs.get_timer() <= now:
            self.cs.handle_timer(now)
        for dfs, wire in tuple(self.wires.items()):
            timer = connections.stream_timer(dfs.number)
            if timer is not None and timer <= now:
                retry_s = connections.stream_timer_due(dfs.number, now)
                if retry_s is not None:
                    wire.carry()
                    wire.end(retry_s)

    def timers(self) -> list[float | None]:
        found: list[float | None] = [self.cs.get_timer(), *self.connect_at.values()]
        found += [self.cs.connections.stream_timer(dfs.number) for dfs in self.wires]
        return found

    def _connect(self, dfs: Dfs) -> None:
        assert isinstance(dfs, KeepingDfs)
        if not (self.grid.passes(self, dfs) and self.grid.passes(dfs, self)):
            self.grid.at(CONNECT_S, self._failed, self.cs, dfs, "no answer")
        elif not dfs.up:
            self._failed(self.cs, dfs, "refused")
        else:
            number = dfs.agent.connections.connection_made(self.grid.now)
            if number is None:
                self._failed(self.cs, dfs, "refused")
                return
            wire = Wire(self, dfs, number)
            self.wires[dfs] = wire
            self.grid.wires.append(wire)
            self.cs.connections.connected(dfs.number, self.grid.now)

    def _failed(self, cs: object, dfs: Dfs, why: str) -> None:
        if self.cs is cs and self.up:
            retry_s = self.cs.connections.connect_failed(dfs.number, why)
            self.connect_at[dfs] = self.grid.now + retry_s
            self.grid.touch(self)


Part: TypeAlias = "Fellow | KeepingDfs"
