# SPDX-License-Identifier: Apache-2.0
"""What a flow's packets are turned into, in both directions, octet for octet (9.4)."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.packet import Packet as ScapyPacket

from data_flow_segment.targets.contract import FlowEntry, InstallFlow, RemoveFlow
from ssmb.constants import Flag
from support.octets import packets
from support.octets.packets import hop, macs
from support.targets.rig import (
    CLIENT_MAC,
    FAMILIES,
    FIREWALL_MAC,
    IPV4,
    NODE2_MAC,
    NODE_MAC,
    TARGET_MAC,
    Family,
    MemoryRig,
    Rig,
    Side,
)
from support.targets.scene import Scene, assert_packet, only

End = tuple[str, int]


def ends(scene: Scene, entry: FlowEntry) -> tuple[End, End]:
    """Who talks to whom on the node's side: (source, destination) of inbound packets."""
    family, flags = scene.family, entry.flags
    src, dst = scene.client, scene.vip
    if flags & Flag.TRANSLATE_SRC:
        src = (family.snat, entry.snat_port or src[1])
    if flags & Flag.TRANSLATE_ADDR:
        dst = (packets.text(entry.node_ipaddr), dst[1])
    if flags & Flag.TRANSLATE_PORT:
        dst = (dst[0], entry.node_port)
    return src, dst


def next_mac(scene: Scene, entry: FlowEntry) -> str:
    """Whom an inbound packet is handed to."""
    if not entry.flags & Flag.ROUTE_BY_DST_IP:
        return FIREWALL_MAC
    return NODE_MAC if entry.flags & Flag.TRANSLATE_ADDR else CLIENT_MAC


def check_both_ways(scene: Scene, entry: FlowEntry, payload: bytes) -> None:
    """Send a packet each way through the installed entry and compare with what scapy builds."""
    src, dst = ends(scene, entry)
    sent = scene.segment(scene.client, scene.vip, payload)
    wanted = scene.segment(src, dst, payload)
    answered = scene.segment(dst, src, payload[::-1])
    wanted_back = scene.segment(scene.vip, scene.client, payload[::-1])
    leaves = Side.INTERNAL if next_mac(scene, entry) != CLIENT_MAC else Side.EXTERNAL
    octets = only(scene.send(scene.inbound(sent)), leaves)
    assert_packet(octets, hop(wanted))
    assert macs(octets) == (next_mac(scene, entry), TARGET_MAC[leaves])
    octets = only(scene.send(scene.outbound(answered)), Side.EXTERNAL)
    assert_packet(octets, hop(wanted_back))
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])


def entries(scene: Scene) -> list[FlowEntry]:
    """Every combination of the four flags, and both ways to say the source port."""
    bits = (Flag.TRANSLATE_ADDR, Flag.TRANSLATE_PORT, Flag.TRANSLATE_SRC, Flag.ROUTE_BY_DST_IP)
    found = []
    for chosen in itertools.product((False, True), repeat=len(bits)):
        flags = sum(bit for bit, wanted in zip(bits, chosen, strict=True) if wanted)
        for snat_port in (0, 61000):
            changes: dict[str, Any] = {"flags": flags, "next_hop_ipaddr": scene.family.firewall}
            if flags & Flag.TRANSLATE_SRC:
                changes |= {"snat_ipaddr": scene.family.snat, "snat_port": snat_port}
            found.append(scene.entry(**changes))
    return found


def test_every_combination_of_translations_both_ways(scene: Scene) -> None:
    for number, entry in enumerate(entries(scene)):
        scene.rig.apply(InstallFlow(entry._replace(serial=5000 + number)))
        check_both_ways(scene, entry, f"payload {number}".encode())
    assert scene.rig.events() == []


