# SPDX-License-Identifier: Apache-2.0
"""Both planes in virtual time: the real CS, the real agent, the memory target, clients and nodes
that speak a small TCP, and between the planes a network that loses, doubles and reorders datagrams.

Packets between clients, DFS and nodes are never lost here, so whatever goes wrong with a connection
is the planes' fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from control_segment.config import ControlSegmentConfig
from control_segment.segment import ControlSegment
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.memory.datapath import DataPath
from ssmb.addresses import from_text, to_text
from support.octets.frames import ACK, FIN, RST, SYN, ends_of, framed, tcp_packet, udp_packet
from support.segments.agent_rig import (
    DFS_ENDPOINT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    KEY,
    NODE_MAC,
    ROUTER_MAC,
    VIP,
    agent_of,
    options,
)
from support.segments.virtual_time import VirtualTime

CS_ENDPOINT: Final = ("10.255.0.2", 61019)
End = tuple[bytes, int]
WORD32: Final = 0xFFFFFFFF
WIRE_S: Final = 0.0005  # client to DFS, DFS to node
REPEAT_S: Final = 0.5  # a client's or node's own repeats; a SYN's is a second, as in kernels


def cs_config(nodes: int, **settings: Any) -> ControlSegmentConfig:
    """A web server and a name server at VIP, over the same pool."""
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": 1,
            "ssmb": {"address": CS_ENDPOINT[0], "port": CS_ENDPOINT[1]},
            "key_file": "unused",
            "data_flow_segments": [{"address": "10.255.0.1", "port": 61019}],
            "settings": settings,
            "pools": [
                {
                    "name": "web",
                    "nodes": [
                        {"name": f"n{number}", "address": f"10.1.1.{number + 2}", "port": 8080}
                        for number in range(nodes)
                    ],
                }
            ],
            "virtual_servers": [
                {
                    "name": name,
                    "address": to_text(VIP[0]),
                    "port": port,
                    "protocol": protocol,
                    "pool": "web",
                }
                for name, port, protocol in (("www", 80, "tcp"), ("dns", 53, "udp"))
            ],
        }
    )


@dataclass
class Weather:
    """What happens to SSMB datagrams."""

    loss: float = 0.0
    doubling: float = 0.0
    late: float = 0.0  # overtaken by later ones
    until: float = float("inf")


@dataclass
class Connection:
    """A client's side: SYN, `requests` questions one after the other, FIN."""

    client: End
    requests: int
    pause_s: float
    aborts: bool = False
    state: str = "syn"
    asked: int = 0
    tries: int = 0
    isn: int = 0
    node_isn: int | None = None
    done: Callable[[Connection], None] | None = None

    @property
    def seq(self) -> int:
        return (self.isn + 1 + self.asked) & WORD32


@dataclass
class Accepted:
    """A node's side of a connection; numbers modulo 2^32."""

    first: int  # the client's first octet
    following: int  # the client's next one
    isn: int


class Node:
    """One server: accepts, answers each octet with an octet, closes when the client does."""

    def __init__(self, planes: Planes, address: bytes) -> None:
        self.planes = planes
        self.address = address
        self.open: dict[End, Accepted] = {}
        self.accepted = 0
        self.is_dead = False
        self.is_silent = False  # the machine too
        self.asked = 0  # SYNs that it got since it died

    def receive(self, client: End, flags: int, seq: int, ack: int, payload: bytes) -> None:
        known = self.open.get(client)
        if flags & RST:
            self.open.pop(client, None)
            return
        if flags & SYN:
            first = (seq + 1) & WORD32
            if known is None or known.first != first:
                self.accepted += 1
                known = Accepted(first, first, self.planes.dice.getrandbits(32))
                self.open[client] = known
            self._send(client, SYN | ACK, known.isn, first)
            return
        if known is None:
            if payload or flags & FIN:
                self.planes.wrongs.append(f"port {client[1]} came to another node")
            self._send(client, RST, ack, 0)
            return
        sent = (known.isn + 1 + seq - known.first) & WORD32  # an octet for each of its octets
        if payload:
            if seq == known.following:
                known.following = (seq + len(payload)) & WORD32
            self._send(client, ACK, sent, known.following, payload)
        if flags & FIN and seq == known.following:
            self._send(client, FIN | ACK, sent, (seq + 1) & WORD32)

    def refuse(self, client: End, flags: int, seq: int) -> None:
        """Nothing listens there: its kernel answers for it, or nobody does."""
        self.asked += flags & SYN == SYN
        if not self.is_silent and not flags & RST:
            self._send(client, RST | ACK, 0, (seq + 1) & WORD32)

    def _send(self, client: End, flags: int, seq: int, ack: int, payload: bytes = b"") -> None:
        packet = tcp_packet((self.address, 8080), client, flags, seq=seq, ack=ack, payload=payload)
        self.planes.later(WIRE_S, self.planes.to_dfs, INTERNAL, packet)


