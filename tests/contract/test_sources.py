# SPDX-License-Identifier: Apache-2.0
"""Which packets may begin a flow, by their addresses, and that no flow leads back to the target."""

from __future__ import annotations

import pytest
from scapy.layers.inet import (
    IP,
    UDP,
    IPOption_EOL,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_SSRR,
)
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6, IPv6ExtHdrRouting
from scapy.layers.l2 import Ether

from data_flow_segment.targets.contract import AddVirtualServer, InstallFailed, InstallFlow
from ssmb.constants import Flag
from support.octets.packets import (
    TCP_PROTOCOL,
    UDP_PROTOCOL,
    hop,
    solicitation,
    udp,
    unreachable,
)
from support.targets.rig import CLIENT_MAC, IPV4, IPV6, Frame, Rig, Side
from support.targets.scene import NAT, Scene, assert_packet, only

MARTIANS = {
    "ipv4": (
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.9",
        "224.0.0.5",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
    ),
    "ipv6": ("::", "::1", "ff02::1", "ff0e::7", "fe80::7", "febf::1"),
}
GROUPS = {
    "ipv4": ("224.0.0.251", "239.1.2.3", "255.255.255.255", "192.0.2.255", "127.0.0.1"),
    "ipv6": ("ff02::fb", "ff0e::7", "fe80::7", "::1"),
}


def counted(scene: Scene, name: str, before: dict[str, int]) -> int:
    return scene.values()[name] - before[name]


def snapshot(scene: Scene) -> dict[str, int]:
    return dict(scene.values())


def assert_still_served(scene: Scene) -> None:
    """An honest client's packet comes up."""
    scene.send(scene.inbound(scene.to_vip()))
    assert len(scene.up_calls()) == 1


def test_no_flow_begins_with_a_source_that_cannot_be(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = snapshot(scene)
    martians = MARTIANS[scene.family.name]
    for source in martians:
        forged = scene.segment((source, 53), scene.vip, b"x", flags="S")
        assert scene.send(scene.inbound(forged)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_martian", before) == len(martians)
    assert_still_served(scene)


def test_no_flow_begins_with_an_address_of_ours(scene: Scene) -> None:
    """The worst fault found: one datagram from a virtual address to another one circulated."""
    family = scene.family
    scene.rig.apply(
        AddVirtualServer(scene.server()),
        AddVirtualServer(scene.server(scene.key(family.other_vip))),
    )
    before = snapshot(scene)
    ours = (family.vip, family.other_vip, family.external, family.internal)
    for source in ours:
        for target in (family.vip, family.other_vip):
            forged = scene.segment((source, 80), (target, 80), b"x", flags="S")
            assert scene.send(scene.inbound(forged)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_own_source", before) == 2 * len(ours)
    assert_still_served(scene)


def test_a_packet_from_a_virtual_address_is_not_routed_either(scene: Scene) -> None:
    """Its answer would be for the virtual server."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = snapshot(scene)
    forged = scene.segment((scene.family.vip, 80), (scene.family.node, 7), b"x")
    assert scene.send(scene.inbound(forged)) == []
    assert counted(scene, "drop_own_source", before) == 1


@pytest.mark.parametrize("where", ["vip", "other_vip", "external", "internal"])
@pytest.mark.parametrize("end", ["client", "node", "next hop"])
def test_no_flow_is_installed_whose_end_is_the_target_itself(
    scene: Scene, where: str, end: str
) -> None:
    scene.rig.apply(
        AddVirtualServer(scene.server()),
        AddVirtualServer(scene.server(scene.key(scene.family.other_vip))),
    )
    before = snapshot(scene)
    ours = getattr(scene.family, where)
    if end == "client":
        entry = scene.entry(signature=scene.signature(client=(ours, 4000)))
    elif end == "node":
        entry = scene.entry(node_ipaddr=ours)
    else:
        flags = int(NAT) & ~int(Flag.ROUTE_BY_DST_IP)
        entry = scene.entry(flags=flags, next_hop_ipaddr=ours)
    scene.rig.apply(InstallFlow(entry))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert failed.entry == entry
    assert not failed.table_full
    assert end in failed.reason
    assert scene.rig.target.flow_count() == 0
    assert counted(scene, "install_looping", before) == 1


@pytest.mark.parametrize("mode", [1, 2], ids=["l2", "tunnel"])
def test_nor_one_that_leaves_the_destination_alone(scene: Scene, mode: int) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.rig.apply(InstallFlow(scene.entry(forward_mode=mode, node_ipaddr=scene.family.vip)))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)


def test_a_flow_may_be_translated_to_come_from_a_virtual_address(scene: Scene) -> None:
    """What the internal side opens may leave with a virtual address as its source."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    flags = NAT | Flag.TRANSLATE_SRC
    entry = scene.entry(flags=int(flags), snat_ipaddr=scene.family.vip, snat_port=5000)
    scene.rig.apply(InstallFlow(entry))
    assert scene.rig.events() == []
    only(scene.send(scene.inbound(scene.to_vip())), Side.INTERNAL)


@pytest.mark.parametrize("port", [80, None], ids=["port", "any port"])
def test_a_wildcard_catches_no_broadcast_and_no_multicast(scene: Scene, port: int | None) -> None:
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, port))))
    for group in GROUPS[scene.family.name]:
        scene.send(scene.inbound(scene.segment(scene.client, (group, 80), b"x")))
    assert scene.up_calls() == []


