# SPDX-License-Identifier: Apache-2.0
"""A whole DFS without sockets or a clock: the real agent, the memory target, and CSs that a test
plays by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

from csmb.connection import Connection
from csmb.constants import Flag as CsmbFlag
from csmb.constants import Role
from csmb.events import Closed, HelloReceived, MessageReceived, Ready
from csmb.messages import Ack, Config, Hello, VsEntry, VsList
from csmb.messages import Message as CsmbMessage
from csmb.settings import ConnectionSettings
from data_flow_segment.agent import Agent
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.memory.datapath import DataPath
from data_flow_segment.targets.memory.options import MemoryOptions
from ssmb.addresses import from_text
from ssmb.codec import decode_datagram, encode, encode_batch
from ssmb.constants import Flag
from ssmb.keys import SessionKeys, auth_proof
from ssmb.messages import AuthChallenge, AuthResponse, Message, NewFlow, Query, Reply, Reset
from ssmb.seal import KeyRing, Seals
from support.octets.frames import framed, tcp_packet, udp_packet

KEY: Final = b"a key of twenty octets"
DFS_ID: Final = 256
DFS_ENDPOINT: Final = ("10.255.0.1", 61019)
EXTERNAL, INTERNAL = 1, 2
CLIENT_MAC, ROUTER_MAC, NODE_MAC = b"\x02client"[:6], b"\x02route", b"\x02node0"
EXTERNAL_MAC, INTERNAL_MAC = b"\x02dfsex", b"\x02dfsin"
CLIENT: Final = (from_text("198.51.100.7"), 40000)
VIP: Final = (from_text("203.0.113.10"), 80)
NODE: Final = (from_text("10.1.1.2"), 8080)
TRANSLATE: Final = int(Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP)

M = TypeVar("M")


def options(flow_capacity: int = 4096, boot_id: int = 77, serial_key: bytes = b"") -> MemoryOptions:
    """Clients behind a router on one side, nodes on the link of the other.  With `serial_key` the
    target asks about flows and ends them by itself; CSs are behind the router, too."""
    router, router6 = from_text("192.0.2.1"), from_text("2001:db8:ffff::1")
    nodes = {from_text(f"10.1.1.{number}"): NODE_MAC for number in range(2, 250)}
    nodes6 = {from_text(f"fd00::{number:x}"): NODE_MAC for number in range(2, 250)}
    return MemoryOptions(
        (
            Interface(
                EXTERNAL,
                "ext0",
                EXTERNAL_MAC,
                (from_text("192.0.2.2"), from_text("2001:db8:ffff::2")),
                external=True,
            ),
            Interface(
                INTERNAL,
                "int0",
                INTERNAL_MAC,
                (from_text("10.1.1.1"), from_text("fd00::1")),
                internal=True,
            ),
        ),
        (
            Route.to("10.1.1.0/24", INTERNAL),
            Route.to("fd00::/64", INTERNAL),
            Route.to("0.0.0.0/0", EXTERNAL, "192.0.2.1"),
            Route.to("::/0", EXTERNAL, "2001:db8:ffff::1"),
        ),
        {router: ROUTER_MAC, router6: ROUTER_MAC, **nodes, **nodes6},
        flow_capacity=flow_capacity,
        boot_id=boot_id,
        serial_key=serial_key,
    )


def agent_of(
    target: MemoryTarget,
    random_octets: Callable[[int], bytes],
    now: float,
    *,
    laboratory: bool = False,
    epochs: RoleEpochs | None = None,
) -> Agent:
    """The agent of DFS_ID."""
    settings = ConnectionSettings(
        segment_id=DFS_ID,
        key=b"" if laboratory else KEY,
        ssmb_ipaddr=from_text(DFS_ENDPOINT[0]),
        ssmb_port=DFS_ENDPOINT[1],
        laboratory=laboratory,
    )
    return Agent(settings, target, random_octets=random_octets, now=now, epochs=epochs)


class FakeCs:
    """A CS whose decisions are the test's."""

    def __init__(self, rig: AgentRig, segment_id: int, **changes: Any) -> None:
        self.rig = rig
        self.endpoint = (f"10.255.1.{segment_id}", changes.get("ssmb_port", 61019))
        fields: dict[str, Any] = {
            "segment_id": segment_id,
            "key": KEY,
            "group_id": 1,
            "boot_id": 1000 + segment_id,
            "ssmb_ipaddr": from_text(self.endpoint[0]),
            "ssmb_port": self.endpoint[1],
            "active": True,
            "role_epoch": 1,
            "flags": int(CsmbFlag.SYNC_CAP | CsmbFlag.BRIDGE_ENCAP),
            **changes,
        }
        self.settings = ConnectionSettings(**fields)
        self.connection = Connection(
            Role.CS, self.settings, random_octets=rig.random_octets, now=rig.now
        )
        number = rig.agent.connections.connection_made(rig.now)
        assert number is not None
        self.number = number
        self.version = 2
        self.keys: SessionKeys | None = None
        self._ring = KeyRing()
        self._sealer: Seals | None = None
        self.inbox: list[Message] = []
        self.acks: list[Ack] = []
        self.hellos: list[Hello] = []
        self.closed: str | None = None
        self.peer: Hello | None = None
        self.is_there = True  # it keeps its connection alive
        self.challenge_id = 0

    def exchange(self) -> None:
        """Let both ends of the CSMB connection talk until neither has anything to say."""
        while True:
            sent = self.connection.data_to_send()
            if sent:
                self.rig.agent.connections.receive(self.number, sent, self.rig.now)
            answer, closed = self.rig.agent.connections.octets_to_send(self.number)
            if answer:
                self.connection.receive_data(answer, self.rig.now)
            if closed:
                self.connection.receive_data(b"", self.rig.now)
            self._handle_events()
            if not sent and not answer:
                return

    def _handle_events(self) -> None:
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, Ready):
                self.peer = event.peer
                self.version = event.ssmb_version[0]
                self.keys = event.ssmb_keys
                if event.ssmb_keys is not None:
                    self._ring.add(event.ssmb_keys.d2c, event.ssmb_keys.c2d)
                    self._sealer = self._ring.sealer
            elif isinstance(event, HelloReceived):
                self.hellos.append(event.hello)
            elif isinstance(event, MessageReceived):
                if isinstance(event.message, Ack):
                    self.acks.append(event.message)
            elif isinstance(event, Closed):
                self.closed = event.reason

    def tell(self, message: CsmbMessage) -> Ack | None:
        """Send a CSMB message; the ACK to it."""
        before = len(self.acks)
        self.connection.send(message, self.rig.now)
        self.exchange()
        self.rig.settle()
        return self.acks[-1] if len(self.acks) > before else None

    def seal(self, octets: bytes) -> bytes:
        return octets if self._sealer is None else self._sealer.seal(octets)

    def send(self, *messages: Message) -> None:
        """Send SSMB messages, a datagram each unless they batch."""
        for octets in encode_batch(messages, self.version):
            self.send_octets(self.seal(octets))

    def send_octets(self, octets: bytes, endpoint: tuple[str, int] | None = None) -> None:
        """Send a datagram as it is."""
        self.rig.agent.receive_datagram(octets, endpoint or self.endpoint, self.rig.now)
        self.rig.settle()

    def deliver(self, octets: bytes) -> None:
        """The DFS's datagram arrives."""
        opened = octets if self._sealer is None else self._ring.open(octets, self.rig.now)
        decoded = decode_datagram(opened, self.version)
        assert decoded.malformed is None, decoded
        self.inbox += decoded.messages

    def take(self, kind: type[M]) -> list[M]:
        """The messages of one type that arrived, once."""
        found: list[M] = [message for message in self.inbox if isinstance(message, kind)]
        self.inbox = [message for message in self.inbox if not isinstance(message, kind)]
        return found

    def one(self, kind: type[M]) -> M:
        """The only message of this type."""
        (found,) = self.take(kind)
        return found

    def challenge(self) -> None:
        """Authenticate the DFS on SSMB and look at its proof."""
        self.challenge_id += 1
        challenge = self.rig.random_octets(32)
        self.send(AuthChallenge(challenge_id=self.challenge_id, auth_data=challenge))
        answer = self.one(AuthResponse)
        expected = auth_proof(
            KEY,
            self.challenge_id,
            challenge,
            answer.auth_nonce,
            dfs_id=DFS_ID,
            cs_id=self.settings.segment_id,
        )
        assert answer.auth_data == expected

    def acknowledge_resets(self) -> int:
        """Answer the DFS's RESETs; how many."""
        resets = self.take(Reset)
        for reset in resets:
            self.send(reset._replace(flags=int(Flag.ACK)))
        return len(resets)

    def answer(self, query: Query, **changes: Any) -> Reply:
        """REPLY to a QUERY: to NODE unless told."""
        reply = reply_to(query, **changes)
        self.send(reply)
        return reply

    def leave(self) -> None:
        """The TCP connection ends."""
        self.is_there = False
        self.rig.agent.connections.receive(self.number, b"", self.rig.now)
        self.rig.agent.connections.octets_to_send(self.number)
        self.rig.settle()


