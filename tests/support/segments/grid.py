# SPDX-License-Identifier: Apache-2.0
"""Several DFSs and several CSs of one group in virtual time: real agents over the memory target,
real CSs, clients that open and reset connections, and between the planes a network that loses,
doubles, delays and reorders.

It watches what grants must keep (wire protocol 13.1): no flow goes by a grant to a node that has
been closed for longer than 50 ms, and no limit is exceeded by flows that live.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final

from control_segment.config import ControlSegmentConfig
from control_segment.segment import ControlSegment
from csmb.settings import ConnectionSettings
from data_flow_segment.agent import Agent
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.memory.datapath import DataPath
from ssmb.addresses import from_text, to_text
from ssmb.constants import GRANT_VALID_MS, MessageType
from ssmb.messages import FlowSignature
from ssmb.serials import is_cs_originated
from support.octets.frames import ACK, RST, SYN, ends_of, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    KEY,
    NODE_MAC,
    ROUTER_MAC,
    VIP,
    options,
)
from support.segments.planes import Weather
from support.segments.virtual_time import VirtualTime

BOUND_S: Final = GRANT_VALID_MS / 1000
End = tuple[bytes, int]


def grid_config(
    segment_id: int, dfss: int, pool: dict[str, Any], server: dict[str, Any], settings: Any
) -> ControlSegmentConfig:
    """A CS with one virtual server, at VIP."""
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": segment_id,
            "ssmb": {"address": f"10.255.0.{segment_id}", "port": 61019},
            "key_file": "unused",
            "data_flow_segments": [
                {"address": f"10.255.0.{100 + number}", "port": 61019} for number in range(dfss)
            ],
            "settings": settings,
            "pools": [{"name": "web", **pool}],
            "virtual_servers": [
                {
                    "name": "www",
                    "address": to_text(VIP[0]),
                    "port": VIP[1],
                    "protocol": "tcp",
                    "pool": "web",
                    **server,
                }
            ],
        }
    )


class Dfs:
    """A data path that goes on while its agent comes and goes."""

    def __init__(self, grid: Grid, number: int, flow_capacity: int) -> None:
        self.grid = grid
        self.number = number
        self.endpoint = (f"10.255.0.{100 + number}", 61019)
        self.target = MemoryTarget(options(flow_capacity, boot_id=77 + number), lambda: grid.now)
        self.data_path: DataPath = self.target.data_path
        self.up = False
        self.start(fresh=True)

    def start(self, *, fresh: bool = False) -> None:
        grid = self.grid
        if not fresh:
            path = self.data_path
            self.target = MemoryTarget(path.options, lambda: grid.now, data_path=path)
        settings = ConnectionSettings(
            segment_id=256 + self.number,
            key=KEY,
            ssmb_ipaddr=from_text(self.endpoint[0]),
            ssmb_port=self.endpoint[1],
        )
        random_octets = grid.dice.randbytes
        epochs = self.epochs()
        self.agent = Agent(
            settings, self.target, random_octets=random_octets, now=grid.now, epochs=epochs
        )
        self.up = True

    @property
    def runs(self) -> bool:
        """Whether its agent does anything."""
        return self.up

    def epochs(self) -> RoleEpochs | None:
        """What its state file says; None: it has none."""
        return None

    def kill(self) -> None:
        """The agent; the data path goes on."""
        self.up = False
        self.target.close(detach=False)
        for member in self.grid.members:
            member.lost(self)

    def receive(self, interface: int, frame: bytes) -> list[tuple[int, bytes]]:
        """A frame arrives; the frames that leave because of it.  Its agent sleeps on if the data
        path has nothing to say."""
        frames = self.target.receive(interface, frame)
        if self.data_path.events:
            self.grid.touch(self)
        return frames

    def timers(self) -> list[float | None]:
        return [self.agent.get_timer(), self.agent.sweeps.get_timer()]

    def handle_timers(self) -> None:
        agent, now = self.agent, self.grid.now
        agent.handle_timer(now)
        step = agent.sweeps.due(now)
        if step is not None:
            complete = self.target.sweep(step.limit, stats=step.stats)
            events = self.target.events()
            agent.sweeps.finished(complete, events)
            agent.handle_events(events, now)

    @property
    def taken(self) -> int:
        """Flows that took a grant."""
        return sum(state.counts.taken for state in self.target.grant_states())


class Member:
    """A CS, and its connection to each DFS."""

    def __init__(self, grid: Grid, config: ControlSegmentConfig) -> None:
        self.grid = grid
        self.config = config
        self.endpoint = (str(config.ssmb.address), config.ssmb.port)
        self.numbers: dict[Dfs, int] = {}
        self.connect_at: dict[Dfs, float] = {}
        self.up = False
        self.start()

    @property
    def runs(self) -> bool:
        return self.up

    def start(self) -> None:
        grid = self.grid
        self.cs = ControlSegment(
            self.config,
            key=KEY,
            cs_boot_id=grid.dice.getrandbits(32),
            now=grid.now,
            random_octets=grid.dice.randbytes,
        )
        self.up = True
        self.connect_at = dict.fromkeys(grid.dfss, grid.now)

    def kill(self) -> None:
        self.up = False
        for dfs in tuple(self.numbers):
            self._end_at_agent(dfs)

    def lost(self, dfs: Dfs) -> None:
        """The DFS's process is gone: the kernel ends the connection."""
        if self.numbers.pop(dfs, None) is not None and self.up:
            self.grid.touch(self)
            over = self.cs.connections.stream_received(dfs.number, b"", self.grid.now)
            self._over(dfs, over)

    def cut(self, dfs: Dfs) -> None:
        """The connection breaks; both sides see it."""
        self._end_at_agent(dfs)
        self.grid.touch(self)
        over = self.cs.connections.stream_received(dfs.number, b"", self.grid.now)
        self._over(dfs, over)

    def _end_at_agent(self, dfs: Dfs) -> None:
        number = self.numbers.pop(dfs, None)
        if number is not None and dfs.up:
            self.grid.touch(dfs)
            dfs.agent.connections.receive(number, b"", self.grid.now)
            dfs.agent.connections.octets_to_send(number)

    def _over(self, dfs: Dfs, retry_s: float | None) -> None:
        assert retry_s is not None
        self.numbers.pop(dfs, None)
        self.connect_at[dfs] = self.grid.now + retry_s

    def timers(self) -> list[float | None]:
        found: list[float | None] = [self.cs.get_timer(), *self.connect_at.values()]
        found += [self.cs.connections.stream_timer(dfs.number) for dfs in self.numbers]
        return found

    def handle_timers(self) -> None:
        now = self.grid.now
        for dfs, at in tuple(self.connect_at.items()):
            if at <= now:
                del self.connect_at[dfs]
                self._connect(dfs)
        if self.cs.get_timer() <= now:
            self.cs.handle_timer(now)
        for dfs in tuple(self.numbers):
            timer = self.cs.connections.stream_timer(dfs.number)
            if timer is not None and timer <= now:
                retry_s = self.cs.connections.stream_timer_due(dfs.number, now)
                if retry_s is not None:
                    self._end_at_agent(dfs)
                    self._over(dfs, retry_s)

    def _connect(self, dfs: Dfs) -> None:
        connections = self.cs.connections
        if not dfs.up:
            self._over(dfs, connections.connect_failed(dfs.number, "refused"))
            return
        self.grid.touch(dfs)
        number = dfs.agent.connections.connection_made(self.grid.now)
        assert number is not None
        self.numbers[dfs] = number
        connections.connected(dfs.number, self.grid.now)

    def pump(self, touched: Container[Dfs | Member]) -> None:
        """Carry CSMB both ways, where either end was touched; what gets something is again."""
        for dfs, number in tuple(self.numbers.items()):
            if self not in touched and dfs not in touched:
                continue
            agent, now, index = dfs.agent, self.grid.now, dfs.number
            there = self.cs.connections.stream_to_send(index)
            if there:
                agent.connections.receive(number, there, now)
            back, closed = agent.connections.octets_to_send(number)
            retry_s = self.cs.connections.stream_received(index, back, now) if back else None
            if closed and retry_s is None:
                retry_s = self.cs.connections.stream_received(index, b"", now)
            if retry_s is not None:
                if not closed:
                    self._end_at_agent(dfs)
                self._over(dfs, retry_s)
            if there or back or closed:
                self.grid.touch(self)
                self.grid.touch(dfs)


