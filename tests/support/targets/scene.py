# SPDX-License-Identifier: Apache-2.0
"""What the contract suite's tests say often: packets of the flow under test, its entry, what came
up and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import (
    Command,
    EarlyFragment,
    FlowEntry,
    InstallFlow,
    PacketIn,
    PutBackFragment,
    RemoveFlow,
    RemoveVirtualServer,
    SetAnswers,
    SetLocalAddresses,
    SetOutboundQuery,
    VirtualServerEntry,
    VirtualServerKey,
)
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import Flag
from ssmb.messages import FlowSignature
from support.octets import packets
from support.targets.rig import CLIENT_MAC, NODE_MAC, TARGET_MAC, Family, Frame, Rig, Side

NAT: Final = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP


class Scene:
    """A rig, a family and a protocol: the words that the contract suite's tests are made of."""

    def __init__(self, rig: Rig, family: Family, protocol: int) -> None:
        self.rig = rig
        self.family = family
        self.protocol = protocol
        self.client = (family.client, 40000)
        self.vip = (family.vip, 80)
        self.node = (family.node, 8080)

    # packets

    def inbound(self, packet: ScapyPacket | bytes, vlan: int | None = None) -> Frame:
        """A packet that the client's side sends to the target."""
        mac = TARGET_MAC[Side.EXTERNAL]
        return Side.EXTERNAL, packets.frame(CLIENT_MAC, mac, packet, vlan)

    def outbound(self, packet: ScapyPacket | bytes, vlan: int | None = None) -> Frame:
        """A packet that the nodes' side sends to the target."""
        mac = TARGET_MAC[Side.INTERNAL]
        return Side.INTERNAL, packets.frame(NODE_MAC, mac, packet, vlan)

    def segment(
        self,
        src: tuple[bytes | str, int],
        dst: tuple[bytes | str, int],
        payload: bytes = b"",
        **fields: Any,
    ) -> ScapyPacket:
        return packets.segment(self.protocol, src, dst, payload, **fields)

    def to_vip(self, payload: bytes = b"", **fields: Any) -> ScapyPacket:
        return self.segment(self.client, self.vip, payload, **fields)

    def send(self, *frames: Frame) -> list[Frame]:
        return self.rig.exchange(frames)

    # flows

    def key(self, address: str | None = "", port: int | None = 0) -> VirtualServerKey:
        """The plain virtual server's key, with other parts if told (None: wildcard)."""
        chosen = self.vip[0] if address == "" else address
        return VirtualServerKey(
            None if chosen is None else from_text(chosen),
            self.vip[1] if port == 0 else port,
            self.protocol,
        )

    def server(
        self, key: VirtualServerKey | None = None, *, answer_arp: bool = True, bridged: bool = False
    ) -> VirtualServerEntry:
        return VirtualServerEntry(self.key() if key is None else key, 1, answer_arp, bridged)

    def signature(
        self,
        client: tuple[str, int] | None = None,
        vip: tuple[str, int] | None = None,
        tos: int = 0,
    ) -> FlowSignature:
        (src, src_port), (dst, dst_port) = client or self.client, vip or self.vip
        return FlowSignature(from_text(src), from_text(dst), src_port, dst_port, self.protocol, tos)

    def entry(self, **changes: Any) -> FlowEntry:
        """The plain flow, NAT to the node; addresses may be given as text."""
        fields: dict[str, Any] = {
            "signature": self.signature(),
            "serial": 1001,
            "group_id": 1,
            "flags": int(NAT),
            "node_ipaddr": from_text(self.node[0]),
            "node_port": self.node[1],
            "snat_ipaddr": UNSPECIFIED,
            "snat_port": 0,
            "next_hop_ipaddr": UNSPECIFIED,
            "seq_offset": 0,
            "ack_offset": 0,
            "ts_offset": 0,
            "wscale_shift": 0,
            "forward_mode": 0,
            "idle_timeout_s": 60,
            "opened_ms": 12345,
        }
        for name, value in changes.items():
            given_as_text = name.endswith("_ipaddr") and isinstance(value, str)
            fields[name] = from_text(value) if given_as_text else value
        return FlowEntry(**fields)

    def some_flows(self, count: int) -> list[InstallFlow]:
        """Plain ones, from the client's ports 2000, 2001, ..."""
        clients = [(self.family.client, 2000 + number) for number in range(count)]
        return [InstallFlow(self.entry(signature=self.signature(client=each))) for each in clients]

    # looking

    def up_calls(self) -> list[PacketIn]:
        """The packets that came up; other events are not expected here."""
        events = self.rig.events()
        assert all(isinstance(event, PacketIn) for event in events), events
        return [event for event in events if isinstance(event, PacketIn)]

    def put_back_fragments(self) -> list[Frame]:
        """Early fragments arrive again, as when the agent held them; what comes out then.  Other
        events are not expected here."""
        events = self.rig.events()
        assert all(isinstance(event, EarlyFragment) for event in events), events
        held = [PutBackFragment(event) for event in events if isinstance(event, EarlyFragment)]
        return self.rig.apply(*held)

    def values(self) -> Mapping[str, int]:
        return {name: counter.value for name, counter in self.rig.target.counters().items()}

    def dropped_since(self, before: Mapping[str, int]) -> int:
        """How much the drop counters rose in all."""
        after = self.values()
        return sum(after[name] - before.get(name, 0) for name in after if is_drop(name))


def is_drop(name: str) -> bool:
    """Whether a counter stands for packets that went nowhere."""
    return name.startswith("drop")


def reset(rig: Rig) -> None:
    """Empty a target's tables through the contract, for targets that are costly to build."""
    target = rig.target
    states: list[FlowSignature] = []
    cursor: bytes | None = None
    while True:
        found, cursor = target.scan(cursor, 256)
        states += [state.entry.signature for state in found]
        if cursor is None:
            break
    commands: list[Command] = [RemoveFlow(signature) for signature in states]
    commands += [RemoveVirtualServer(entry.key) for entry in target.virtual_servers()]
    commands += [SetLocalAddresses(frozenset()), SetOutboundQuery(enabled=False), SetAnswers()]
    rig.apply(*commands)
    while not target.sweep(256, stats=True):
        pass
    rig.events()


def only(frames: Sequence[Frame], side: Side) -> bytes:
    """The one frame that came out, on this side."""
    assert [found for found, _ in frames] == [side], describe(frames)
    return frames[0][1]


def describe(frames: Sequence[Frame]) -> str:
    """What came out, for a failing test's reader."""
    lines = [f"{side.value}: {Ether(octets).summary()}" for side, octets in frames]
    return "; ".join(lines) or "nothing came out"


def assert_packet(octets: bytes, expected: ScapyPacket) -> None:
    """The frame carries exactly this IP packet, with right checksums."""
    found, wanted = packets.ip_packet(octets), bytes(expected)
    # the messages are made where it fails: they cost more than the test
    assert packets.wrong_checksums(found) == [], shown(octets)
    assert found == wanted, f"{shown(octets)}\nexpected\n{expected.show2(dump=True)}"


def shown(octets: bytes) -> str:
    """Every field of a frame, a line each."""
    text: str = packets.parsed(octets).show2(dump=True)
    return text
