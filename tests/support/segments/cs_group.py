# SPDX-License-Identifier: Apache-2.0
"""Several real CSs of one group at one real agent, in virtual time, on a network that loses
nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from control_segment.config import ControlSegmentConfig
from control_segment.peers import Address
from control_segment.segment import ControlSegment
from data_flow_segment.targets.memory import MemoryTarget
from ssmb.addresses import to_text
from ssmb.constants import MULTICAST_GROUP, SSMB_PORT
from support.octets.frames import framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    DFS_ENDPOINT,
    EXTERNAL,
    EXTERNAL_MAC,
    KEY,
    ROUTER_MAC,
    VIP,
    agent_of,
    options,
)

WIRE_S: Final = 0.0002
GROUP: Final = (MULTICAST_GROUP, SSMB_PORT)
End: TypeAlias = tuple[bytes, int]


def cs_config(segment_id: int, port: int, **changes: Any) -> ControlSegmentConfig:
    """A CS with one virtual server, at VIP and this port."""
    return ControlSegmentConfig.model_validate(
        {
            "segment_id": segment_id,
            "group_id": 1,
            "ssmb": {"address": f"10.255.0.{segment_id + 1}", "port": 61019},
            "key_file": "unused",
            "data_flow_segments": [{"address": DFS_ENDPOINT[0], "port": 61019}],
            "pools": [
                {"name": "web", "nodes": [{"name": "n", "address": "10.1.1.2", "port": 8080}]}
            ],
            "virtual_servers": [
                {
                    "name": "www",
                    "address": to_text(VIP[0]),
                    "port": port,
                    "protocol": "tcp",
                    "pool": "web",
                }
            ],
            **changes,
        }
    )


def fellows(*others: int) -> list[dict[str, Any]]:
    """What a CS's file says of the other CSs of its group."""
    return [{"segment_id": other, "address": f"10.255.0.{other + 1}"} for other in others]


def client(number: int) -> End:
    """A client, and its port."""
    return CLIENT[0][:15] + bytes([number % 200 + 1]), 2000 + number


def flows_of(cs: ControlSegment) -> set[tuple[Any, ...]]:
    """Everything of each flow that decides where its packets go."""
    return {
        (flow.key, flow.serial, flow.head, flow.tail, flow.node.name, flow.state)
        for flow in cs.table.by_key.values()
    }


class Member:
    """One CS, its CSMB stream, and whether it runs."""

    def __init__(self, group: CsGroup, config: ControlSegmentConfig, boot_id: int) -> None:
        self.group = group
        self.cs = ControlSegment(
            config,
            key=KEY,
            cs_boot_id=boot_id,
            now=group.now,
            random_octets=group.dice.randbytes,
        )
        self.endpoint = (str(config.ssmb.address), config.ssmb.port)
        self.number: int | None = None  # of its connection at the agent
        self.runs = True
        self.reachable = True  # else what is sent to or by it is lost
        self.deaf = False  # to the multicast group
        self.connect_at: float | None = group.now
        self.log: list[str] = []

    @property
    def role(self) -> str:
        """What it is at the DFS."""
        return self.cs.group.election.role.name

    def connect(self) -> None:
        """Open TCP."""
        self.connect_at = None
        self.number = self.group.agent.connections.connection_made(self.group.now)
        self.cs.connections.connected(0, self.group.now)

    def crash(self) -> None:
        """The process ends: the kernel closes its connection."""
        self.runs = False
        self.group.ended(self)

    def lose_power(self) -> None:
        """It is gone, and nothing is said to the DFS."""
        self.runs = self.reachable = False

    def cut(self) -> None:
        """The connection breaks; both sides see it."""
        number = self.number
        self.group.ended(self)
        assert number is not None
        self.over(self.cs.connections.stream_received(0, b"", self.group.now))

    def over(self, retry_s: float | None) -> None:
        assert retry_s is not None
        self.number = None
        self.connect_at = self.group.now + retry_s

    def pump(self) -> bool:
        """Carry CSMB both ways; whether there was anything."""
        if self.number is None or not self.reachable:
            return False
        agent, now = self.group.agent, self.group.now
        there = self.cs.connections.stream_to_send(0)
        if there:
            agent.connections.receive(self.number, there, now)
        back, closed = agent.connections.octets_to_send(self.number)
        retry_s = self.cs.connections.stream_received(0, back, now) if back else None
        if closed and retry_s is None:
            retry_s = self.cs.connections.stream_received(0, b"", now)
        if retry_s is not None:
            if not closed:
                self.group.ended(self)
            self.over(retry_s)
        return bool(there or back)

    def handle_timers(self) -> None:
        now = self.group.now
        if self.connect_at is not None and self.connect_at <= now:
            self.connect()
        if self.cs.get_timer() <= now:
            self.cs.handle_timer(now)
        timer = self.cs.connections.stream_timer(0)
        if timer is not None and timer <= now:
            retry_s = self.cs.connections.stream_timer_due(0, now)
            if retry_s is not None:
                self.group.ended(self)
                self.over(retry_s)

    def timers(self) -> list[float | None]:
        return [self.connect_at, self.cs.get_timer(), self.cs.connections.stream_timer(0)]


