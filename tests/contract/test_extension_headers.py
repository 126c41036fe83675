# SPDX-License-Identifier: Apache-2.0
"""IPv6 packets with extension headers are balanced like others, the headers as they are, and so are
errors that quote them (RFC 7045 2.1: a middlebox passes on what it knows to be harmless)."""

from __future__ import annotations

from itertools import combinations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from data_flow_segment.targets.contract import AddVirtualServer, InjectPacket, InstallFlow
from support.octets.packets import TCP_PROTOCOL, UDP_PROTOCOL, hop, ip_packet
from support.targets.rig import IPV6, Rig, Side
from support.targets.scene import Scene, assert_packet, only

HEADERS = {
    "hop-by-hop": lambda: IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"\0\0")]),
    "routing": lambda: IPv6ExtHdrRouting(type=0, segleft=0, addresses=[IPV6.far_client]),
    "destination": lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]),
}
CHAINS = [*((name,) for name in HEADERS), *combinations(HEADERS, 2), tuple(HEADERS)]


@pytest.fixture(params=[TCP_PROTOCOL, UDP_PROTOCOL], ids=["tcp", "udp"])
def scene(request: pytest.FixtureRequest, rig: Rig) -> Scene:
    return Scene(rig, IPV6, request.param)


chains = pytest.mark.parametrize("chain", CHAINS, ids="+".join)


def with_headers(packet: ScapyPacket, chain: tuple[str, ...]) -> ScapyPacket:
    """The packet with these headers between the first one and the transport's, all sums made."""
    changed = packet.copy()
    rest = changed[IPv6].payload
    changed[IPv6].remove_payload()
    del changed[IPv6].nh
    del changed[IPv6].plen
    for name in chain:
        changed = changed / HEADERS[name]()
    return IPv6(bytes(changed / rest))


@chains
def test_a_flow_begins_with_them(scene: Scene, chain: tuple[str, ...]) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(with_headers(scene.to_vip(b"x", flags="S"), chain)))
    (up,) = scene.up_calls()
    assert up.signature == scene.signature()


@chains
def test_a_flows_packets_have_them_both_ways(scene: Scene, chain: tuple[str, ...]) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    out = scene.send(scene.inbound(with_headers(scene.to_vip(b"there"), chain)))
    wanted = with_headers(scene.segment(scene.client, scene.node, b"there"), chain)
    assert ip_packet(only(out, Side.INTERNAL)) == bytes(hop(wanted))
    back = scene.segment(scene.node, scene.client, b"back")
    out = scene.send(scene.outbound(with_headers(back, chain)))
    wanted = with_headers(scene.segment(scene.vip, scene.client, b"back"), chain)
    assert ip_packet(only(out, Side.EXTERNAL)) == bytes(hop(wanted))


@chains
def test_the_packet_that_began_the_flow_is_sent_on(scene: Scene, chain: tuple[str, ...]) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(with_headers(scene.to_vip(b"x", flags="S"), chain)))
    (up,) = scene.up_calls()
    out = scene.rig.apply(InstallFlow(scene.entry()), InjectPacket(up))
    wanted = with_headers(scene.segment(scene.client, scene.node, b"x", flags="S"), chain)
    assert ip_packet(only(out, Side.INTERNAL)) == bytes(hop(wanted))


def error_about(kind: str, src: str, dst: str, quoted: bytes) -> ScapyPacket:
    message = {
        "port": ICMPv6DestUnreach(code=4),
        "too_big": ICMPv6PacketTooBig(mtu=1400),
        "time": ICMPv6TimeExceeded(),
    }[kind]
    return IPv6(src=src, dst=dst) / message / Raw(quoted)


@chains
@pytest.mark.parametrize("kind", ["port", "too_big", "time"])
def test_an_error_that_quotes_them_is_translated(
    scene: Scene, chain: tuple[str, ...], kind: str
) -> None:
    """Otherwise the client saw the node's address, and did not know the packet again."""
    scene.rig.apply(InstallFlow(scene.entry()))
    quoted = bytes(hop(with_headers(scene.segment(scene.client, scene.node, b"there"), chain)))
    known = bytes(hop(with_headers(scene.to_vip(b"there"), chain)))
    error = error_about(kind, scene.family.node, scene.family.client, quoted)
    octets = ip_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL))
    wanted = error_about(kind, scene.family.vip, scene.family.client, known)
    assert octets == bytes(hop(wanted))


@chains
def test_an_error_of_the_clients_side_reaches_the_node(
    scene: Scene, chain: tuple[str, ...]
) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    quoted = bytes(hop(with_headers(scene.segment(scene.vip, scene.client, b"back"), chain)))
    known = bytes(hop(with_headers(scene.segment(scene.node, scene.client, b"back"), chain)))
    error = error_about("too_big", scene.family.far_client, scene.family.vip, quoted)
    octets = ip_packet(only(scene.send(scene.inbound(error)), Side.INTERNAL))
    wanted = error_about("too_big", scene.family.far_client, scene.family.node, known)
    assert octets == bytes(hop(wanted))


def test_a_quoted_first_fragment_behind_other_headers_is_translated(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))

    def first_fragment(packet: ScapyPacket) -> bytes:
        whole = bytes(packet)
        protocol = packet[IPv6].nh
        head = IPv6(src=packet[IPv6].src, dst=packet[IPv6].dst, hlim=63)
        fragment = IPv6ExtHdrFragment(nh=protocol, offset=0, m=1, id=5)
        return bytes(head / HEADERS["hop-by-hop"]() / fragment / Raw(whole[40:]))

    layer = TCP if scene.protocol == TCP_PROTOCOL else UDP
    towards_node = scene.segment(scene.client, scene.node, b"there")
    assert layer in towards_node
    error = error_about(
        "time", scene.family.node, scene.family.client, first_fragment(towards_node)
    )
    octets = ip_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL))
    known = first_fragment(scene.to_vip(b"there"))
    assert octets == bytes(hop(error_about("time", scene.family.vip, scene.family.client, known)))


def test_more_than_are_read_are_no_flows_and_routed(scene: Scene) -> None:
    """A router has no business with them (RFC 8200 4)."""
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, None))))
    packet = with_headers(
        scene.segment((IPV6.far_client, 4000), scene.node, b"x"), ("destination",) * 8
    )
    octets = only(scene.send(scene.inbound(packet)), Side.INTERNAL)
    assert_packet(octets, hop(packet))
