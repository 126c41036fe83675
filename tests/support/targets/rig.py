# SPDX-License-Identifier: Apache-2.0
"""A target with a network around it: clients on its external side, nodes on its internal side.

A `Rig` is all that the contract suite sees.  What differs between targets (how packets get in and
out, how time passes) is in here and in `support.targets.veth_rig`, never in a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from data_flow_segment.targets.contract import Command, Event, Target
from data_flow_segment.targets.interfaces import Interface, ReversePath, Route
from data_flow_segment.targets.memory import MemoryOptions, MemoryTarget
from packets.parse import parse
from ssmb.addresses import from_text
from support.octets.packets import UDP_PROTOCOL

OWN_PORT: Final = 61019  # of the agent's socket


class Side(Enum):
    """Where a frame goes in or comes out."""

    EXTERNAL = "external"
    INTERNAL = "internal"


Frame = tuple[Side, bytes]

TARGET_MAC: Final = {Side.EXTERNAL: "02:5b:00:00:00:01", Side.INTERNAL: "02:5b:00:00:00:02"}
CLIENT_MAC: Final = "02:5b:00:00:0c:10"  # the clients' and their gateway's
NODE_MAC: Final = "02:5b:00:00:0d:02"
NODE2_MAC: Final = "02:5b:00:00:0d:03"
FIREWALL_MAC: Final = "02:5b:00:00:0d:99"
CS_MAC: Final = "02:5b:00:00:0c:50"


@dataclass(frozen=True)
class Family:
    """The addresses of the network, in one family, as text."""

    name: str
    external_net: str
    external: str  # the target's own
    client: str
    gateway: str
    far_client: str  # behind the gateway
    vip: str
    other_vip: str
    internal_net: str
    internal: str
    node: str
    node2: str
    firewall: str
    snat: str
    cs: str  # on the internal side
    anything: str  # the default route

    @property
    def is_ipv4(self) -> bool:
        return self.name == "ipv4"


IPV4: Final = Family(
    name="ipv4",
    external_net="192.0.2.0/24",
    external="192.0.2.1",
    client="192.0.2.10",
    gateway="192.0.2.254",
    far_client="198.51.100.7",
    vip="203.0.113.10",
    other_vip="203.0.113.20",
    internal_net="10.1.0.0/24",
    internal="10.1.0.1",
    node="10.1.0.2",
    node2="10.1.0.3",
    firewall="10.1.0.99",
    snat="10.1.0.50",
    cs="10.1.0.200",
    anything="0.0.0.0/0",
)
IPV6: Final = Family(
    name="ipv6",
    external_net="2001:db8:1::/64",
    external="2001:db8:1::1",
    client="2001:db8:1::10",
    gateway="2001:db8:1::fe",
    far_client="2001:db8:ffff::7",
    vip="2001:db8:2::10",
    other_vip="2001:db8:2::20",
    internal_net="fd00:1::/64",
    internal="fd00:1::1",
    node="fd00:1::2",
    node2="fd00:1::3",
    firewall="fd00:1::99",
    snat="fd00:1::50",
    cs="fd00:1::200",
    anything="::/0",
)
FAMILIES: Final = (IPV4, IPV6)


def neighbours(family: Family) -> dict[Side, dict[str, str]]:
    """Who is on which side: address -> MAC."""
    return {
        Side.EXTERNAL: {family.client: CLIENT_MAC, family.gateway: CLIENT_MAC},
        Side.INTERNAL: {
            family.node: NODE_MAC,
            family.node2: NODE2_MAC,
            family.firewall: FIREWALL_MAC,
            family.snat: NODE_MAC,
            family.cs: CS_MAC,
        },
    }


class Rig(Protocol):
    """A target in a network, for one test."""

    name: str
    target: Target
    moves_time: bool
    """Whether `advance` costs nothing; where it is a real wait, tests ask for little."""

    def inside(self) -> AbstractContextManager[None]:
        """Where the target is to be used from (a network namespace, if it has one)."""

    def interface(self, side: Side) -> int:
        """The target's own number for the interface on this side."""

    def exchange(self, frames: Iterable[Frame]) -> list[Frame]:
        """Send frames in order; all that comes out, in the order of each side."""

    def apply(self, *commands: Command) -> list[Frame]:
        """Carry out commands; what comes out because of them."""

    def events(self) -> list[Event]:
        """All that happened since the last call."""

    def target_time(self) -> float:
        """The monotonic clock that the target lives by, in seconds."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def sized(self, flow_capacity: int) -> AbstractContextManager[Rig]:
        """Another rig of the same kind whose target has room for so many flows, or a few more
        if its tables come in steps; one is inside."""

    def agent_away(self) -> AbstractContextManager[None]:
        """Let go of the target without detaching it; afterwards a new `target` has adopted it."""

    def close(self) -> None:
        """Leave nothing behind."""


class OffloadRig(Rig, Protocol):
    """One whose target may do by itself what Offload says."""

    def delivered(self) -> list[bytes]:
        """The UDP datagrams to OWN_PORT that came to the agent's socket since the last call; there
        is one from the first call on."""


class MemoryRig:
    """The memory target and a clock that a test moves."""

    name = "memory"
    moves_time = True

    def __init__(self, flow_capacity: int = 4096) -> None:
        self.now = 1000.0
        self._numbers = {Side.EXTERNAL: 1, Side.INTERNAL: 2}
        self.options = MemoryOptions(
            interfaces=tuple(self._interface(side) for side in Side),
            routes=tuple(self._routes()),
            neighbours=self._neighbours(),
            flow_capacity=flow_capacity,
            half_open_timeout_s=1,
            boot_id=4711,
            serial_key=bytes(range(16)),
        )
        self._memory = MemoryTarget(self.options, self._clock)
        self.target: Target = self._memory

    def _clock(self) -> float:
        return self.now

    def _interface(self, side: Side) -> Interface:
        own = [getattr(family, side.value) for family in FAMILIES]
        return Interface(
            number=self._numbers[side],
            name=side.value,
            mac=bytes.fromhex(TARGET_MAC[side].replace(":", "")),
            addresses=tuple(map(from_text, own)),
            external=side is Side.EXTERNAL,
            internal=side is Side.INTERNAL,
            reverse_path=ReversePath.STRICT if side is Side.EXTERNAL else ReversePath.OFF,
        )

    def _routes(self) -> Iterable[Route]:
        for family in FAMILIES:
            yield Route.to(family.external_net, self._numbers[Side.EXTERNAL])
            yield Route.to(family.internal_net, self._numbers[Side.INTERNAL])
            yield Route.to(family.anything, self._numbers[Side.EXTERNAL], family.gateway)

    @staticmethod
    def _neighbours() -> dict[bytes, bytes]:
        return {
            from_text(address): bytes.fromhex(mac.replace(":", ""))
            for family in FAMILIES
            for known in neighbours(family).values()
            for address, mac in known.items()
        }

    def inside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def interface(self, side: Side) -> int:
        return self._numbers[side]

    def _sides(self, frames: Iterable[tuple[int, bytes]]) -> list[Frame]:
        sides = {number: side for side, number in self._numbers.items()}
        return [(sides[number], octets) for number, octets in frames]

    def exchange(self, frames: Iterable[Frame]) -> list[Frame]:
        out: list[Frame] = []
        for side, octets in frames:
            out += self._sides(self._memory.receive(self._numbers[side], octets))
        return out

    def apply(self, *commands: Command) -> list[Frame]:
        self.target.apply(commands)
        return self._sides(self._memory.transmitted())

    def events(self) -> list[Event]:
        return list(self.target.events())

    def target_time(self) -> float:
        return self.now

    def delivered(self) -> list[bytes]:
        frames = list(self._memory.data_path.delivered)
        self._memory.data_path.delivered.clear()
        packets = [packet for packet in map(parse, frames) if packet.protocol == UDP_PROTOCOL]
        return [
            bytes(each.data[each.l4 + 8 : each.l4 + each.word(each.l4 + 4)])
            for each in packets
            if each.ports[1] == OWN_PORT
        ]

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sized(self, flow_capacity: int) -> AbstractContextManager[Rig]:
        return nullcontext(MemoryRig(flow_capacity))

    @contextmanager
    def agent_away(self) -> Iterator[None]:
        self.target.close(detach=False)
        yield
        path = self._memory.data_path
        self._memory = MemoryTarget(path.options, self._clock, data_path=path)
        self.target = self._memory

    def close(self) -> None:
        self.target.close(detach=True)