class CsGroup:
    """The agent, its CSs and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.dice = random.Random(seed)
        self.target = MemoryTarget(options(), lambda: self.now)
        self.agent = agent_of(self.target, self.dice.randbytes, self.now)
        self.members: list[Member] = []
        self.log: list[str] = []
        self.deaf = False  # the DFS, to the multicast group
        self.multicast_loss = 0.0  # the part of them that each receiver does not get
        self.multicasts: list[bytes] = []  # every datagram that was sent to the group

    @property
    def ports(self) -> list[int]:
        """Which virtual servers the DFS has."""
        return sorted(entry.key.virt_port or 0 for entry in self.target.virtual_servers())

    @property
    def active(self) -> int | None:
        """The segment id of the CS that the DFS asks."""
        peer = self.agent.peers.active_of(1)
        return None if peer is None else peer.hello.segment_id

    def start(
        self, segment_id: int, port: int, *, boot_id: int | None = None, **changes: Any
    ) -> Member:
        """Start a CS; what ran with this segment id is over."""
        member = Member(
            self, cs_config(segment_id, port, **changes), boot_id or self.dice.getrandbits(32)
        )
        self.members.append(member)
        return member

    def send_from(self, sender: End, flags: int, seq: int = 100) -> None:
        """A client's packet; what comes of it is carried out."""
        packet = tcp_packet(sender, VIP, flags, seq=seq)
        self.target.receive(EXTERNAL, framed(packet, ROUTER_MAC, EXTERNAL_MAC))
        self.agent.handle_events(self.target.events(), self.now)
        self.run(0.05)

    def ended(self, member: Member) -> None:
        """The DFS sees the end of a CS's connection."""
        number, member.number = member.number, None
        if number is not None:
            self.agent.connections.receive(number, b"", self.now)
            self.agent.connections.octets_to_send(number)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass; return how much did before the condition held."""
        begun, end = self.now, self.now + seconds
        while not until():
            timers = [self.agent.get_timer()]
            for member in self._running():
                timers += member.timers()
            due = min((timer for timer in timers if timer is not None), default=end)
            if due > end:
                self.now = end
                break
            self.now = max(self.now, due)
            self.agent.handle_timer(self.now)
            for member in self._running():
                member.handle_timers()
            self._settle()
        return self.now - begun

    def _running(self) -> list[Member]:
        return [member for member in self.members if member.runs]

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = sum(member.pump() for member in self._running()) > 0
            self.agent.flush(self.now)
            self.target.apply(self.agent.outbox.take_commands())
            self.agent.handle_events(self.target.events(), self.now)
            for destination, octets in self.agent.outbox.take_datagrams():
                busy = True
                for member in self._running():
                    if member.endpoint == destination and member.reachable:
                        member.cs.receive_datagram(octets, DFS_ENDPOINT, self.now)
            for member in self._running():
                for octets, endpoint in member.cs.datagrams_to_send():
                    busy = True
                    if member.reachable:
                        self._deliver(octets, member, endpoint)
        self.log += self.agent.connections.take_log()
        for member in self.members:
            member.log += member.cs.log
            member.cs.log.clear()

    def multicast(self, octets: bytes) -> None:
        """Carry a datagram to everybody who has joined the group, also to its sender."""
        self.multicasts.append(octets)
        if GROUP in self.agent.multicast.memberships() and not self.deaf and self._comes():
            self.agent.receive_shared(octets, GROUP, None, self.now)
        for member in self._running():
            joined = member.cs.group.multicast.address == GROUP
            if joined and member.reachable and not member.deaf and self._comes():
                member.cs.receive_shared([octets], self.now)

    def _comes(self) -> bool:
        return not self.multicast_loss or self.dice.random() >= self.multicast_loss

    def _deliver(self, octets: bytes, sender: Member, endpoint: Address) -> None:
        if endpoint == GROUP:
            self.multicast(octets)
        if endpoint == DFS_ENDPOINT:
            self.agent.receive_datagram(octets, sender.endpoint, self.now)
        for member in self._running():
            if member.endpoint == endpoint and member.reachable:
                member.cs.receive_datagram(octets, sender.endpoint, self.now)