class AgentRig:
    """The DFS, virtual time, and what came out."""

    def __init__(
        self,
        *,
        data_path: DataPath | None = None,
        laboratory: bool = False,
        epochs: RoleEpochs | None = None,
        target: MemoryTarget | None = None,
        **fields: Any,
    ) -> None:
        """`target`: what takes the place of a memory target, which `fields` are of."""
        self.now = 1000.0 if data_path is None else data_path.clock()
        self._random = random.Random(7)
        self.target = target or MemoryTarget(
            options(**fields), lambda: self.now, data_path=data_path
        )
        if data_path is not None:
            data_path.clock = lambda: self.now
            self.target._clock = data_path.clock
        self.laboratory = laboratory
        self.agent = agent_of(
            self.target, self.random_octets, self.now, laboratory=laboratory, epochs=epochs
        )
        self._other_timer: float | None = None
        self.css: list[FakeCs] = []
        self.sent: list[tuple[int, bytes]] = []  # frames that left, to one host
        self.undelivered: list[tuple[tuple[str, int], bytes]] = []
        self.deliver_to: Callable[[tuple[str, int], bytes], bool] = lambda endpoint, octets: True

    def random_octets(self, size: int) -> bytes:
        return self._random.randbytes(size)

    # --- the network ---------------------------------------------------------------------------

    def cs(self, segment_id: int = 1, *, prepare: bool = True, **changes: Any) -> FakeCs:
        """Connect a CS; with `prepare` it is authenticated and the RESET is acknowledged."""
        if self.laboratory:
            changes = {"laboratory": True, "key": b"", **changes}
        cs = FakeCs(self, segment_id, **changes)
        self.css.append(cs)
        cs.exchange()
        self.settle()
        if prepare:
            if not self.laboratory:
                cs.challenge()
            cs.acknowledge_resets()
        return cs

    def settle(self) -> None:
        """The end of a wake-up, until nothing is left to do."""
        while True:
            self._flush()
            commands = self.agent.outbox.take_commands()
            self.target.apply(commands)
            self.sent += [each for each in self.target.transmitted() if each[1][0] & 1 == 0]
            for endpoint, octets in self.agent.outbox.take_datagrams():
                self._deliver(endpoint, octets)
            events = self.target.events()
            if not events and not commands:
                break
            self.agent.handle_events(events, self.now)

    def _flush(self) -> None:
        """As a runtime does it.  Where the agent says that nothing but grants and finished messages
        passed, nothing else may have changed."""
        agent, outbox = self.agent, self.agent.outbox
        if outbox.is_steady:
            agent.flush_steadily(self.now)
            done = len(outbox.datagrams), len(outbox.commands)
            agent.flush(self.now)
            assert (len(outbox.datagrams), len(outbox.commands)) == done
            assert agent.get_other_timer() == self._other_timer
            assert not agent.endings.leftovers.stages
        else:
            agent.flush(self.now)
        self._other_timer = agent.get_other_timer()
        outbox.is_steady = not agent.endings.leftovers.stages

    def _deliver(self, endpoint: tuple[str, int], octets: bytes) -> None:
        if not self.deliver_to(endpoint, octets):
            return
        for cs in reversed(self.css):
            if cs.endpoint == endpoint:
                cs.deliver(octets)
                return
        self.undelivered.append((endpoint, octets))

    def advance(self, seconds: float, *, sweep: bool = False) -> None:
        """Let time pass, timer by timer."""
        until = self.now + seconds
        while (timer := self._next_timer()) <= until:
            self.now = max(self.now, timer)
            self.agent.handle_timer(self.now)
            self._keep_alive()
            self.settle()
        self.now = until
        self.agent.handle_timer(self.now)
        if sweep:
            self.sweep()
        self.settle()

    def _next_timer(self) -> float:
        timers = [self.agent.get_timer()]
        timers += [cs.connection.get_timer() for cs in self.css if cs.is_there]
        return min((timer for timer in timers if timer is not None), default=float("inf"))

    def _keep_alive(self) -> None:
        for cs in self.css:
            if cs.is_there:
                cs.connection.handle_timer(self.now)
                cs.exchange()

    def sweep(self, *, stats: bool = False) -> None:
        """A whole pass over the target's table."""
        while not self.target.sweep(4096, stats=stats):
            pass
        self.settle()

    # --- packets -------------------------------------------------------------------------------

    def receive(self, frame: bytes, interface: int = EXTERNAL) -> list[tuple[int, bytes]]:
        """A frame arrives; everything that leaves because of it, the agent's part included."""
        before = len(self.sent)
        self.sent += self.target.receive(interface, frame)
        self.agent.handle_events(self.target.events(), self.now)
        self.settle()
        return self.sent[before:]

    def client_sends(
        self,
        flags: int,
        *,
        client: tuple[bytes, int] = CLIENT,
        vip: tuple[bytes, int] = VIP,
        **fields: Any,
    ) -> list[tuple[int, bytes]]:
        """A TCP segment of a client."""
        packet = tcp_packet(client, vip, flags, **fields)
        return self.receive(framed(packet, ROUTER_MAC, EXTERNAL_MAC))

    def client_sends_udp(
        self,
        payload: bytes = b"x",
        *,
        client: tuple[bytes, int] = CLIENT,
        vip: tuple[bytes, int] = VIP,
    ) -> list[tuple[int, bytes]]:
        """A UDP datagram of a client."""
        return self.receive(framed(udp_packet(client, vip, payload), ROUTER_MAC, EXTERNAL_MAC))

    def node_sends(
        self,
        flags: int,
        *,
        client: tuple[bytes, int] = CLIENT,
        node: tuple[bytes, int] = NODE,
        **fields: Any,
    ) -> list[tuple[int, bytes]]:
        """A TCP segment of a node."""
        packet = tcp_packet(node, client, flags, **fields)
        return self.receive(framed(packet, NODE_MAC, INTERNAL_MAC), INTERNAL)

    def count(self, name: str) -> int:
        return self.agent.outbox.counters[name]