@st.composite
def _flows(draw: st.DrawFn) -> dict[str, Any]:
    port = st.integers(1, 65535)
    return {
        "client_port": draw(port),
        "vip_port": draw(port),
        "node_port": draw(port),
        "snat_port": draw(port),
        "flags": sum(draw(st.sets(st.sampled_from([4, 8, 16, 32])))),
        "payload": draw(st.binary(max_size=64)),
        "tos": draw(st.integers(0, 255)),
    }


def check_random_flow(rig: Rig, family: Family, protocol: int, chosen: dict[str, Any]) -> None:
    scene = Scene(rig, family, protocol)
    scene.client = (family.client, chosen["client_port"])
    scene.vip = (family.vip, chosen["vip_port"])
    changes: dict[str, Any] = {
        "flags": chosen["flags"],
        "node_port": chosen["node_port"],
        "next_hop_ipaddr": family.firewall,
    }
    if chosen["flags"] & Flag.TRANSLATE_SRC:
        changes |= {"snat_ipaddr": family.snat, "snat_port": chosen["snat_port"]}
    entry = scene.entry(**changes)
    rig.apply(InstallFlow(entry))
    check_both_ways(scene, entry, chosen["payload"])
    rig.apply(RemoveFlow(entry.signature))


@given(chosen=_flows(), family=st.sampled_from(FAMILIES), protocol=st.sampled_from([6, 17]))
@settings(max_examples=200)
def test_any_flow_is_translated_exactly_in_memory(
    chosen: dict[str, Any], family: Family, protocol: int
) -> None:
    check_random_flow(MemoryRig(), family, protocol, chosen)


def test_a_sample_of_random_flows_is_translated_exactly(rig: Rig, family: Family) -> None:
    source = random.Random(20260729)
    for _ in range(40):
        chosen = {
            name: source.randint(1, 65535)
            for name in ("client_port", "vip_port", "node_port", "snat_port")
        }
        chosen |= {
            "flags": sum(source.sample([4, 8, 16, 32], source.randint(0, 4))),
            "payload": source.randbytes(source.randint(0, 64)),  # type: ignore[dict-item]
        }
        check_random_flow(rig, family, source.choice((6, 17)), chosen)


def test_nodes_of_two_flows_are_told_apart(scene: Scene) -> None:
    second = (scene.family.far_client, scene.client[1])
    scene.rig.apply(
        InstallFlow(scene.entry()),
        InstallFlow(
            scene.entry(signature=scene.signature(client=second), node_ipaddr=scene.family.node2)
        ),
    )
    octets = only(scene.send(scene.inbound(scene.to_vip())), Side.INTERNAL)
    assert macs(octets)[0] == NODE_MAC
    octets = only(scene.send(scene.inbound(scene.segment(second, scene.vip))), Side.INTERNAL)
    assert macs(octets)[0] == NODE2_MAC
    assert_packet(octets, hop(scene.segment(second, (scene.family.node2, 8080))))
    back = scene.segment((scene.family.node2, 8080), second, b"to afar")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment(scene.vip, second, b"to afar")))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 700, 1399])
def test_payloads_of_every_parity_arrive_whole(scene: Scene, length: int) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    check_both_ways(scene, scene.entry(), random.Random(length).randbytes(length))


def test_a_flow_whose_type_of_service_changes_is_the_same_flow(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry(signature=scene.signature(tos=0x10))))
    for tos in (0, 0x10, 0xB8, 3):
        sent = scene.to_vip(ip_fields={"tos": tos})
        wanted = scene.segment(scene.client, scene.node, ip_fields={"tos": tos})
        assert_packet(only(scene.send(scene.inbound(sent)), Side.INTERNAL), hop(wanted))
    assert scene.up_calls() == []


def test_ip_options_and_extension_headers_stay(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))

    def with_options(src: End, dst: End) -> ScapyPacket:
        segment = packets.tcp(src, dst, payload=b"data")
        if scene.family.is_ipv4:
            segment.options = packets.router_alert()
            return segment
        return packets.with_destination_options(segment)

    octets = only(scene.send(scene.inbound(with_options(scene.client, scene.vip))), Side.INTERNAL)
    assert_packet(octets, hop(with_options(scene.client, scene.node)))


