# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about a flow's packets: carried to the end that they concern, and what they quote
translated back, so that this end recognises what it sent (RFC 5508 4.2)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_Redirect
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import FlowEntry, InstallFlow
from ssmb.constants import Flag, ForwardMode
from support.octets import packets
from support.octets.packets import hop, ip_packet, macs, unreachable, wrong_checksums
from support.targets.rig import CLIENT_MAC, NODE_MAC, Side
from support.targets.scene import NAT, Scene, assert_packet, only

KINDS = pytest.mark.parametrize("kind", ["port", "too_big", "time"])

PLAIN: dict[str, Any] = {"flags": int(NAT)}
SPLICED: dict[str, Any] = {
    "flags": int(NAT | Flag.ADD_TCP_OFFSETS),
    "seq_offset": 0x90000001,
    "ack_offset": 0xFFFFFF00,
    "ts_offset": 77,
}


def source_translated(scene: Scene) -> dict[str, Any]:
    flags = int(NAT | Flag.TRANSLATE_SRC)
    return {"flags": flags, "snat_ipaddr": scene.family.snat, "snat_port": 61000}


def rich(scene: Scene, src: tuple[str, int], dst: tuple[str, int]) -> ScapyPacket:
    """A packet with all that an error's receiver looks at (not the options of what is quoted)."""
    payload = random.Random(5).randbytes(48)
    if scene.protocol == packets.UDP_PROTOCOL:
        return scene.segment(src, dst, payload)
    return scene.segment(src, dst, payload, seq=0xFFFFFFF0, ack=5, window=501)


def there_and_delivered(scene: Scene) -> tuple[bytes, bytes]:
    """A packet to the virtual server as the client sent it (a hop on), and as the node got it."""
    sent = rich(scene, scene.client, scene.vip)
    return bytes(hop(sent)), ip_packet(only(scene.send(scene.inbound(sent)), Side.INTERNAL))


def back_and_delivered(scene: Scene, to: tuple[str, int] | None = None) -> tuple[bytes, bytes]:
    """An answer as the node sent it (a hop on), and as the client got it."""
    sent = rich(scene, scene.node, to or scene.client)
    return bytes(hop(sent)), ip_packet(only(scene.send(scene.outbound(sent)), Side.EXTERNAL))


def assert_error(scene: Scene, octets: bytes, expected: ScapyPacket, quoted: bytes) -> None:
    """The error is right, and right is what it quotes: to the octet, checksums included."""
    assert_packet(octets, expected)
    if len(quoted) >= 60:  # whole, not cut
        assert wrong_checksums(quoted) == []
    assert ip_packet(octets).endswith(quoted)
    assert scene.up_calls() == []


@KINDS
@pytest.mark.parametrize("changes", [PLAIN, SPLICED], ids=["plain", "spliced"])
def test_a_nodes_error_reaches_the_client_from_the_virtual_server(
    scene: Scene, changes: dict[str, Any], kind: str
) -> None:
    scene.rig.apply(InstallFlow(scene.entry(**changes)))
    sent, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered, kind)
    octets = only(scene.send(scene.outbound(error)), Side.EXTERNAL)
    assert macs(octets)[0] == CLIENT_MAC
    expected = unreachable(scene.family.vip, scene.family.client, sent, kind)
    assert_error(scene, octets, hop(expected), sent)


@KINDS
@pytest.mark.parametrize("changes", [PLAIN, SPLICED], ids=["plain", "spliced"])
def test_a_clients_error_reaches_the_node(scene: Scene, changes: dict[str, Any], kind: str) -> None:
    scene.rig.apply(InstallFlow(scene.entry(**changes)))
    sent, delivered = back_and_delivered(scene)
    error = unreachable(scene.family.client, scene.family.vip, delivered, kind)
    octets = only(scene.send(scene.inbound(error)), Side.INTERNAL)
    assert macs(octets)[0] == NODE_MAC
    expected = unreachable(scene.family.client, scene.family.node, sent, kind)
    assert_error(scene, octets, hop(expected), sent)


