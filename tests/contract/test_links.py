# SPDX-License-Identifier: Apache-2.0
"""A packet's way: hops that run out, tags that stay, MAC addresses that change."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6TimeExceeded
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import AddVirtualServer, InjectPacket, InstallFlow
from support.octets.packets import hop, ip_packet, macs, parsed, vlan_of, wrong_checksums
from support.targets.rig import CLIENT_MAC, NODE_MAC, TARGET_MAC, Frame, Side
from support.targets.scene import Scene, assert_packet, only


def assert_time_exceeded(scene: Scene, octets: bytes, sent: ScapyPacket, own: str) -> None:
    """It comes from the target, to the sender, and quotes what the sender sent."""
    packet = ip_packet(octets)
    error = parsed(octets)
    assert wrong_checksums(packet) == []
    assert (error.src, error.dst) == (own, sent.src)
    if scene.family.is_ipv4:
        assert (error[ICMP].type, error[ICMP].code) == (11, 0)
        quoted = packet[28:]
    else:
        assert error[ICMPv6TimeExceeded].code == 0
        quoted = packet[48:]
    assert len(quoted) >= 28
    assert bytes(sent).startswith(quoted)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_clients_packet_that_may_go_no_further(scene: Scene, ttl: int) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.to_vip(b"traceroute", ip_fields={"ttl": ttl})
    octets = only(scene.send(scene.inbound(sent)), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert_time_exceeded(scene, octets, sent, scene.family.external)


def test_a_nodes_packet_that_may_go_no_further(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.segment(scene.node, scene.client, b"traceroute", ip_fields={"ttl": 1})
    octets = only(scene.send(scene.outbound(sent)), Side.INTERNAL)
    assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert_time_exceeded(scene, octets, sent, scene.family.internal)


def test_one_hop_left_is_enough(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.to_vip(ip_fields={"ttl": 2})
    wanted = scene.segment(scene.client, scene.node, ip_fields={"ttl": 1})
    assert_packet(only(scene.send(scene.inbound(sent)), Side.INTERNAL), wanted)


def tagged(frame: Frame, *tags: bytes) -> Frame:
    """The frame with tags, outermost first."""
    side, octets = frame
    return side, octets[:12] + b"".join(tags) + octets[12:]


def tags_of(octets: bytes) -> bytes:
    end = 12
    while octets[end : end + 2] in (b"\x81\x00", b"\x88\xa8"):
        end += 4
    return octets[12:end]


C_TAG = bytes.fromhex("8100 6007")  # VLAN 7, priority 3
S_TAG = bytes.fromhex("88a8 0064")
PRIORITY = bytes.fromhex("8100 6000")  # no VLAN, priority 3
S_PRIORITY = bytes.fromhex("88a8 e000")

TAGS = pytest.mark.parametrize(
    "tags", [(C_TAG,), (S_TAG,), (S_TAG, C_TAG)], ids=["802.1Q", "802.1ad", "both"]
)
KEPT = pytest.mark.parametrize(
    "tags",
    [(C_TAG,), (S_TAG,), (S_TAG, C_TAG), (PRIORITY,), (S_PRIORITY,), (S_PRIORITY, PRIORITY)],
    ids=["802.1Q", "802.1ad", "both", "priority", "802.1ad priority", "both priority"],
)


def skip_where_vlans_have_interfaces(scene: Scene, *tags: bytes) -> None:
    """A host gives the frames of a VLAN to an interface of their own; a switch keeps their tags."""
    of_vlan = any(int.from_bytes(tag[2:], "big") & 0xFFF for tag in tags)
    if of_vlan and not scene.rig.name.startswith("p4"):
        pytest.skip("frames of a VLAN are its interface's here")


@TAGS
def test_a_frame_of_a_vlan_is_left_to_the_kernel(scene: Scene, tags: tuple[bytes, ...]) -> None:
    """Its answer would lack the tag: the route to the client leads out of an interface without."""
    if scene.rig.name.startswith("p4"):
        pytest.skip("a switch has no interface for each VLAN")
    scene.rig.apply(AddVirtualServer(scene.server()))
    new = tagged(scene.inbound(scene.to_vip()), *tags)
    before = scene.values()
    assert scene.send(new) == []
    assert scene.up_calls() == []
    scene.rig.apply(InstallFlow(scene.entry()))
    back = scene.outbound(scene.segment(scene.node, scene.client, b"y"))
    assert scene.send(new, tagged(back, *tags)) == []
    after = scene.values()
    assert after["tagged"] == before["tagged"] + 3
    assert scene.dropped_since(before) == 0


@KEPT
def test_tags_stay_both_ways(scene: Scene, tags: tuple[bytes, ...]) -> None:
    skip_where_vlans_have_interfaces(scene, *tags)
    scene.rig.apply(InstallFlow(scene.entry()))
    octets = only(scene.send(tagged(scene.inbound(scene.to_vip(b"x")), *tags)), Side.INTERNAL)
    assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert tags_of(octets) == b"".join(tags)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"x")))
    back = scene.segment(scene.node, scene.client, b"y")
    octets = only(scene.send(tagged(scene.outbound(back), *tags)), Side.EXTERNAL)
    assert tags_of(octets) == b"".join(tags)
    assert_packet(octets, hop(scene.segment(scene.vip, scene.client, b"y")))


@KEPT
def test_what_comes_up_has_its_tags_and_keeps_them_when_put_back(
    scene: Scene, tags: tuple[bytes, ...]
) -> None:
    skip_where_vlans_have_interfaces(scene, *tags)
    scene.rig.apply(AddVirtualServer(scene.server()))
    side, octets = tagged(scene.inbound(scene.to_vip(b"x")), *tags)
    scene.send((side, octets))
    (up,) = scene.up_calls()
    assert up.frame == octets
    out = only(scene.rig.apply(InstallFlow(scene.entry()), InjectPacket(up)), Side.INTERNAL)
    assert tags_of(out) == b"".join(tags)
    assert_packet(out, hop(scene.segment(scene.client, scene.node, b"x")))


def test_a_tag_is_no_part_of_the_flow(scene: Scene) -> None:
    skip_where_vlans_have_interfaces(scene, C_TAG)
    scene.rig.apply(InstallFlow(scene.entry()))
    for vlan in (None, 7, 8):
        octets = only(scene.send(scene.inbound(scene.to_vip(), vlan)), Side.INTERNAL)
        assert vlan_of(octets) == vlan
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 3
    assert state.counters.bytes_in == 3 * len(bytes(scene.to_vip()))  # without link headers


def test_a_client_beyond_the_link_is_reached_by_the_gateway(scene: Scene) -> None:
    far = (scene.family.far_client, 7777)
    scene.rig.apply(InstallFlow(scene.entry(signature=scene.signature(client=far))))
    back = scene.segment(scene.node, far, b"beyond the link")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert_packet(octets, hop(scene.segment(scene.vip, far, b"beyond the link")))


def test_a_flow_follows_its_client_to_another_link_address(scene: Scene) -> None:
    """Only IP addresses name a flow: the client's router may change."""
    scene.rig.apply(InstallFlow(scene.entry()))
    side, octets = scene.inbound(scene.to_vip(b"x"))
    other = octets[:6] + bytes.fromhex("025b000000ee") + octets[12:]
    assert_packet(
        only(scene.send((side, other)), Side.INTERNAL),
        hop(scene.segment(scene.client, scene.node, b"x")),
    )


def test_flows_are_matched_on_either_side(scene: Scene) -> None:
    """The sides tell new flows apart, not installed ones: a node may be a client too."""
    inside = (scene.family.node2, 4321)
    entry = scene.entry(signature=scene.signature(client=inside))
    scene.rig.apply(InstallFlow(entry))
    sent = scene.segment(inside, scene.vip, b"from within")
    octets = only(scene.send(scene.outbound(sent)), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(inside, scene.node, b"from within")))
