# SPDX-License-Identifier: Apache-2.0
"""What the program makes of a packet that begins a flow, for a CS over IPv4 and over IPv6: a QUERY
that is right in every octet, or an event, or a drop with its counter (docs/design/0007).

The packets are as odd as a client may send them: TCP and IP options, extension headers, tags,
padding, checksums that are wrong or left to a NIC, lengths of segmentation offload, noise.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from scapy.layers.inet import IP, TCP, IPOption_Timestamp
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.bpf.layout import COUNTERS, NOT_PACKETS
from data_flow_segment.targets.bpf.target import BpfTarget
from data_flow_segment.targets.contract import AddVirtualServer, EarlyFragment, PacketIn
from packets.parse import Kind, MalformedPacket, Packet, parse
from ssmb.constants import PARKED_FRAME_MAX, Flag
from ssmb.serials import derived
from support.octets import packets
from support.octets.packets import TCP_PROTOCOL, UDP_PROTOCOL, fragments, with_destination_options
from support.soak import part
from support.targets.asked_cs import AskedCs
from support.targets.program_run import DROPPED, SENT, ProgramRun
from support.targets.rig import FAMILIES, IPV4, Family, Side
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, opened

pytestmark = [pytest.mark.dataplane, pytest.mark.soak]

FRAMES: Final = part(200_000, 40)  # by each CS
OUTCOMES: Final = frozenset(COUNTERS) - NOT_PACKETS
ETHERNET: Final = 14
SYN, ACK = 2, 16
TCP_OPTIONS: Final[list[tuple[object, object]]] = [
    ("MSS", 1460),
    ("SAckOK", b""),
    ("Timestamp", (7, 0)),
    ("NOP", None),
    ("WScale", 7),
]


class Odd(NamedTuple):
    """A frame, and what its skb would say of segments."""

    octets: bytes
    gso_size: int = 0


@pytest.fixture(scope="module")
def running() -> Iterator[VethRig]:
    with opened("tc") as rig:
        with rig.inside():
            rig.apply(AskedCs(IPV4).offload())  # what it attaches stays until the rig is closed
        yield rig


def scenes(rig: VethRig) -> list[Scene]:
    return [Scene(rig, family, p) for family in FAMILIES for p in (TCP_PROTOCOL, UDP_PROTOCOL)]


# --- odd packets -----------------------------------------------------------------------------


def samples(scene: Scene, dice: random.Random) -> list[bytes]:
    """Frames of packets that begin a flow, none of them wrong."""
    found = []
    for _ in range(60):
        packet = syn(scene, dice)
        if IPv6 in packet and dice.random() < 0.3:
            packet = with_extension(packet, dice)
        elif IP in packet and dice.random() < 0.3:
            packet[IP].options = [*packets.router_alert(), IPOption_Timestamp(flg=0)][
                : dice.randint(1, 2)
            ]
        found.append(scene.inbound(packet, dice.choice([None] * 8 + [0, 7]))[1])
    whole = syn(scene, dice, size=100)
    return found + [scene.inbound(piece)[1] for piece in fragments(whole, 64)]


def syn(scene: Scene, dice: random.Random, size: int | None = None) -> ScapyPacket:
    if size is None:
        size = dice.choice([0, 0, 0, 1, 3, 100, 400, dice.randint(380, 480), 1400])
    client = (scene.family.client, dice.randint(1024, 65535))
    ip_fields = {"tos": dice.randrange(256), "ttl": dice.choice([2, 64, 255])}
    payload = dice.randbytes(size)
    if scene.protocol == UDP_PROTOCOL:
        return scene.segment(client, scene.vip, payload, ip_fields=ip_fields)
    known: list[tuple[object, object]] = [
        ("MSS", 1460),
        ("SAckOK", b""),
        ("Timestamp", (7, 0)),
        ("NOP", None),
        ("WScale", 7),
    ]
    chosen = dice.sample(known, dice.randint(0, len(known)))
    if dice.random() < 0.2:  # of a kind that nobody knows
        chosen.append((dice.randint(200, 252), dice.randbytes(dice.randint(0, 8))))
    return scene.segment(
        client,
        scene.vip,
        payload,
        flags=dice.choice(["S", "S", "S", "SEC"]),
        seq=dice.getrandbits(32),
        options=chosen,
        ip_fields=ip_fields,
    )


def with_extension(packet: ScapyPacket, dice: random.Random) -> ScapyPacket:
    kind = dice.randrange(3)
    if kind == 0:
        return with_destination_options(packet)
    transport = packet[IPv6].payload
    header = packet[IPv6].copy()
    header.remove_payload()
    number = TCP_PROTOCOL if TCP in packet else UDP_PROTOCOL
    if kind == 1:
        options = [PadN(optdata=bytes(dice.choice([4, 12, 20])))]
        return header / IPv6ExtHdrHopByHop(nh=number, options=options) / transport
    return header / IPv6ExtHdrRouting(nh=number, type=4, segleft=0) / transport


def odd(known: list[bytes], count: int) -> Iterator[Odd]:
    """Most as they are; else padded, unfinished, wrong, of several segments, changed, cut."""
    dice = random.Random(9)
    for _ in range(count):
        octets = dice.choice(known)
        kind = dice.randrange(12)
        if kind < 4:
            yield Odd(octets)
        elif kind == 4:
            yield Odd(octets + dice.randbytes(dice.randint(1, 60)))
        elif kind < 7:
            yield Odd(unfinished(octets))
        elif kind == 7:
            yield Odd(octets, dice.choice([100, 536, 1440]))
        elif kind == 8:
            yield Odd(without_length(octets), 1440)
        elif kind == 9:
            yield Odd(octets[: dice.randint(min(54, len(octets)), len(octets))])
        else:
            damaged = bytearray(octets)
            for _ in range(1 + dice.randrange(3)):
                damaged[dice.randrange(12, min(len(damaged), 80))] = dice.getrandbits(8)
            yield Odd(unfinished(bytes(damaged)) if kind == 10 else bytes(damaged))


def without_length(octets: bytes) -> bytes:
    """As long as its length's field cannot say (BIG TCP)."""
    l3 = parse(octets).l3
    at = l3 + (2 if octets[l3] >> 4 == 4 else 4)
    return octets[:at] + bytes(2) + octets[at + 2 :]