class Planes(VirtualTime):
    """Everything, and its clock."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 4,
        flow_capacity: int = 4096,
        config: ControlSegmentConfig | None = None,
        serial_key: bytes = b"",
        **settings: Any,
    ) -> None:
        """`config`: the CS's; None: a web server and a name server, with these settings.  With
        `serial_key` the data path does what it can by itself."""
        super().__init__()
        self._is_touched = True
        self._due: list[float | None] = []
        self.dice = random.Random(seed)
        self.weather = Weather()
        self.wrongs: list[str] = []
        self.finished: list[Connection] = []
        self._udp_answered: set[End] = set()
        self._udp_nodes: dict[End, End] = {}
        self.config = config or cs_config(nodes, **settings)
        self.nodes = {
            from_text(f"10.1.1.{number + 2}"): Node(self, from_text(f"10.1.1.{number + 2}"))
            for number in range(nodes)
        }
        self.connections: dict[End, Connection] = {}
        target_options = options(flow_capacity, serial_key=serial_key)
        self.data_path = DataPath(target_options, lambda: self.now)
        self.cs_is_up = self.agent_is_up = False
        self._number: int | None = None
        self.start_agent(fresh=True)
        self.start_cs()

    # --- starting and killing -------------------------------------------------------------------

    def start_agent(self, *, fresh: bool = False) -> None:
        target_options = self.data_path.options
        if fresh:
            self.target = MemoryTarget(target_options, lambda: self.now)
            self.data_path = self.target.data_path
        else:
            self.target = MemoryTarget(target_options, lambda: self.now, data_path=self.data_path)
        self.agent = agent_of(self.target, self.dice.randbytes, self.now)
        self.agent_is_up = True

    def start_cs(self) -> None:
        self.cs = ControlSegment(
            self.config,
            key=KEY,
            cs_boot_id=self.dice.getrandbits(32),
            now=self.now,
            random_octets=self.dice.randbytes,
        )
        self.cs_is_up = True
        self._connect(self.cs)

    def kill_cs(self) -> None:
        self.cs_is_up = False
        self._end_at_agent()

    def kill_agent(self) -> None:
        """The data path goes on."""
        self.agent_is_up = False
        self.target.close(detach=False)
        if self.cs_is_up and self.cs.connections.links[0].connection is not None:
            self._lost(self.cs.connections.stream_received(0, b"", self.now))

    def _connect(self, cs: ControlSegment) -> None:
        """A CS that lives tries again when its own back-off says so."""
        if cs is not self.cs or not self.cs_is_up or self._number is not None:
            return
        if not self.agent_is_up:
            self.at(cs.connections.connect_failed(0, "refused"), self._connect, cs)
            return
        self._number = self.agent.connections.connection_made(self.now)
        self.cs.connections.connected(0, self.now)
        self._pump()

    def _lost(self, retry_s: float | None) -> None:
        """The CS has seen the end of its connection, and says when it tries the next."""
        assert retry_s is not None
        self._end_at_agent()
        self.at(retry_s, self._connect, self.cs)

    def _end_at_agent(self) -> None:
        number, self._number = self._number, None
        if number is not None and self.agent_is_up:
            self.agent.connections.receive(number, b"", self.now)
            self.agent.connections.octets_to_send(number)

    def _pump(self) -> None:
        """Both ends of the CSMB stream talk until they are quiet."""
        while self._number is not None and self.agent_is_up and self.cs_is_up:
            there = self.cs.connections.stream_to_send(0)
            if self.cs.connections.is_closing(0):
                self.agent.connections.receive(self._number, there, self.now)
                self._lost(self.cs.connections.stream_received(0, b"", self.now))
                break
            if there:
                self.agent.connections.receive(self._number, there, self.now)
            back, closed = self.agent.connections.octets_to_send(self._number)
            retry_s = self.cs.connections.stream_received(0, back, self.now) if back else None
            if closed and retry_s is None:
                retry_s = self.cs.connections.stream_received(0, b"", self.now)
            if retry_s is not None:
                self._lost(retry_s)
            elif not there and not back:
                break
            self._touch_all()

    # --- time -----------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Everything that happens within the next seconds."""
        self._touch_all()  # a test may have done something to either
        self._settle()
        super().run(seconds)

    def _touch_all(self) -> None:
        self._is_touched = True

    def _timers(self) -> list[float | None]:
        return self._due

    def _handle_timers(self) -> None:
        now = self.now
        self._touch_all()
        if self.agent_is_up:
            self.agent.handle_timer(now)
            step = self.agent.sweeps.due(now)
            if step is not None:
                complete = self.target.sweep(step.limit, stats=step.stats)
                events = self.target.events()
                self.agent.sweeps.finished(complete, events)
                self.agent.handle_events(events, now)
        if self.cs_is_up:
            if self.cs.get_timer() <= now:
                self.cs.handle_timer(now)
            timer = self.cs.connections.stream_timer(0)
            if timer is not None and timer <= now:
                retry_s = self.cs.connections.stream_timer_due(0, now)
                if retry_s is not None:
                    self._lost(retry_s)
        self._settle()

    def _settle(self) -> None:
        """What an event loop does at the end of each wake-up, in both planes."""
        while self._is_touched:
            self._is_touched = False
            self._pump()
            while self.agent_is_up:
                self.agent.handle_events(self.target.events(), self.now)
                self.agent.flush(self.now)
                commands = self.agent.outbox.take_commands()
                self.target.apply(commands)
                if not commands:
                    break
            self._deliver(self.target.transmitted())
            if self.agent_is_up:
                for _, octets in self.agent.outbox.take_datagrams():
                    self._send(self._to_cs, octets)
            if self.cs_is_up:
                for octets, _ in self.cs.datagrams_to_send():
                    self._send(self._to_agent, octets)
            self._due = self._all_due()

    def _all_due(self) -> list[float | None]:
        """When each part wants to be woken up."""
        timers: list[float | None] = []
        if self.agent_is_up:
            timers += [self.agent.get_timer(), self.agent.sweeps.get_timer()]
        if self.cs_is_up:
            timers += [self.cs.get_timer(), self.cs.connections.stream_timer(0)]
        return timers

    # --- datagrams ------------------------------------------------------------------------------

    def _send(self, deliver: Callable[[bytes], None], octets: bytes) -> None:
        weather, dice = self.weather, self.dice
        rough = self.now < weather.until
        copies = 1
        if rough:
            copies = 0 if dice.random() < weather.loss else 1
            copies += dice.random() < weather.doubling
        for _ in range(copies):
            delay_s = dice.uniform(0.0001, 0.0004)
            if rough and dice.random() < weather.late:
                delay_s += dice.uniform(0.001, 0.08)
            self.later(delay_s, deliver, octets)

    def _to_cs(self, octets: bytes) -> None:
        if self.cs_is_up:
            self._touch_all()
            self.cs.receive_datagram(octets, DFS_ENDPOINT, self.now)

    def _to_agent(self, octets: bytes) -> None:
        if self.agent_is_up:
            self._touch_all()
            self.agent.receive_datagram(octets, CS_ENDPOINT, self.now)

    # --- packets --------------------------------------------------------------------------------

    def to_dfs(self, interface: int, packet: bytes) -> None:
        macs = (ROUTER_MAC, EXTERNAL_MAC) if interface == EXTERNAL else (NODE_MAC, INTERNAL_MAC)
        frames = self.target.receive(interface, framed(packet, *macs))
        if self.data_path.events:  # otherwise the agent sleeps on
            self._touch_all()
        self._deliver(frames)

    def _deliver(self, frames: list[tuple[int, bytes]]) -> None:
        for interface, frame in frames:
            if not frame[0] & 1:  # not the announcement of an address
                self.later(WIRE_S, self._arrive, interface, frame)

    def _arrive(self, interface: int, frame: bytes) -> None:
        src, dst, protocol = ends_of(frame)
        if protocol == 17:
            self._udp_arrives(interface, src, dst)
            return
        if protocol != 6:
            return
        start = 14 + (20 if frame[14] >> 4 == 4 else 40)
        seq = int.from_bytes(frame[start + 4 : start + 8], "big")
        ack = int.from_bytes(frame[start + 8 : start + 12], "big")
        flags, payload = frame[start + 13], frame[start + 20 :]
        if interface == INTERNAL:
            node = self.nodes[dst[0]]
            if node.is_dead:
                node.refuse(src, flags, seq)
            else:
                node.receive(src, flags, seq, ack, payload)
        elif src == VIP and dst in self.connections:
            self._client_receives(self.connections[dst], flags, seq, ack, payload)

    # --- clients --------------------------------------------------------------------------------

    def connect(self, connection: Connection) -> None:
        connection.isn = self.dice.getrandbits(32)
        self.connections[connection.client] = connection
        self._client_sends(connection)

    def _client_sends(self, connection: Connection) -> None:
        """Say what this state says, and say it again until the state changes."""
        state = connection.state
        if state == "over" or self.connections.get(connection.client) is not connection:
            return
        seq, ack = connection.seq, 0
        if connection.node_isn is not None:
            ack = (connection.node_isn + 1 + connection.asked) & WORD32
        what = {
            "syn": (SYN, connection.isn, 0, b""),
            "asking": (ACK, seq, ack, b"?"),
            "fin": (FIN | ACK, seq, ack, b""),
        }[state]
        self._send_segment(connection.client, *what)
        connection.tries += 1
        if connection.tries > 8:
            self.wrongs.append(f"{connection.client[1]}: no answer in {state}")
            self._over(connection)
            return
        wait = float(connection.tries) if state == "syn" else REPEAT_S * connection.tries
        self.later(wait, self._repeat, connection, state, connection.asked)

    def _repeat(self, connection: Connection, state: str, asked: int) -> None:
        if (connection.state, connection.asked) == (state, asked):
            self._client_sends(connection)

    def _send_segment(self, client: End, flags: int, seq: int, ack: int, payload: bytes) -> None:
        packet = tcp_packet(client, VIP, flags, seq=seq, ack=ack, payload=payload)
        self.later(WIRE_S, self.to_dfs, EXTERNAL, packet)

    def _client_receives(
        self, connection: Connection, flags: int, seq: int, ack: int, payload: bytes
    ) -> None:
        if flags & RST:
            if connection.state != "over":
                self.wrongs.append(f"{connection.client[1]}: reset in {connection.state}")
                self._over(connection)
        elif flags & SYN:
            if connection.state == "syn" and ack == (connection.isn + 1) & WORD32:
                connection.node_isn = seq
                self._next(connection)
        elif flags & FIN:
            if connection.state == "fin":
                ack_of_fin = (seq + 1) & WORD32
                seq_after = (connection.seq + 1) & WORD32
                self._send_segment(connection.client, ACK, seq_after, ack_of_fin, b"")
                self._over(connection)
        elif payload and connection.state == "asking" and ack == (connection.seq + 1) & WORD32:
            connection.asked += 1
            connection.state = "pausing"
            connection.tries = 0
            self.later(connection.pause_s, self._next, connection)

    def _next(self, connection: Connection) -> None:
        connection.tries = 0
        if connection.asked < connection.requests:
            connection.state = "asking"
        elif connection.aborts:
            self._send_segment(connection.client, RST, connection.seq, 0, b"")
            self._over(connection)
            return
        else:
            connection.state = "fin"
        self._client_sends(connection)

    def _over(self, connection: Connection) -> None:
        connection.state = "over"
        self.finished.append(connection)
        if connection.done is not None:
            self._touch_all()
            connection.done(connection)

    def ask_udp(self, client: End, tries: int = 0) -> None:
        """A question over UDP; asked again until the answer is there."""
        if client in self._udp_answered:
            return
        if tries > 8:
            self.wrongs.append(f"udp {client[1]}: no answer")
            return
        packet = udp_packet(client, (VIP[0], 53), b"?")
        self.later(WIRE_S, self.to_dfs, EXTERNAL, packet)
        self.later(1.0, self.ask_udp, client, tries + 1)

    def _udp_arrives(self, interface: int, src: End, dst: End) -> None:
        if interface == EXTERNAL:
            self._udp_answered.add(dst)
            return
        node = self._udp_nodes.setdefault(src, dst)
        if node != dst:
            self.wrongs.append(f"udp {src[1]}: two nodes")
        self.later(WIRE_S, self.to_dfs, INTERNAL, udp_packet(dst, src, b"!"))
