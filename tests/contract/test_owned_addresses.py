# SPDX-License-Identifier: Apache-2.0
"""A virtual address is the target's own beyond the ports of its virtual servers: it answers there,
and routes nothing, which would come back from the router."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    PacketReason,
    RemoveVirtualServer,
    SetAnswers,
    SetLocalAddresses,
    SetOutboundQuery,
)
from ssmb.addresses import from_text
from support.octets.packets import (
    TCP_PROTOCOL,
    UDP_PROTOCOL,
    fragments,
    ip,
    ip_packet,
    macs,
    unreachable,
    wrong_checksums,
)
from support.targets.rig import CLIENT_MAC, TARGET_MAC, Family, Rig, Side
from support.targets.scene import Scene, only


@pytest.fixture
def owner(rig: Rig, family: Family) -> Scene:
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    return scene


def ping(
    scene: Scene, source: str = "", payload: bytes = b"how are you", **ip_fields: int
) -> ScapyPacket:
    header = ip(source or scene.family.client, scene.family.vip, **{"ttl": 9, **ip_fields})
    if scene.family.is_ipv4:
        return header / ICMP(type=8, id=77, seq=3) / Raw(payload)
    return header / ICMPv6EchoRequest(id=77, seq=3, data=payload)


def value(scene: Scene, name: str) -> int:
    return scene.values()[name]


@pytest.mark.parametrize("size", [0, 1, 11, 1400])
def test_a_ping_is_answered(owner: Scene, size: int) -> None:
    family, payload = owner.family, bytes(range(256)) * 6
    before = value(owner, "echo_answered")
    out = owner.send(owner.inbound(ping(owner, family.far_client, payload[:size])))
    octets = only(out, Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert wrong_checksums(ip_packet(octets)) == []
    reply = Ether(octets)
    if family.is_ipv4:
        assert (reply[IP].src, reply[IP].dst, reply[IP].ttl) == (family.vip, family.far_client, 64)
        assert (reply[ICMP].type, reply[ICMP].code) == (0, 0)
        said = reply[ICMP]
    else:
        assert (reply[IPv6].src, reply[IPv6].dst) == (family.vip, family.far_client)
        assert reply[IPv6].hlim == 64
        said = reply[ICMPv6EchoReply]
    assert (said.id, said.seq) == (77, 3)
    assert ip_packet(octets)[-size:] == payload[:size] or size == 0
    assert value(owner, "echo_answered") == before + 1
    assert owner.up_calls() == []


@pytest.mark.parametrize("mac", ["01005e0000fb", "ffffffffffff"])
def test_a_ping_from_several_stations_is_not_answered(owner: Scene, mac: str) -> None:
    """The answer would go to each of them."""
    before = value(owner, "drop_group_source")
    side, octets = owner.inbound(ping(owner))
    assert owner.send((side, octets[:6] + bytes.fromhex(mac) + octets[12:])) == []
    assert value(owner, "drop_group_source") == before + 1


def test_a_ping_whose_time_ends_here_has_arrived(owner: Scene) -> None:
    """A traceroute ends with the address that it looks for."""
    reply = Ether(only(owner.send(owner.inbound(ping(owner, ttl=1))), Side.EXTERNAL))
    assert ICMPv6EchoReply in reply or reply[ICMP].type == 0


def test_a_ping_from_the_nodes_side_is_answered_there(owner: Scene) -> None:
    only(owner.send(owner.outbound(ping(owner, owner.family.node))), Side.INTERNAL)


def test_the_answer_to_a_ping_can_be_switched_off(owner: Scene) -> None:
    owner.rig.apply(SetAnswers(echo=False))
    before = value(owner, "drop_unserved")
    assert owner.send(owner.inbound(ping(owner))) == []
    assert value(owner, "drop_unserved") == before + 1
    owner.rig.apply(SetAnswers())
    only(owner.send(owner.inbound(ping(owner))), Side.EXTERNAL)


def test_a_new_agent_begins_with_answers(owner: Scene) -> None:
    owner.rig.apply(SetAnswers(echo=False))
    with owner.rig.agent_away():
        pass
    only(owner.send(owner.inbound(ping(owner))), Side.EXTERNAL)


def test_a_fragmented_ping_is_neither_answered_nor_routed(owner: Scene) -> None:
    pieces = fragments(ping(owner, payload=bytes(600)), 256)
    assert owner.send(*map(owner.inbound, pieces)) == []


@pytest.mark.parametrize("protocol", [TCP_PROTOCOL, UDP_PROTOCOL], ids=["tcp", "udp"])
@pytest.mark.parametrize("side", list(Side), ids=lambda side: side.value)
def test_what_no_virtual_server_takes_comes_up_to_be_refused(
    owner: Scene, side: Side, protocol: int
) -> None:
    scene = Scene(owner.rig, owner.family, protocol)
    sender = scene.family.client if side is Side.EXTERNAL else scene.family.node
    packet = scene.segment((sender, 4000), (scene.family.vip, 81), b"", flags="S")
    before = scene.values()
    frame = scene.inbound(packet) if side is Side.EXTERNAL else scene.outbound(packet)
    assert scene.send(frame) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.virtual_server) == (PacketReason.UNSERVED, None)
    assert up.frame == frame[1]
    assert up.signature == scene.signature(client=(sender, 4000), vip=(scene.family.vip, 81))
    after = scene.values()
    assert after["drop_unserved"] == before["drop_unserved"] + 1
    assert after["up_calls"] == before["up_calls"]


def test_it_stays_down_where_it_is_only_to_be_dropped(owner: Scene) -> None:
    owner.rig.apply(SetAnswers(unserved=False))
    before = value(owner, "drop_unserved")
    packet = owner.segment(owner.client, (owner.family.vip, 81), flags="S")
    assert owner.send(owner.inbound(packet)) == []
    assert owner.up_calls() == []
    assert value(owner, "drop_unserved") == before + 1


def test_a_virtual_server_on_that_port_takes_it_then(owner: Scene) -> None:
    packet = owner.segment(owner.client, (owner.family.vip, 81), flags="S")
    owner.rig.apply(AddVirtualServer(owner.server(owner.key(port=81))))
    owner.send(owner.inbound(packet))
    assert [up.reason for up in owner.up_calls()] == [PacketReason.NEW_FLOW]
    owner.rig.apply(RemoveVirtualServer(owner.key(port=81)))
    owner.send(owner.inbound(packet))
    assert [up.reason for up in owner.up_calls()] == [PacketReason.UNSERVED]


def test_a_wildcard_takes_it_too(owner: Scene) -> None:
    owner.rig.apply(AddVirtualServer(owner.server(owner.key(address=None, port=None))))
    owner.send(owner.inbound(owner.segment(owner.client, (owner.family.vip, 81), flags="S")))
    assert [up.reason for up in owner.up_calls()] == [PacketReason.NEW_FLOW]


def test_the_nodes_packets_to_it_are_not_asked_about(owner: Scene) -> None:
    owner.rig.apply(SetOutboundQuery(enabled=True))
    packet = owner.segment((owner.family.node, 5000), (owner.family.vip, 81), flags="S")
    owner.send(owner.outbound(packet))
    assert [up.reason for up in owner.up_calls()] == [PacketReason.UNSERVED]


def others(scene: Scene) -> dict[str, ScapyPacket | bytes]:
    """What is neither TCP nor UDP nor a ping."""
    family = scene.family
    quoted = bytes(scene.segment(scene.vip, scene.client, b"x"))
    other = {"proto": 47} if family.is_ipv4 else {"nh": 47}
    return {
        "another protocol": ip(family.client, family.vip, **other) / Raw(bytes(20)),
        "an error about no flow": unreachable(family.far_client, family.vip, quoted, "port"),
    }


@pytest.mark.parametrize("name", ["another protocol", "an error about no flow"])
def test_nothing_to_an_owned_address_is_routed(owner: Scene, name: str) -> None:
    before = value(owner, "drop_unserved")
    packet = others(owner)[name]
    assert owner.send(owner.inbound(packet)) == []
    assert owner.send(owner.outbound(packet)) == []
    assert value(owner, "drop_unserved") == before + 2


def test_where_a_router_owns_the_address_all_is_routed_as_before(rig: Rig, family: Family) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server(answer_arp=False)))
    frames = [scene.inbound(scene.segment(scene.client, (family.vip, 81), flags="S"))]
    frames += [scene.inbound(ping(scene))]
    before = value(scene, "drop_unserved")
    for frame in frames:
        only(scene.send(frame), Side.EXTERNAL)  # by the default route
    assert scene.up_calls() == []
    assert value(scene, "drop_unserved") == before


def test_what_the_kernel_has_too_is_the_kernels(owner: Scene) -> None:
    owner.rig.apply(SetLocalAddresses(frozenset({from_text(owner.family.vip)})))
    before = value(owner, "drop_unserved")
    owner.send(owner.inbound(owner.segment(owner.client, (owner.family.vip, 81), flags="S")))
    owner.send(owner.inbound(ping(owner)))
    assert owner.up_calls() == []
    assert value(owner, "drop_unserved") == before


def test_who_cannot_be_gets_no_answer(owner: Scene) -> None:
    family = owner.family
    sources = [family.vip, family.external, family.node]  # the last is behind the other interface
    sources += ["127.0.0.1", "224.0.0.1"] if family.is_ipv4 else ["::1", "ff02::1", "fe80::9"]
    for source in sources:
        assert owner.send(owner.inbound(ping(owner, source))) == [], source
        packet = owner.segment((source, 7), (family.vip, 81), flags="S")
        assert owner.send(owner.inbound(packet)) == [], source
    assert owner.up_calls() == []


def test_strangers_do_not_decide_how_many_answers_there_are(owner: Scene) -> None:
    """On the kernel's target each processor answers so many: see tests/dataplane."""
    if not owner.rig.moves_time:
        pytest.skip("time goes on while frames are sent")
    syn = owner.inbound(owner.segment(owner.client, (owner.family.vip, 81), flags="S"))
    owner.rig.advance(1.0)
    before = owner.values()
    answered = owner.send(*[owner.inbound(ping(owner))] * 300)
    owner.send(*[syn] * 300)
    assert len(answered) == 100
    assert len(owner.up_calls()) == 100
    after = owner.values()
    assert after["drop_unserved"] == before["drop_unserved"] + 200 + 300
    owner.rig.advance(1.0)
    only(owner.send(owner.inbound(ping(owner))), Side.EXTERNAL)