def test_with_source_translation_both_ends_see_whom_they_talk_to(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry(**source_translated(scene))))
    family = scene.family
    sent, delivered = there_and_delivered(scene)
    error = unreachable(family.node, family.snat, delivered, "port")
    octets = only(scene.send(scene.outbound(error)), Side.EXTERNAL)
    assert_error(scene, octets, hop(unreachable(family.vip, family.client, sent, "port")), sent)
    sent, delivered = back_and_delivered(scene, to=(family.snat, 61000))
    error = unreachable(family.client, family.vip, delivered, "port")
    octets = only(scene.send(scene.inbound(error)), Side.INTERNAL)
    assert_error(scene, octets, hop(unreachable(family.snat, family.node, sent, "port")), sent)


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "source translated"])
def test_a_router_before_the_client_keeps_its_own_address(scene: Scene, hidden: bool) -> None:
    """Path MTU discovery and traceroute of the nodes: the error comes from the way."""
    family = scene.family
    scene.rig.apply(InstallFlow(scene.entry(**(source_translated(scene) if hidden else PLAIN))))
    sent, delivered = back_and_delivered(scene, (family.snat, 61000) if hidden else scene.client)
    error = unreachable(family.gateway, family.vip, delivered, "too_big")
    octets = only(scene.send(scene.inbound(error)), Side.INTERNAL)
    expected = unreachable(family.gateway, family.node, sent, "too_big")
    assert_error(scene, octets, hop(expected), sent)


def test_a_router_before_the_node_is_not_shown_to_the_client(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    family = scene.family
    sent, delivered = there_and_delivered(scene)
    error = unreachable(family.firewall, family.client, delivered, "too_big")
    octets = only(scene.send(scene.outbound(error)), Side.EXTERNAL)
    expected = unreachable(family.vip, family.client, sent, "too_big")
    assert_error(scene, octets, hop(expected), sent)


@pytest.mark.parametrize("quoted", [8, 9, 12, 16, 17, 18, 19, 20, 21, 32])
def test_however_little_is_quoted(tcp_scene: Scene, quoted: int) -> None:
    """Addresses, ports and sequence number are always there (RFC 792), and what is there is
    translated; a checksum that covers more than that cannot be right."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry(**SPLICED)))
    head = 20 if scene.family.is_ipv4 else 40
    sent, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered[: head + quoted], "port")
    found = ip_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL))
    assert wrong_checksums(found) == []
    assert len(found) == len(bytes(error))
    certain = head + (quoted if quoted >= 20 else 8)  # 20: the whole TCP header
    assert found[-head - quoted :][:certain] == sent[:certain]


@pytest.mark.parametrize("quoted", [18, 19])
def test_a_checksum_that_is_quoted_is_translated(tcp_scene: Scene, quoted: int) -> None:
    """The header ends behind it: only its urgent pointer, or half of it, is missing."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    head = 20 if scene.family.is_ipv4 else 40
    sent, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered[: head + quoted], "port")
    found = ip_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL))
    assert wrong_checksums(found) == []
    assert found[-head - quoted :] == sent[: head + quoted]