def reply_to(query: Query, **changes: Any) -> Reply:
    """A REPLY that sends the flow to NODE unless told."""
    fields: dict[str, Any] = {
        "flags": TRANSLATE,
        "serial": query.serial,
        **query.signature._asdict(),
        "node_ipaddr": NODE[0],
        "node_port": NODE[1],
        **changes,
    }
    return Reply(**fields)


def newflow_for(serial: int, **changes: Any) -> NewFlow:
    """A NEWFLOW from CLIENT to VIP by NODE unless told."""
    fields: dict[str, Any] = {
        "flags": TRANSLATE,
        "serial": serial,
        "src_ipaddr": CLIENT[0],
        "dst_ipaddr": VIP[0],
        "src_port": CLIENT[1],
        "dst_port": VIP[1],
        "protocol": 6,
        "node_ipaddr": NODE[0],
        "node_port": NODE[1],
        **changes,
    }
    return NewFlow(**fields)


def vs_list(*entries: VsEntry, flags: int = 0) -> VsList:
    """A complete VS_LIST: the web server at VIP unless told."""
    entries = entries or (web_server(),)
    return VsList(flags, len(entries), entries)


def web_server(**changes: Any) -> VsEntry:
    """The virtual server at VIP, TCP, unless told."""
    fields = {"virt_ipaddr": VIP[0], "virt_port": VIP[1], "protocol": 6, **changes}
    return VsEntry(**fields)


def ready_rig(**fields: Any) -> tuple[AgentRig, FakeCs]:
    """A DFS with one CS and the web server at VIP."""
    rig = AgentRig(**fields)
    cs = rig.cs()
    cs.tell(Config())
    cs.tell(vs_list())
    return rig, cs


__all__ = ["AgentRig", "FakeCs", "encode", "newflow_for", "ready_rig", "reply_to", "vs_list"]


def redundant_rig(
    flags: int, *, standby_flags: int | None = None, **fields: Any
) -> tuple[AgentRig, FakeCs, FakeCs]:
    """An active CS with the web server, and a standby; `flags` of their HELLOs."""
    rig = AgentRig(**fields)
    active = rig.cs(1, flags=flags)
    active.tell(Config())
    active.tell(vs_list())
    standby = rig.cs(2, active=False, flags=flags if standby_flags is None else standby_flags)
    return rig, active, standby
