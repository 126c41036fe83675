# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, the target stays up, makes nothing up, and goes on translating."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import IP, TCP, UDP

from data_flow_segment.targets.contract import AddVirtualServer, InstallFlow
from support.octets.packets import TCP_PROTOCOL, fragments, hop, ip_packet, tcp, unreachable
from support.targets.rig import FAMILIES, IPV4, Frame, Rig, Side
from support.targets.scene import Scene, assert_packet, only


def samples(scene: Scene) -> list[Frame]:
    """A frame of each kind that the target looks into."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2)), ("SAck", (3, 4))]
    fields = {"options": options} if scene.protocol == TCP_PROTOCOL else {}
    rich = scene.segment(scene.client, scene.vip, b"payload", **fields)
    quoted = bytes(hop(scene.segment(scene.client, scene.node, b"payload")))
    error = unreachable(scene.family.node, scene.family.client, quoted, "port")
    pieces = scene.segment(other_client(scene), scene.vip, bytes(100))
    return [
        scene.inbound(rich),
        scene.outbound(scene.segment(scene.node, scene.client, b"payload")),
        scene.outbound(error),
        scene.inbound(rich, vlan=7),
        scene.inbound(rich, vlan=0),
        *map(scene.inbound, fragments(pieces, 64)),
    ]


def other_client(scene: Scene) -> tuple[str, int]:
    """Fragments with a wrong identification are remembered: they shall be no other test's."""
    return scene.family.client + "7", 40000


def flows(scene: Scene) -> list[InstallFlow]:
    other = scene.signature(client=other_client(scene))
    return [InstallFlow(scene.entry()), InstallFlow(scene.entry(signature=other))]


def assert_still_works(scene: Scene) -> None:
    octets = only(scene.send(scene.inbound(scene.to_vip(b"good"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"good")))


def test_frames_that_end_anywhere(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), *flows(scene))
    for side, octets in samples(scene):
        scene.send(*((side, octets[:length]) for length in range(14, len(octets))))
        scene.rig.events()
    assert_still_works(scene)


@pytest.mark.parametrize("seed", range(4))
def test_frames_with_wrong_octets(scene: Scene, seed: int) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), *flows(scene))
    source = random.Random(seed)
    known, frames = samples(scene), list[Frame]()
    for _ in range(150):
        side, octets = source.choice(known)
        damaged = bytearray(octets)
        for _ in range(source.randint(1, 4)):
            damaged[source.randrange(12, len(damaged))] = source.getrandbits(8)
        frames.append((side, bytes(damaged)))
    for begin in range(0, len(frames), 50):
        scene.send(*frames[begin : begin + 50])
        scene.rig.events()
    scene.rig.apply(InstallFlow(scene.entry(serial=7)))
    assert_still_works(scene)


@pytest.mark.parametrize("seed", range(2))
def test_frames_of_nothing_but_noise(rig: Rig, seed: int) -> None:
    source = random.Random(seed)
    scene = Scene(rig, source.choice(FAMILIES), 6)
    rig.apply(InstallFlow(scene.entry()))
    kinds = [b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00", b"\x88\xa8", b"\x12\x34"]
    _, good = scene.inbound(scene.to_vip())
    noise = [
        good[:12] + source.choice(kinds) + source.randbytes(source.randint(1, 200))
        for _ in range(200)
    ]
    rig.exchange((source.choice(list(Side)), octets) for octets in noise)
    rig.events()
    assert_still_works(scene)


def malformed() -> dict[str, bytes]:
    """Packets whose headers contradict each other."""
    scene_client, scene_vip = (IPV4.client, 40000), (IPV4.vip, 80)
    good = tcp(scene_client, scene_vip, "A", b"payload")

    def changed(**fields: int) -> bytes:
        packet = good.copy()
        for name, value in fields.items():
            layer = packet[TCP] if name == "dataofs" else packet[IP]
            layer.setfieldval(name, value)
        return bytes(packet)

    return {
        "IP header of less than 20 octets": changed(ihl=4),
        "IP header longer than the packet": changed(ihl=15, len=48),
        "longer than the frame": changed(len=1000),
        "shorter than its headers": changed(len=30),
        "TCP header of less than 20 octets": changed(dataofs=4),
        "TCP header longer than the packet": changed(dataofs=15),
    }


@pytest.mark.parametrize("name", malformed())
def test_what_contradicts_itself_neither_comes_up_nor_reaches_a_node(rig: Rig, name: str) -> None:
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    out = scene.send(scene.inbound(malformed()[name]))
    rig.apply(InstallFlow(scene.entry()))
    out += scene.send(scene.inbound(malformed()[name]))
    assert scene.up_calls() == []
    assert [side for side, _ in out if side is Side.INTERNAL] == []
    assert_still_works(scene)


def test_a_udp_length_that_contradicts_the_packets_does_not_come_up(udp_scene: Scene) -> None:
    scene = udp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    for length in (0, 7, 9, 500, 65535):
        packet = scene.to_vip(b"payload")
        packet[UDP].len = length
        packet[UDP].chksum = 1 if length else None
        assert scene.send(scene.inbound(packet)) == []
    assert scene.up_calls() == []


def test_a_packet_that_talks_to_itself_makes_no_loop(scene: Scene) -> None:
    """The LAND attack: source and destination alike."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    land = scene.segment(scene.vip, scene.vip, b"", flags="S")
    assert len(scene.send(scene.inbound(land))) <= 1
    for up in scene.up_calls():
        assert ip_packet(up.frame) == bytes(land)