def test_an_error_is_none_of_the_flows_packets(tcp_scene: Scene) -> None:
    """It neither counts nor keeps the flow alive nor ends it, whatever it quotes (RFC 5508 4.2)."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.to_vip(flags="R", seq=5)
    delivered = hop(scene.segment(scene.client, scene.node, flags="R", seq=5))
    error = unreachable(scene.family.node, scene.family.client, bytes(delivered), "port")
    octets = only(scene.send(scene.outbound(error)), Side.EXTERNAL)
    expected = unreachable(scene.family.vip, scene.family.client, bytes(hop(sent)), "port")
    assert_packet(octets, hop(expected))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.counters, state.tcp_flags, state.closing) == ((0, 0, 0, 0), 0, False)
    assert scene.rig.events() == []


def test_an_error_about_no_flow_is_routed(scene: Scene) -> None:
    family = scene.family
    quoted = bytes(scene.segment((family.client, 9), (family.node, 9), b"nobody's"))
    error = unreachable(family.node, family.client, quoted, "port")
    assert_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL), hop(error))
    assert scene.up_calls() == []


def test_a_damaged_error_is_not_healed(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    _, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered, "port")
    octets = bytearray(bytes(error))
    octets[-1] ^= 0x20
    out = scene.send(scene.outbound(bytes(octets)))
    for _, frame in out:  # dropped, or handed on as damaged as it came
        assert wrong_checksums(ip_packet(frame)) != []


def test_an_error_that_goes_no_further_is_answered_by_none(scene: Scene) -> None:
    """No errors about errors (RFC 1122 3.2.2, RFC 4443 2.4)."""
    scene.rig.apply(InstallFlow(scene.entry()))
    _, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered, "port")
    error[0].setfieldval("ttl" if scene.family.is_ipv4 else "hlim", 1)
    assert scene.send(scene.outbound(error)) == []
    nobodys = bytes(scene.segment((scene.family.client, 9), (scene.family.node, 9)))
    error = unreachable(scene.family.node, scene.family.client, nobodys, "port")
    error[0].setfieldval("ttl" if scene.family.is_ipv4 else "hlim", 1)
    assert scene.send(scene.outbound(error)) == []


def test_a_redirect_concerns_its_own_link(scene: Scene) -> None:
    """It names a router that the other end does not have (RFC 792, RFC 4861 8)."""
    scene.rig.apply(InstallFlow(scene.entry()))
    _, delivered = there_and_delivered(scene)
    family = scene.family
    header = packets.ip(family.firewall, family.client, ttl=64)
    if family.is_ipv4:
        redirect = header / ICMP(type=5, code=1, gw=family.node2) / delivered
    else:
        redirect = header / ICMPv6ND_Redirect(tgt=family.node2, dst=family.client) / delivered
    for _, frame in scene.send(scene.outbound(redirect)):
        assert ip_packet(frame) == bytes(hop(redirect))  # routed at most, never translated


def shows_unreadable(scene: Scene) -> bool:
    """Whether this target lets no node's error out that says too little."""
    return "drop_icmp_unreadable" in scene.values()


@pytest.mark.parametrize("cut", [0, 1, 19, 20, 27, 40, 47])
def test_a_nodes_error_that_quotes_too_little_is_dropped(scene: Scene, cut: int) -> None:
    """It cannot be told whom it concerns, and it has the node's address."""
    if cut > 27 and scene.family.is_ipv4:
        pytest.skip("of IPv6 alone")
    scene.rig.apply(InstallFlow(scene.entry()))
    _, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered[:cut], "port")
    before = scene.values()
    out = scene.send(scene.outbound(error))
    if shows_unreadable(scene):
        assert out == []
        counted = scene.values()["drop_icmp_unreadable"] - before["drop_icmp_unreadable"]
        assert counted == 1
    for side, frame in out:  # nothing may be made up
        assert side is Side.EXTERNAL
        assert ip_packet(frame) == bytes(hop(error))


def test_an_error_about_a_later_fragment_names_no_flow(scene: Scene) -> None:
    if not shows_unreadable(scene):
        pytest.skip("a switch's program routes it")
    scene.rig.apply(InstallFlow(scene.entry()))
    family = scene.family
    long = scene.segment((family.client, 9), (family.node, 9), bytes(1400))
    later = bytes(packets.fragments(long, 512)[1])
    error = unreachable(family.node, family.client, later[:500], "time")
    before = scene.values()
    assert scene.send(scene.outbound(error)) == []
    assert scene.values()["drop_icmp_unreadable"] == before["drop_icmp_unreadable"] + 1