# --- what is right ---------------------------------------------------------------------------


class Sums(NamedTuple):
    """The transport checksum of a whole packet."""

    at: int  # in the frame
    field: int
    pseudo: int  # the sum of the pseudo header
    rest: int  # the sum of what it covers, with 0 in the field


def sums(octets: bytes, packet: Packet) -> Sums:
    data = packet.l4
    length = packet.end - data
    if packet.protocol == UDP_PROTOCOL:
        length = struct.unpack_from("!H", octets, data + 4)[0]
    at = data + (16 if packet.protocol == TCP_PROTOCOL else 6)
    covered = octets[data:at] + bytes(2) + octets[at + 2 : data + length]
    head = packet.src + packet.dst + struct.pack("!II", length, packet.protocol)
    if packet.version == 4:
        head = packet.src[12:] + packet.dst[12:] + head[32:]
    field = int.from_bytes(octets[at : at + 2], "big")
    return Sums(at, field, packets.ones_sum(head), packets.ones_sum(covered))


def unfinished(octets: bytes) -> bytes:
    """The same with a checksum that is left to the NIC: only the pseudo header's sum."""
    try:
        packet = parse(octets)
    except MalformedPacket:
        return octets
    if packet.kind is not Kind.TRANSPORT or packet.later_fragment:
        return octets
    made = sums(octets, packet)
    return octets[: made.at] + made.pseudo.to_bytes(2, "big") + octets[made.at + 2 :]


def finished(octets: bytes, packet: Packet) -> tuple[bytes, bool]:
    """A packet's frame as a receiver wants it, and whether its checksum was left to a NIC."""
    made = sums(octets, packet)
    total = packets.ones_sum(struct.pack("!HH", made.pseudo, made.rest))
    right = total ^ 0xFFFF
    if packet.protocol == UDP_PROTOCOL:
        if made.field == 0 and packet.version == 4:
            return octets[: packet.end], False
        right = right or 0xFFFF
    if made.field == right or packets.ones_sum(struct.pack("!HH", made.field, total)) == 0xFFFF:
        return octets[: packet.end], False
    assert made.field == made.pseudo, "a packet with a wrong checksum was asked about"
    return octets[: made.at] + right.to_bytes(2, "big") + octets[made.at + 2 : packet.end], True