class Grid(VirtualTime):
    """Everything, and its clock."""

    def __init__(
        self,
        seed: int,
        *,
        dfss: int = 1,
        css: int = 1,
        nodes: int = 4,
        node_limit: int = 0,
        flow_capacity: int = 4096,
        method: str = "round_robin",
        server: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.weather = Weather()
        self.grants_lost = 0.0  # of GRANTs beside; they are sealed, and their type can be read
        self.wrongs: list[str] = []
        self.opened: set[End] = set()
        self.refused: set[End] = set()
        self.live: dict[tuple[Dfs, End], bytes] = {}  # node
        self.by_node: Counter[bytes] = Counter()
        self.closed_since: dict[tuple[int, bytes], float] = {}  # CS and node
        self.latest_s = 0.0  # the longest that a grant went to a closed node after it was closed
        self.limit = int((server or {}).get("connection_limit", 0))
        self.node_limit = node_limit
        self.most_live = 0
        self._lives: dict[End, float] = {}
        pool = {
            "method": method,
            "nodes": [
                {
                    "name": f"n{number}",
                    "address": f"10.1.1.{number + 2}",
                    "port": 8080,
                    "connection_limit": node_limit,
                }
                for number in range(nodes)
            ],
        }
        self._touched: set[Dfs | Member] = set()
        self._due: dict[Dfs | Member, float | None] = {}
        self.members: list[Member] = []
        self.dfss = [self.make_dfs(number, flow_capacity) for number in range(dfss)]
        for number in range(css):
            config = grid_config(number + 1, dfss, pool, server or {}, settings)
            self.members.append(self.make_member(config))

    def make_dfs(self, number: int, flow_capacity: int) -> Dfs:
        return Dfs(self, number, flow_capacity)

    def make_member(self, config: ControlSegmentConfig) -> Member:
        return Member(self, config)

    @property
    def cs(self) -> ControlSegment:
        """The first one."""
        return self.members[0].cs

    # --- time ------------------------------------------------------------------------------------

    @property
    def parts(self) -> Sequence[Dfs | Member]:
        """All, always in the same order."""
        return [*self.members, *self.dfss]

    def run(self, seconds: float) -> None:
        """Everything that happens within the next seconds."""
        self._touch_all()  # a test may have done something to any of them
        self._settle()
        super().run(seconds)

    def touch(self, part: Dfs | Member) -> None:
        """Something has come to it: see what it does about that."""
        self._touched.add(part)

    def _touch_all(self) -> None:
        self._touched.update(self.parts)

    def _timers(self) -> Iterable[float | None]:
        return self._due.values()

    def _handle_timers(self) -> None:
        for part in self.parts:
            due = self._due.get(part)
            if due is not None and due <= self.now and part.runs:
                part.handle_timers()
                self.touch(part)
        self._settle()

    def _settle(self) -> None:
        while self._touched:
            touched, self._touched = self._touched, set()
            for dfs in self.dfss:
                if dfs in touched:
                    self._settle_dfs(dfs)
            for member in self.members:
                if member in touched and member.up:
                    for octets, endpoint in member.cs.datagrams_to_send():
                        self._send(self._to_agent, endpoint, member, octets)
            for member in self.members:
                if member.up:
                    member.pump(touched)
            for part in touched:
                self._due[part] = self._due_of(part)

    @staticmethod
    def _due_of(part: Dfs | Member) -> float | None:
        """When it wants to be woken up."""
        timers = part.timers() if part.runs else []
        return min((each for each in timers if each is not None), default=None)

    def _settle_dfs(self, dfs: Dfs) -> None:
        while dfs.runs:
            dfs.agent.handle_events(dfs.target.events(), self.now)
            dfs.agent.flush(self.now)
            commands = dfs.agent.outbox.take_commands()
            dfs.target.apply(commands)
            if not commands:
                break
        self._deliver(dfs, dfs.target.transmitted())
        if dfs.runs:
            self._speak(dfs)

    def _speak(self, dfs: Dfs) -> None:
        """Send what its agent has to say."""
        for endpoint, octets in dfs.agent.outbox.take_datagrams():
            self._send(self._to_cs, endpoint, dfs, octets)

    # --- datagrams -------------------------------------------------------------------------------

    def _send(self, deliver: Callable[..., None], *arguments: Any) -> None:
        weather, dice = self.weather, self.dice
        rough = self.now < weather.until
        copies = 1
        if arguments[-1][0] == MessageType.GRANT and dice.random() < self.grants_lost:
            return
        if rough:
            copies = (0 if dice.random() < weather.loss else 1) + (dice.random() < weather.doubling)
        for _ in range(copies):
            delay_s = dice.uniform(0.0001, 0.0004)
            if rough and dice.random() < weather.late:
                delay_s += dice.uniform(0.001, 0.08)
            self.later(delay_s, deliver, *arguments)

    def _to_cs(self, endpoint: tuple[str, int], dfs: Dfs, octets: bytes) -> None:
        for member in self.members:
            if member.up and member.endpoint == endpoint:
                self.touch(member)
                member.cs.receive_datagram(octets, dfs.endpoint, self.now)

    def _to_agent(self, endpoint: tuple[str, int], member: Member, octets: bytes) -> None:
        for dfs in self.dfss:
            if dfs.up and dfs.endpoint == endpoint:
                self.touch(dfs)
                dfs.agent.receive_datagram(octets, member.endpoint, self.now)

    # --- the operator ----------------------------------------------------------------------------

    def set_node(self, number: int, *, state: str | None = None, weight: int | None = None) -> None:
        """At every CS that runs."""
        address = from_text(f"10.1.1.{number + 2}")
        for member in self.members:
            if member.up:
                nodes = member.cs.set_nodes(
                    "web", [f"n{number}"], weight=weight, state=state, now=self.now
                )
                key = member.cs.config.segment_id, address
                if nodes[0].takes_new_sessions:
                    self.closed_since.pop(key, None)
                else:
                    self.closed_since.setdefault(key, self.now)

    # --- clients and nodes -----------------------------------------------------------------------

    def open(self, dfs: Dfs, client: End, life_s: float, tries: int = 0) -> None:
        """A client's SYN; repeated after one and three seconds."""
        if client in self.opened or client in self.refused:
            return
        self._lives[client] = life_s
        self._from_client(dfs, client, SYN, 100, 0)
        if tries < 4:
            self.later(float(1 << tries), self.open, dfs, client, life_s, tries + 1)

    def send(self, dfs: Dfs, client: End, flags: int) -> None:
        """A packet of an open connection."""
        self._from_client(dfs, client, flags, 101, 201)

    def _from_client(self, dfs: Dfs, client: End, flags: int, seq: int, ack: int) -> None:
        frame = framed(tcp_packet(client, VIP, flags, seq=seq, ack=ack), ROUTER_MAC, EXTERNAL_MAC)
        self._deliver(dfs, dfs.receive(EXTERNAL, frame))

    def _deliver(self, dfs: Dfs, frames: list[tuple[int, bytes]]) -> None:
        for interface, frame in frames:
            if frame[0] & 1:
                continue  # the announcement of an address
            src, dst, _ = ends_of(frame)
            flags = frame[14 + 20 + 13]
            if interface == EXTERNAL:
                if flags & RST and dst not in self.opened:
                    self.refused.add(dst)
                elif flags & SYN and dst not in self.opened:
                    self.opened.add(dst)
                    self._from_client(dfs, dst, ACK, 101, 201)
                    self.later(self._lives[dst], self._reset, dfs, dst)
            elif flags & SYN:
                self._arrives_at_node(dfs, src, dst)
                answer = tcp_packet(dst, src, SYN | ACK, seq=200, ack=101)
                answer = framed(answer, NODE_MAC, INTERNAL_MAC)
                self._deliver(dfs, dfs.receive(INTERNAL, answer))

    def _arrives_at_node(self, dfs: Dfs, client: End, node: End) -> None:
        known = self.live.get((dfs, client))
        if known is not None:
            if known != node[0]:
                self.wrongs.append(f"port {client[1]} came to another node")
            return
        self.live[dfs, client] = node[0]
        self.by_node[node[0]] += 1
        self.most_live = max(self.most_live, len(self.live))
        if self.limit and len(self.live) > self.limit:
            self.wrongs.append(f"{len(self.live)} connections, the limit is {self.limit}")
        if self.node_limit and self.by_node[node[0]] > self.node_limit:
            self.wrongs.append(f"{self.by_node[node[0]]} connections of {to_text(node[0])}")
        state = dfs.target.lookup(self._signature(client))
        if state is None or not is_cs_originated(state.entry.serial):
            return
        since = self.closed_since.get((state.entry.serial >> 24 & 0x7F, node[0]))
        if since is not None:
            late_s = self.now - since
            self.latest_s = max(self.latest_s, late_s)
            if late_s > BOUND_S:
                self.wrongs.append(
                    f"a grant went to {to_text(node[0])} {late_s * 1000:.1f} ms after it was closed"
                )

    def _reset(self, dfs: Dfs, client: End) -> None:
        self._from_client(dfs, client, RST, 101, 0)
        state = dfs.target.lookup(self._signature(client))
        if state is not None and not state.closed:
            self.wrongs.append(f"port {client[1]}: its RST did not end it")
        node = self.live.pop((dfs, client), None)
        if node is not None:
            self.by_node[node] -= 1

    @staticmethod
    def _signature(client: End) -> FlowSignature:
        return FlowSignature(client[0], VIP[0], client[1], VIP[1], 6)

    def crowd(self, count: int, within_s: float, first: int = 0, life_s: float = 0.5) -> None:
        """So many connections, evenly spread over time and DFSs, as far as dice are even."""
        dice = self.dice
        for number in range(first, first + count):
            address = CLIENT[0][:14] + (number // 50000 + 1).to_bytes(2, "big")
            client = address, 1024 + number % 50000
            life = dice.uniform(0.01, 2 * life_s)
            self.later(dice.uniform(0, within_s), self.open, dice.choice(self.dfss), client, life)

    def set_node_for(self, number: int, state: str, seconds: float = 0.3) -> None:
        """Close a node for a while."""
        self.set_node(number, state=state)
        self.at(seconds, self._open_node, number)

    def _open_node(self, number: int) -> None:
        self.set_node(number, state="enabled")

    def again(self, count: int) -> None:
        """The same clients open connections from the same ports."""
        for number in range(count):
            client = CLIENT[0], 5000 + number
            if all(client != each for _, each in self.live):
                self.opened.discard(client)
                self.refused.discard(client)
                self.later(self.dice.uniform(0, 0.05), self.open, self.dfss[0], client, 0.08)
