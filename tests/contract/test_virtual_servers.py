# SPDX-License-Identifier: Apache-2.0
"""Which virtual server catches a packet (8.3), and what comes up because of it."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    PacketReason,
    RemoveVirtualServer,
    SetLocalAddresses,
    SetOutboundQuery,
    VirtualServerKey,
)
from ssmb.addresses import from_text
from support.octets.packets import TCP_PROTOCOL, hop, macs, tcp, udp
from support.targets.rig import FIREWALL_MAC, NODE_MAC, TARGET_MAC, Family, Rig, Side
from support.targets.scene import Scene, assert_packet, only
from support.work import lines_run


def install_all_four(scene: Scene) -> dict[str, VirtualServerKey]:
    keys = {
        "exact": scene.key(),
        "any port": scene.key(port=None),
        "any address": scene.key(address=None),
        "anything": scene.key(address=None, port=None),
    }
    scene.rig.apply(*(AddVirtualServer(scene.server(key)) for key in keys.values()))
    return keys


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("vip", 80, "exact"),
        ("vip", 81, "any port"),
        ("other_vip", 80, "any address"),
        ("other_vip", 81, "anything"),
    ],
)
def test_the_most_exact_virtual_server_wins(
    scene: Scene, address: str, port: int, expected: str
) -> None:
    keys = install_all_four(scene)
    target = (getattr(scene.family, address), port)
    assert scene.send(scene.inbound(scene.segment(scene.client, target))) == []
    (up,) = scene.up_calls()
    assert up.virtual_server == keys[expected]


def test_an_exact_address_with_any_port_wins_over_any_address_with_the_exact_port(
    scene: Scene,
) -> None:
    keys = install_all_four(scene)
    scene.rig.apply(RemoveVirtualServer(keys["exact"]))
    scene.send(scene.inbound(scene.to_vip()))
    assert scene.up_calls()[0].virtual_server == keys["any port"]


def test_each_removal_uncovers_the_next_until_nothing_matches(scene: Scene) -> None:
    keys = install_all_four(scene)
    for name in ("exact", "any port", "any address", "anything"):
        scene.send(scene.inbound(scene.to_vip()))
        assert [up.virtual_server for up in scene.up_calls()] == [keys[name]]
        scene.rig.apply(RemoveVirtualServer(keys[name]))
    scene.send(scene.inbound(scene.to_vip()))
    assert scene.up_calls() == []


def test_a_virtual_server_of_the_other_protocol_does_not_match(rig: Rig, family: Family) -> None:
    scene = Scene(rig, family, 6)
    rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(udp(scene.client, scene.vip, b"x")))
    assert [up.virtual_server for up in scene.up_calls()] == [None]


def test_wildcard_addresses_do_not_catch_the_targets_own(scene: Scene) -> None:
    install_all_four(scene)
    own = (scene.family.external, 80)
    scene.send(scene.inbound(scene.segment(scene.client, own)))
    assert scene.up_calls() == []


def test_wildcard_addresses_do_not_catch_local_addresses_but_exact_ones_do(scene: Scene) -> None:
    keys = install_all_four(scene)
    local = frozenset({from_text(scene.family.other_vip), from_text(scene.family.vip)})
    scene.rig.apply(SetLocalAddresses(local))
    scene.send(scene.inbound(scene.segment(scene.client, (scene.family.other_vip, 80))))
    assert scene.up_calls() == []
    scene.send(scene.inbound(scene.to_vip()))
    assert scene.up_calls()[0].virtual_server == keys["exact"]
    scene.rig.apply(SetLocalAddresses(frozenset()))
    scene.send(scene.inbound(scene.segment(scene.client, (scene.family.other_vip, 80))))
    assert scene.up_calls()[0].virtual_server == keys["any address"]


def test_a_wildcard_does_not_catch_the_answers_to_what_a_node_sends_of_itself(scene: Scene) -> None:
    if scene.rig.name.startswith("p4"):
        pytest.skip("the P4 program does not see what the internal side sends of itself")
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, None))))
    node, server = (scene.family.node, 5555), (scene.family.far_client, 443)
    only(scene.send(scene.outbound(scene.segment(node, server, b"", flags="S"))), Side.EXTERNAL)
    for flags in ("SA", "A", "PA", "FA"):
        answer = scene.segment(server, node, b"", flags=flags)
        assert_packet(only(scene.send(scene.inbound(answer)), Side.INTERNAL), hop(answer))
    assert scene.up_calls() == []
    # whatever else comes from there, or goes to that node, may be a client's
    clients = [scene.segment(server, (scene.family.node, 5556), b"", flags="A")]
    clients.append(scene.segment((scene.family.far_client, 444), node, b"", flags="A"))
    if scene.protocol == TCP_PROTOCOL:
        clients.append(scene.segment(server, node, b"", flags="S"))
    assert scene.send(*map(scene.inbound, clients)) == []
    assert len(scene.up_calls()) == len(clients)


def test_no_client_of_a_wildcard_begins_with_an_answer(tcp_scene: Scene) -> None:
    """To a connection that was opened before the DFS saw it, say."""
    scene = tcp_scene
    if scene.rig.name.startswith("p4"):
        pytest.skip("the P4 program does not see what the internal side sends of itself")
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, None))))
    answer = scene.segment(scene.client, (scene.family.node, 5555), flags="SA")
    only(scene.send(scene.inbound(answer)), Side.INTERNAL)
    assert scene.up_calls() == []


def test_a_datagram_long_after_what_a_node_sent_is_a_clients(udp_scene: Scene) -> None:
    scene = udp_scene
    if scene.rig.name.startswith("p4") or not scene.rig.moves_time:
        pytest.skip("two minutes")
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, None))))
    node, server = (scene.family.node, 5555), (scene.family.far_client, 53)
    scene.send(scene.outbound(scene.segment(node, server)))
    scene.rig.advance(119)
    assert len(scene.send(scene.inbound(scene.segment(server, node)))) == 1
    scene.rig.advance(2)
    assert scene.send(scene.inbound(scene.segment(server, node))) == []
    assert len(scene.up_calls()) == 1


def test_the_nodes_side_is_not_matched_against_virtual_servers(scene: Scene) -> None:
    install_all_four(scene)
    scene.send(scene.outbound(scene.segment((scene.family.node, 5000), (scene.family.client, 80))))
    assert scene.up_calls() == []


def test_what_comes_up_says_all_that_the_agent_needs(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    packet = scene.to_vip(b"hello", flags="SE", ip_fields={"tos": 0x28})
    side, octets = scene.inbound(packet)
    scene.send((side, octets))
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.NEW_FLOW
    assert up.signature == scene.signature(tos=0x28)
    assert up.tcp_flags == (0x42 if scene.protocol == 6 else 0)
    assert up.interface == scene.rig.interface(Side.EXTERNAL)
    assert up.frame == octets
    assert up.virtual_server == scene.key()


def test_every_packet_of_an_unknown_flow_comes_up_in_order(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    frames = [scene.inbound(scene.to_vip(bytes([number]))) for number in range(20)]
    scene.send(*frames)
    assert [up.frame for up in scene.up_calls()] == [octets for _, octets in frames]


def test_a_bridged_virtual_servers_packets_all_come_up_as_such(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server(bridged=True)))
    scene.send(scene.inbound(scene.to_vip()), scene.inbound(scene.to_vip(b"x")))
    assert [up.reason for up in scene.up_calls()] == [PacketReason.BRIDGED] * 2


def test_what_strangers_send_to_a_bridged_one_comes_up_at_a_limited_rate(scene: Scene) -> None:
    """It would take the agent's time, and the CS's, from everybody else."""
    if "drop_bridged" not in scene.values():
        pytest.skip("a switch's program does not count them")
    scene.rig.apply(AddVirtualServer(scene.server(bridged=True)))
    scene.rig.advance(0.2)  # that other tests' packets do not count
    before = scene.values()["drop_bridged"]
    assert scene.send(*[scene.inbound(scene.to_vip())] * 900) == []
    up = 0
    while came := len(scene.up_calls()):
        up += came
    dropped = scene.values()["drop_bridged"] - before
    if scene.rig.moves_time:
        assert (up, dropped) == (100, 800)
    assert up + dropped == 900
    scene.rig.advance(0.2)
    scene.send(scene.inbound(scene.to_vip()))
    assert len(scene.up_calls()) == 1


def test_a_later_virtual_server_with_the_same_key_replaces_the_earlier(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.rig.apply(AddVirtualServer(scene.server(bridged=True)))
    assert list(scene.rig.target.virtual_servers()) == [scene.server(bridged=True)]


def test_virtual_servers_are_told_as_they_were_installed(scene: Scene) -> None:
    keys = install_all_four(scene)
    told = {entry.key: entry for entry in scene.rig.target.virtual_servers()}
    assert told == {key: scene.server(key) for key in keys.values()}


def test_a_packet_with_a_wrong_checksum_does_not_come_up(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = scene.values()
    good = scene.to_vip(b"x")
    bad = good.copy()
    bad[TCP if scene.protocol == 6 else UDP].chksum = 0x1234
    frames = [scene.inbound(bad)]
    if scene.family.is_ipv4:
        wrong_header = good.copy()
        wrong_header.chksum = 0x1234
        frames.append(scene.inbound(wrong_header))
    assert scene.send(*frames) == []
    assert scene.up_calls() == []
    assert scene.dropped_since(before) >= 1


def test_udp_without_a_checksum_comes_up_over_ipv4_alone(udp_scene: Scene) -> None:
    scene = udp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(udp(scene.client, scene.vip, b"x", chksum=0)))
    assert len(scene.up_calls()) == (1 if scene.family.is_ipv4 else 0)


def test_what_matches_nothing_is_routed_as_by_any_router(scene: Scene) -> None:
    packet = scene.segment(scene.client, (scene.family.node, 7), b"plain")
    octets = only(scene.send(scene.inbound(packet)), Side.INTERNAL)
    assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert_packet(octets, hop(packet))
    assert scene.up_calls() == []


def test_the_internal_sides_own_flows_come_up_only_if_asked_for(scene: Scene) -> None:
    packet = scene.segment((scene.family.node, 5000), (scene.family.far_client, 443), b"out")
    frame = scene.outbound(packet)
    assert_packet(only(scene.send(frame), Side.EXTERNAL), hop(packet))
    scene.rig.apply(SetOutboundQuery(enabled=True))
    assert scene.send(frame) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.OUTBOUND
    assert up.virtual_server is None
    assert up.interface == scene.rig.interface(Side.INTERNAL)
    assert up.signature[:4] == (
        from_text(scene.family.node),
        from_text(scene.family.far_client),
        5000,
        443,
    )
    scene.rig.apply(SetOutboundQuery(enabled=False))
    assert_packet(only(scene.send(frame), Side.EXTERNAL), hop(packet))


def test_the_external_side_and_the_targets_own_addresses_are_not_asked_for(scene: Scene) -> None:
    scene.rig.apply(SetOutboundQuery(enabled=True))
    from_client = scene.segment(scene.client, (scene.family.node, 7))
    scene.send(scene.inbound(from_client))
    scene.send(scene.outbound(scene.segment((scene.family.node, 9), (scene.family.internal, 9))))
    assert scene.up_calls() == []


def test_a_packet_for_another_station_is_left_alone(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    side, octets = scene.inbound(scene.to_vip())
    other = bytes.fromhex(FIREWALL_MAC.replace(":", "")) + octets[6:]
    assert scene.send((side, other)) == []
    assert scene.up_calls() == []


def test_a_flag_less_or_strange_segment_of_an_unknown_flow_comes_up_too(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    for flags in ("S", "A", "FA", "R", "FPU", ""):
        scene.send(scene.inbound(tcp(scene.client, scene.vip, flags)))
    assert [up.tcp_flags for up in scene.up_calls()] == [2, 16, 17, 4, 41, 0]


@pytest.mark.parametrize("is_one_address", [True, False], ids=["one address", "own addresses"])
def test_a_virtual_server_costs_the_same_however_many_there_are(
    rig: Rig, family: Family, is_one_address: bool
) -> None:
    scene = Scene(rig, family, 6)
    base = int.from_bytes(from_text(family.vip), "big")

    def server(number: int) -> AddVirtualServer:
        address = base if is_one_address else base ^ number
        key = VirtualServerKey(address.to_bytes(16, "big"), 1000 + number, 6)
        return AddVirtualServer(scene.server(key, answer_arp=False))

    def one_more(number: int) -> int:
        added = server(number)
        work = lines_run(lambda: rig.apply(added))
        return work + lines_run(lambda: rig.apply(RemoveVirtualServer(added.entry.key)))

    rig.apply(server(1), server(2))
    work_with_few = one_more(3)
    rig.apply(*(server(number) for number in range(3, 200)))
    assert one_more(200) < 1.5 * work_with_few + 50
