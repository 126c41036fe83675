# SPDX-License-Identifier: Apache-2.0
"""Who answers for a virtual server's address on the link: ARP and neighbour discovery (8.5)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from data_flow_segment.targets.contract import AddVirtualServer, InstallFlow, RemoveVirtualServer
from support.octets.packets import (
    TCP_PROTOCOL,
    arp_request,
    hop,
    ip_packet,
    macs,
    solicitation,
    wrong_checksums,
)
from support.targets.rig import CLIENT_MAC, IPV4, IPV6, TARGET_MAC, Frame, Rig, Side
from support.targets.scene import Scene, assert_packet, only

OWN = TARGET_MAC[Side.EXTERNAL]


def question(scene: Scene, wanted: str = "") -> Frame:
    family = scene.family
    wanted = wanted or family.vip
    if family.is_ipv4:
        return Side.EXTERNAL, arp_request(CLIENT_MAC, family.client, wanted)
    return Side.EXTERNAL, bytes(solicitation(CLIENT_MAC, family.client, wanted))


def assert_answer(scene: Scene, octets: bytes, wanted: str = "") -> None:
    family, wanted = scene.family, wanted or scene.family.vip
    assert macs(octets) == (CLIENT_MAC, OWN)
    if family.is_ipv4:
        reply = Ether(octets)[ARP]
        assert (reply.op, reply.hwtype, reply.ptype) == (2, 1, 0x0800)
        assert (reply.hwsrc, reply.psrc) == (OWN, wanted)
        assert (reply.hwdst, reply.pdst) == (CLIENT_MAC, family.client)
        return
    assert wrong_checksums(ip_packet(octets)) == []
    reply = Ether(octets)
    assert (reply[IPv6].src, reply[IPv6].dst, reply[IPv6].hlim) == (wanted, family.client, 255)
    said = reply[ICMPv6ND_NA]
    assert (said.tgt, said.S, said.R) == (wanted, 1, 0)
    assert reply[ICMPv6NDOptDstLLAddr].lladdr == OWN


def test_an_address_of_a_virtual_server_is_answered_for(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    assert_answer(scene, only(scene.send(question(scene)), Side.EXTERNAL))
    assert scene.up_calls() == []


@pytest.mark.parametrize("where", [6, 22], ids=["frame", "sender"])
def test_several_stations_are_not_answered(scene: Scene, where: int) -> None:
    """Who asks is one station, and so is the sender that an ARP request names."""
    if where == 22 and not scene.family.is_ipv4:
        pytest.skip("a solicitation is answered to the frame's source")
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = scene.values()["drop_group_source"]
    side, octets = question(scene)
    asked = bytearray(octets)
    asked[where : where + 6] = bytes.fromhex("01005e0000fb")
    assert scene.send((side, bytes(asked))) == []
    assert scene.values()["drop_group_source"] == before + 1


def test_nobody_solicits_from_a_group_address(rig: Rig) -> None:
    scene = Scene(rig, IPV6, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    asked = bytes(solicitation(CLIENT_MAC, "ff02::7", IPV6.vip))
    assert scene.send((Side.EXTERNAL, asked)) == []


def test_an_address_with_any_port_is_answered_for(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(port=None))))
    assert_answer(scene, only(scene.send(question(scene)), Side.EXTERNAL))


def test_nobody_answers_for_what_is_no_virtual_server(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    assert scene.send(question(scene, scene.family.other_vip)) == []
    assert scene.send(question(scene, scene.family.node)) == []


def test_noarp_is_silent_and_works(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server(answer_arp=False)))
    assert scene.send(question(scene)) == []
    scene.send(scene.inbound(scene.to_vip()))
    assert len(scene.up_calls()) == 1
    scene.rig.apply(InstallFlow(scene.entry()))
    octets = only(scene.send(scene.inbound(scene.to_vip())), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node)))


def test_wildcard_addresses_are_never_answered_for(scene: Scene) -> None:
    scene.rig.apply(
        AddVirtualServer(scene.server(scene.key(address=None))),
        AddVirtualServer(scene.server(scene.key(address=None, port=None))),
    )
    assert scene.send(question(scene)) == []
    assert scene.send(question(scene, scene.family.other_vip)) == []


def test_one_of_several_virtual_servers_that_answers_is_enough(scene: Scene) -> None:
    """They share the address; silence of one must not take it from the other."""
    silent, answers = scene.key(port=443), scene.key(port=80)
    scene.rig.apply(
        AddVirtualServer(scene.server(answers)),
        AddVirtualServer(scene.server(silent, answer_arp=False)),
    )
    assert_answer(scene, only(scene.send(question(scene)), Side.EXTERNAL))
    scene.rig.apply(RemoveVirtualServer(answers))
    assert scene.send(question(scene)) == []


def test_a_removed_virtual_server_is_answered_for_until_the_last_one_goes(scene: Scene) -> None:
    first, second = scene.key(port=80), scene.key(port=443)
    scene.rig.apply(*(AddVirtualServer(scene.server(key)) for key in (first, second)))
    scene.rig.apply(RemoveVirtualServer(first))
    assert_answer(scene, only(scene.send(question(scene)), Side.EXTERNAL))
    scene.rig.apply(RemoveVirtualServer(second))
    assert scene.send(question(scene)) == []


def test_a_virtual_server_that_is_replaced_by_a_silent_one_is_silent(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.rig.apply(AddVirtualServer(scene.server(answer_arp=False)))
    assert scene.send(question(scene)) == []


def test_the_targets_own_address_is_answered_for(scene: Scene) -> None:
    octets = only(scene.send(question(scene, scene.family.external)), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, OWN)


@pytest.fixture
def four(rig: Rig) -> Scene:
    return Scene(rig, IPV4, TCP_PROTOCOL)


@pytest.fixture
def six(rig: Rig) -> Scene:
    return Scene(rig, IPV6, TCP_PROTOCOL)


def test_a_probe_is_answered(four: Scene) -> None:
    """RFC 5227: somebody is about to take the address and must be told."""
    four.rig.apply(AddVirtualServer(four.server()))
    probe = arp_request(CLIENT_MAC, "0.0.0.0", four.family.vip)
    reply = Ether(only(four.send((Side.EXTERNAL, probe)), Side.EXTERNAL))[ARP]
    assert (reply.op, reply.psrc, reply.hwsrc) == (2, four.family.vip, OWN)


def test_other_arp_is_not_answered(four: Scene) -> None:
    four.rig.apply(AddVirtualServer(four.server()))
    vip, client = four.family.vip, four.family.client
    request = bytearray(arp_request(CLIENT_MAC, client, vip))
    reply = bytes(Ether(src=CLIENT_MAC, dst=OWN) / ARP(op=2, psrc=client, pdst=vip))
    other_link = bytes(request[:15]) + b"\x06" + bytes(request[16:])
    assert four.send((Side.EXTERNAL, reply)) == []
    assert four.send((Side.EXTERNAL, other_link)) == []
    assert four.send((Side.EXTERNAL, bytes(request[:-1]))) == []  # its end is missing


@pytest.mark.parametrize("vlan", [0, 7], ids=["priority", "VLAN"])
def test_a_question_with_a_tag_is_answered_with_it(four: Scene, vlan: int) -> None:
    four.rig.apply(AddVirtualServer(four.server()))
    request = arp_request(CLIENT_MAC, four.family.client, four.family.vip, vlan=vlan)
    out = four.send((Side.EXTERNAL, request))
    if vlan and not four.rig.name.startswith("p4"):
        assert out == []  # the VLAN's interface has to answer
        return
    reply = Ether(only(out, Side.EXTERNAL))
    assert reply[Dot1Q].vlan == vlan
    assert (reply[ARP].op, reply[ARP].psrc) == (2, four.family.vip)


def test_duplicate_address_detection_is_answered_to_all(six: Scene) -> None:
    six.rig.apply(AddVirtualServer(six.server()))
    asked = bytes(solicitation(CLIENT_MAC, "::", six.family.vip))
    octets = only(six.send((Side.EXTERNAL, asked)), Side.EXTERNAL)
    assert macs(octets) == ("33:33:00:00:00:01", OWN)
    assert wrong_checksums(ip_packet(octets)) == []
    reply = Ether(octets)
    assert (reply[IPv6].dst, reply[ICMPv6ND_NA].S) == ("ff02::1", 0)


@pytest.mark.parametrize("wrong", [{"hlim": 254}, {"cksum": 0x1234}, {"code": 1}])
def test_solicitations_that_nobody_may_send_are_not_answered(
    six: Scene, wrong: dict[str, int]
) -> None:
    """RFC 4861 7.1.1: from beyond the link, or damaged."""
    six.rig.apply(AddVirtualServer(six.server()))
    asked = bytes(solicitation(CLIENT_MAC, six.family.client, six.family.vip, **wrong))
    assert six.send((Side.EXTERNAL, asked)) == []


def assert_announced(scene: Scene, frames: Sequence[Frame]) -> None:
    """Exactly once, towards the clients."""
    octets = only(frames, Side.EXTERNAL)
    said, family = Ether(octets), scene.family
    assert said.src == OWN
    if family.is_ipv4:
        assert said.dst == "ff:ff:ff:ff:ff:ff"
        assert (said[ARP].psrc, said[ARP].pdst, said[ARP].hwsrc) == (family.vip, family.vip, OWN)
        return
    assert wrong_checksums(ip_packet(octets)) == []
    assert (said.dst, said[IPv6].dst, said[IPv6].hlim) == ("33:33:00:00:00:01", "ff02::1", 255)
    assert (said[ICMPv6ND_NA].tgt, said[ICMPv6ND_NA].S, said[ICMPv6ND_NA].O) == (family.vip, 0, 1)
    assert said[ICMPv6NDOptDstLLAddr].lladdr == OWN


def test_an_address_is_announced_when_it_appears(scene: Scene) -> None:
    """Hosts that knew it at another machine do not wait until they ask again."""
    assert_announced(scene, scene.rig.apply(AddVirtualServer(scene.server())))
    again = scene.rig.apply(
        AddVirtualServer(scene.server()), AddVirtualServer(scene.server(scene.key(port=81)))
    )
    assert again == []
    scene.rig.apply(RemoveVirtualServer(scene.key()), RemoveVirtualServer(scene.key(port=81)))
    assert_announced(scene, scene.rig.apply(AddVirtualServer(scene.server())))


def test_an_address_is_announced_when_it_is_answered_for_at_last(scene: Scene) -> None:
    assert scene.rig.apply(AddVirtualServer(scene.server(answer_arp=False))) == []
    assert scene.rig.apply(AddVirtualServer(scene.server(scene.key(address=None)))) == []
    assert_announced(scene, scene.rig.apply(AddVirtualServer(scene.server())))


def test_an_adopted_address_is_not_announced_again(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    with scene.rig.agent_away():
        pass
    assert scene.rig.exchange(()) == []