def why_not(frame: Odd) -> str:
    """Why the program leaves the question about a frame to the agent; "" if it must not."""
    if frame.gso_size:
        return "segments"
    packet = parse(frame.octets)
    if packet.l3 != ETHERNET:
        return "tagged"
    if packet.later_fragment or packet.first_fragment:
        return "a fragment"
    if packet.end > PARKED_FRAME_MAX:
        return "long"
    if packet.protocol == TCP_PROTOCOL and packet.data[packet.l4 + 13] & (SYN | ACK) != SYN:
        return "no SYN"
    return ""


# --- the test --------------------------------------------------------------------------------


class Trial:
    """Frames to dfs_tc, and what came of each."""

    def __init__(self, rig: VethRig, cs: AskedCs) -> None:
        assert isinstance(rig.target, BpfTarget)
        self.target = rig.target
        self._cs = cs
        self._ifindex = rig.interface(Side.EXTERNAL)
        self._program = ProgramRun(rig.target, "dfs_tc")
        self._before = self._counters()
        self.outcomes: Counter[str] = Counter()
        self.asked: Counter[tuple[int, int, bool]] = Counter()  # version, protocol, unfinished

    def _counters(self) -> dict[str, int]:
        return {name: each.value for name, each in self.target.counters().items()}

    def run(self, frame: Odd) -> None:
        verdict = self._program.run(frame.octets, self._ifindex, frame.gso_size)
        after = self._counters()
        rose = {name: after[name] - self._before[name] for name in OUTCOMES}
        rose = {name: by for name, by in rose.items() if by}
        self._before = after
        ((outcome, by),) = rose.items()
        assert by == 1, rose
        self.outcomes[outcome] += 1
        events = self.target.events()
        if outcome == "asked":
            assert verdict == SENT
            assert not events
            self._check(frame)
        elif outcome == "up_calls":
            assert verdict == DROPPED, "its frame is the agent's now"
            (event,) = events
            assert isinstance(event, PacketIn | EarlyFragment)
            assert why_not(frame)
        elif outcome.startswith("drop"):
            assert verdict == DROPPED

    def _check(self, frame: Odd) -> None:
        assert why_not(frame) == ""
        packet = parse(frame.octets)
        wanted, was_unfinished = finished(frame.octets, packet)
        query = self._cs.read(self._program.out())
        l4, is_tcp = packet.l4, packet.protocol == TCP_PROTOCOL
        tos = wanted[15] if packet.version == 4 else packet.data[14] << 4 & 0xF0 | wanted[15] >> 4
        sequence = int.from_bytes(wanted[l4 + 4 : l4 + 8], "big")
        assert query.signature == (
            packet.src,
            packet.dst,
            *packet.ports,
            packet.protocol,
            tos & 0xFC,
        )
        assert query.flags == Flag.PARKED | Flag.ADDR16
        assert (query.error_code, query.detail) == (0, 0)
        assert query.tcp_flags == (wanted[l4 + 13] if is_tcp else 0)
        assert 0 < query.serial < 1 << 31
        if is_tcp:
            key = self.target.serial_key()
            assert query.serial == derived(key, query.signature.session, sequence)
        interface, parked = self.target.parked(query.frame)
        assert interface == self._ifindex
        assert parked[:8] == bytes(8)
        assert parked[12:] == wanted[12:]
        self.asked[packet.version, packet.protocol, was_unfinished] += 1


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"CS over {family.name}")
def test_each_odd_packet_is_a_right_query_or_comes_up_or_is_dropped(
    rig: VethRig, family: Family
) -> None:
    dice = random.Random(8)
    everything = scenes(rig)
    cs = AskedCs(family)
    rig.apply(*[AddVirtualServer(scene.server()) for scene in everything])
    rig.apply(cs.offload())
    assert rig.target.asking(cs.group_id) == ""
    known = [frame for scene in everything for frame in samples(scene, dice)]
    trial = Trial(rig, cs)
    for frame in odd(known, FRAMES):
        trial.run(frame)
    assert rig.target.flow_count() == 0
    assert trial.asked.keys() == {
        (version, protocol, was_unfinished)
        for version in (4, 6)
        for protocol in (TCP_PROTOCOL, UDP_PROTOCOL)
        for was_unfinished in (False, True)
    }
    assert trial.outcomes["asked"] > FRAMES // 4
    assert trial.outcomes["up_calls"] > FRAMES // 20
    assert {"drop_checksum", "drop_malformed"} <= trial.outcomes.keys()