GROUP_MACS = ("01005e0000fb", "333300000001", "ffffffffffff")


def from_group(frame: Frame, mac: str) -> Frame:
    side, octets = frame
    return side, octets[:6] + bytes.fromhex(mac) + octets[12:]


@pytest.mark.parametrize("port", [80, 81], ids=["served", "unserved"])
def test_no_flow_begins_and_no_answer_goes_to_several_stations(scene: Scene, port: int) -> None:
    """IEEE 802.3 3.2.3: no frame comes from them."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = snapshot(scene)
    frame = scene.inbound(scene.segment(scene.client, (scene.family.vip, port), flags="S"))
    for mac in GROUP_MACS:
        assert scene.send(from_group(frame, mac)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_group_source", before) == len(GROUP_MACS)


def test_no_error_goes_to_several_stations(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    expired = scene.inbound(scene.to_vip(b"traceroute", ip_fields={"ttl": 1}))
    out = scene.send(*(from_group(expired, mac) for mac in GROUP_MACS))
    assert [octets.hex() for _, octets in out if octets[0] & 1] == []


def test_no_flow_begins_with_all_hosts_of_a_network(rig: Rig) -> None:
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    before = snapshot(scene)
    for source in ("192.0.2.255", "10.1.0.255"):
        for port in (80, 81):
            forged = scene.segment((source, 53), (IPV4.vip, port), b"x")
            assert scene.send(scene.inbound(forged)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_martian", before) == 4


@pytest.mark.parametrize("address", ["vip", None], ids=["address", "any address"])
def test_a_frame_to_all_stations_begins_no_flow(scene: Scene, address: str | None) -> None:
    """RFC 1122 3.3.6: it is not for one host, whatever the IP header says."""
    wanted = None if address is None else scene.family.vip
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(wanted))))
    side, octets = scene.inbound(scene.to_vip())
    for group in ("ffffffffffff", "01005e0000fb", "333300000001"):
        assert scene.send((side, bytes.fromhex(group) + octets[6:])) == []
    assert scene.up_calls() == []


def test_what_a_host_without_an_address_asks_is_left_to_the_kernel(rig: Rig) -> None:
    """DHCP has no source address yet."""
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server(scene.key(None, None))))
    before = snapshot(scene)
    discover = udp(("0.0.0.0", 68), ("255.255.255.255", 67), b"discover")
    _, octets = scene.inbound(discover)
    assert scene.send((Side.EXTERNAL, bytes.fromhex("ffffffffffff") + octets[6:])) == []
    assert scene.up_calls() == []
    assert scene.dropped_since(before) == 0


def test_a_host_that_is_about_to_take_a_virtual_address_is_answered(rig: Rig) -> None:
    """Duplicate address detection has no source address either."""
    scene = Scene(rig, IPV6, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    question = bytes(solicitation(CLIENT_MAC, "::", IPV6.vip))
    reply = Ether(only(scene.send((Side.EXTERNAL, question)), Side.EXTERNAL))
    assert reply[ICMPv6ND_NA].tgt == IPV6.vip


def test_what_no_router_passes_on_is_not_routed(scene: Scene) -> None:
    passed_by_linux = ("0.1.2.3", "240.0.0.1")  # if its rp_filter is off
    for source in [each for each in MARTIANS[scene.family.name] if each not in passed_by_linux]:
        packet = scene.segment((source, 5), (scene.family.node, 7), b"x")
        out = scene.send(scene.inbound(packet))
        assert [side for side, _ in out if side is Side.INTERNAL] == [], source
    for group in GROUPS[scene.family.name]:
        out = scene.send(scene.outbound(scene.segment(scene.node, (group, 7), b"x")))
        assert [side for side, _ in out if side is Side.EXTERNAL] == [], group


def test_no_flow_begins_with_an_inner_address_from_outside(scene: Scene) -> None:
    """The external interface has rp_filter=1, or what corresponds to it."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = snapshot(scene)
    inner = (scene.family.node, scene.family.firewall)
    for source in inner:
        forged = scene.segment((source, 80), scene.vip, b"x", flags="S")
        assert scene.send(scene.inbound(forged)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_reverse_path", before) == len(inner)
    for source in (scene.family.far_client, scene.family.client):
        scene.send(scene.inbound(scene.segment((source, 80), scene.vip, b"x", flags="S")))
    assert len(scene.up_calls()) == 2


def mapped(address: str) -> str:
    return f"::ffff:{address}"


@pytest.mark.parametrize("which", ["source", "destination", "both"])
def test_ipv6_frames_with_ipv4_addresses_match_nothing(rig: Rig, which: str) -> None:
    """They would be an IPv4 flow's by their key, and write its cached route."""
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    before = snapshot(scene)
    src = mapped(IPV4.client) if which != "destination" else IPV6.client
    dst = mapped(IPV4.vip) if which != "source" else IPV6.vip
    forged = scene.segment((src, scene.client[1]), (dst, 80), b"x")
    back = scene.segment((mapped(IPV4.node), 8080), (mapped(IPV4.client), 40000), b"x")
    assert scene.send(scene.inbound(forged), scene.outbound(back)) == []
    assert counted(scene, "drop_mapped", before) == 2
    octets = only(scene.send(scene.inbound(scene.to_vip(b"good"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"good")))
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 1


def test_nobody_has_a_mapped_address(rig: Rig) -> None:
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    question = bytes(solicitation(CLIENT_MAC, IPV6.client, mapped(IPV4.vip)))
    assert scene.send((Side.EXTERNAL, question)) == []


def test_an_error_about_a_mapped_packet_is_no_flows(rig: Rig) -> None:
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    rig.apply(InstallFlow(scene.entry()))
    before = snapshot(scene)
    quoted = bytes(
        IPv6(src=mapped(IPV4.client), dst=mapped(IPV4.node)) / UDP(sport=40000, dport=8080)
    )
    scene.send(scene.outbound(unreachable(IPV6.node, IPV6.client, quoted, "port")))
    assert counted(scene, "icmp_translated", before) == 0


def source_routed(scene: Scene, *, last: bool) -> list[bytes]:
    """To the virtual address, by routers of the sender's choice; `last`: all are passed."""
    segment = scene.to_vip(b"x")
    if not scene.family.is_ipv4:
        header = IPv6ExtHdrRouting(
            type=0, segleft=0 if last else 1, addresses=[scene.family.far_client]
        )
        packet = segment[IPv6].copy()
        packet.remove_payload()
        return [bytes(packet / header / segment[IPv6].payload)]
    routes = [IPOption_LSRR, IPOption_SSRR]
    pointer = 8 if last else 4
    packets = []
    for option in routes:
        packet = segment.copy()
        packet[IP].options = [option(routers=[scene.family.far_client], pointer=pointer)]
        packet[IP].ihl = packet[IP].len = packet[IP].chksum = None
        packets.append(bytes(packet))
    return packets


@pytest.mark.parametrize("is_installed", [False, True], ids=["new", "flow"])
def test_a_source_routed_packet_reaches_no_virtual_server(
    scene: Scene, *, is_installed: bool
) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    if is_installed:
        scene.rig.apply(InstallFlow(scene.entry()))
    before = snapshot(scene)
    packets = source_routed(scene, last=False)
    for packet in packets:
        assert scene.send(scene.inbound(packet)) == []
    assert scene.up_calls() == []
    assert counted(scene, "drop_source_routed", before) == len(packets)


def test_a_used_up_route_of_the_senders_is_dropped_in_ipv4_alone(scene: Scene) -> None:
    """An IPv4 host may send its answer back the same way (RFC 1122 3.2.1.8), which a stranger
    chose; in IPv6 nobody does."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    for packet in source_routed(scene, last=True):
        scene.send(scene.inbound(packet))
    assert len(scene.up_calls()) == (0 if scene.family.is_ipv4 else 1)


def test_other_ip_options_are_no_source_route(rig: Rig) -> None:
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()))
    kinds = ([IPOption_Router_Alert()], [IPOption_NOP(), IPOption_NOP(), IPOption_EOL()])
    for options in kinds:
        scene.send(
            scene.inbound(udp(scene.client, scene.vip, b"x", ip_fields={"options": options}))
        )
    assert len(scene.up_calls()) == len(kinds)