def test_udp_without_a_checksum_stays_without(rig: Rig) -> None:
    """Over IPv4: IPv6 does not allow it (RFC 8200 8.1)."""
    scene = Scene(rig, IPV4, packets.UDP_PROTOCOL)
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.to_vip(b"unsummed", chksum=0)
    wanted = scene.segment(scene.client, scene.node, b"unsummed", chksum=0)
    assert_packet(only(scene.send(scene.inbound(sent)), Side.INTERNAL), hop(wanted))


def checksum_bytes(packet: ScapyPacket) -> bytes:
    raw = bytes(packet)
    start = 20 if raw[0] >> 4 == 4 else 40
    return raw[start + 6 : start + 8]


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff(udp_scene: Scene) -> None:
    """Find the payload whose checksum after the translation is 0, that is 0xffff (RFC 768)."""
    scene = udp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    base = scene.segment(scene.client, scene.node, b"\0\0")
    payload = checksum_bytes(base)
    wanted = scene.segment(scene.client, scene.node, payload)
    assert checksum_bytes(wanted) == b"\xff\xff"
    sent = scene.to_vip(payload)
    assert_packet(only(scene.send(scene.inbound(sent)), Side.INTERNAL), hop(wanted))


def test_a_wrong_checksum_stays_wrong(scene: Scene) -> None:
    """An incremental update must not heal a damaged packet (the receiver would believe it)."""
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = bytearray(bytes(scene.to_vip(b"damaged")))
    sent[-1] ^= 0x40
    octets = only(scene.send(scene.inbound(bytes(sent))), Side.INTERNAL)
    wrong = packets.wrong_checksums(packets.ip_packet(octets))
    assert wrong == [f"transport {scene.protocol}"]


def test_many_packets_keep_their_order_and_are_counted(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    payloads = [bytes([number]) * (number + 1) for number in range(64)]
    out = scene.send(*(scene.inbound(scene.to_vip(payload)) for payload in payloads))
    assert [packets.ip_packet(octets)[-1] for _, octets in out] == list(range(64))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 64
    assert state.counters.bytes_in == sum(len(packets.ip_packet(octets)) for _, octets in out)
    assert (state.counters.pkts_out, state.counters.bytes_out) == (0, 0)


def test_an_outbound_flow_gets_a_new_source_and_its_answers_find_back(scene: Scene) -> None:
    inside, outside = (scene.family.node, 5000), (scene.family.far_client, 443)
    public = (scene.family.vip, 61001)
    entry = scene.entry(
        signature=scene.signature(client=inside, vip=outside),
        flags=int(Flag.OUTBOUND | Flag.TRANSLATE_SRC | Flag.ROUTE_BY_DST_IP),
        snat_ipaddr=public[0],
        snat_port=public[1],
    )
    scene.rig.apply(InstallFlow(entry))
    octets = only(scene.send(scene.outbound(scene.segment(inside, outside, b"a"))), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment(public, outside, b"a")))
    octets = only(scene.send(scene.inbound(scene.segment(outside, public, b"bb"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(outside, inside, b"bb")))
    state = scene.rig.target.lookup(entry.signature)
    assert state is not None
    assert (state.counters.pkts_in, state.counters.pkts_out) == (1, 1)


def test_the_next_hop_gets_the_packet_although_the_destination_is_untouched(scene: Scene) -> None:
    """The transparent node: a firewall or cache that sees the packet as the client sent it."""
    entry = scene.entry(flags=0, next_hop_ipaddr=scene.family.firewall)
    scene.rig.apply(InstallFlow(entry))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"as is"))), Side.INTERNAL)
    assert macs(octets)[0] == FIREWALL_MAC
    assert_packet(octets, hop(scene.to_vip(b"as is")))