def test_what_says_too_little_is_routed_where_it_shows_no_node(scene: Scene) -> None:
    """From outside it has the addresses of those outside; about ICMP it is about no flow."""
    family = scene.family
    error = unreachable(family.client, family.node, b"too short", "port")
    assert_packet(only(scene.send(scene.inbound(error)), Side.INTERNAL), hop(error))
    echo = ICMP(type=8, id=7, seq=1) if family.is_ipv4 else ICMPv6EchoRequest(id=7, seq=1)
    request = packets.ip(family.client, family.node, ttl=64) / echo / b"are you there"
    error = unreachable(family.node, family.client, bytes(request), "port")
    assert_packet(only(scene.send(scene.outbound(error)), Side.EXTERNAL), hop(error))


def test_direct_return_hands_a_routers_error_to_the_client(scene: Scene) -> None:
    """A router between us and an L2 node quotes the client's own packet."""
    entry: FlowEntry = scene.entry(
        flags=int(Flag.ROUTE_BY_DST_IP), forward_mode=int(ForwardMode.L2)
    )
    scene.rig.apply(InstallFlow(entry))
    sent, delivered = there_and_delivered(scene)
    assert sent == delivered
    error = unreachable(scene.family.firewall, scene.family.client, delivered, "too_big")
    octets = only(scene.send(scene.outbound(error)), Side.EXTERNAL)
    assert_error(scene, octets, hop(error), sent)


def test_echo_requests_are_routed(scene: Scene) -> None:
    family = scene.family
    scene.rig.apply(InstallFlow(scene.entry()))
    echo = ICMP(type=8, id=7, seq=1) if family.is_ipv4 else ICMPv6EchoRequest(id=7, seq=1)
    request = packets.ip(family.client, family.node, ttl=64) / echo / b"are you there"
    assert_packet(only(scene.send(scene.inbound(request)), Side.INTERNAL), hop(request))


def test_an_error_in_fragments_is_not_half_translated(scene: Scene) -> None:
    """Nobody has to fragment an error (576 or 1280 octets at most).  Its later fragments do not say
    which flow it is about."""
    scene.rig.apply(InstallFlow(scene.entry()))
    _, delivered = there_and_delivered(scene)
    error = unreachable(scene.family.node, scene.family.client, delivered + bytes(400), "port")
    first, *later = packets.fragments(error, 256)
    before = scene.values()
    assert scene.send(scene.outbound(first)) == []
    after = scene.values()
    assert after["drop_fragment"] == before["drop_fragment"] + 1
    assert after["icmp_translated"] == before["icmp_translated"]
    if shows_unreadable(scene):
        assert [out for each in later for out in scene.send(scene.outbound(each))] == []
        assert scene.values()["drop_fragment"] == after["drop_fragment"] + len(later)


def test_an_unreadable_error_in_fragments_does_not_leave_in_part(scene: Scene) -> None:
    if not shows_unreadable(scene):
        pytest.skip("a switch's program routes it")
    family = scene.family
    error = unreachable(family.node, family.client, b"\x45" + bytes(400), "port")
    before = scene.values()
    for each in packets.fragments(error, 256):
        assert scene.send(scene.outbound(each)) == []
    after = scene.values()
    assert after["drop_icmp_unreadable"] == before["drop_icmp_unreadable"] + 1
    assert after["drop_fragment"] > before["drop_fragment"]


def test_a_nodes_long_ping_is_routed_in_fragments(scene: Scene) -> None:
    family = scene.family
    echo = ICMP(type=8, id=7, seq=1) if family.is_ipv4 else ICMPv6EchoRequest(id=7, seq=1)
    request = packets.ip(family.node, family.far_client, ttl=64) / echo / bytes(600)
    for each in packets.fragments(request, 256):
        octets = only(scene.send(scene.outbound(each)), Side.EXTERNAL)
        assert ip_packet(octets) == bytes(hop(each))
