# SPDX-License-Identifier: Apache-2.0
"""A flow's life in the table: install, update, remove, put back what was held, fail whole."""

from __future__ import annotations

from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    RemoveFlow,
    RemoveVirtualServer,
    TransmitPacket,
)
from ssmb.addresses import from_text
from ssmb.constants import Flag
from support.octets.packets import hop, macs
from support.targets.rig import CLIENT_MAC, NODE2_MAC, NODE_MAC, TARGET_MAC, Side
from support.targets.scene import NAT, Scene, assert_packet, only


def held(scene: Scene, *payloads: bytes) -> list[PacketIn]:
    """Packets of the unknown flow, as the agent holds them while it asks the CS."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(*(scene.inbound(scene.to_vip(payload)) for payload in payloads))
    return scene.up_calls()


def test_what_was_held_follows_the_installed_entry_in_order(scene: Scene) -> None:
    packets_held = held(scene, b"one", b"two", b"three")
    out = scene.rig.apply(InstallFlow(scene.entry()), *map(InjectPacket, packets_held))
    assert [side for side, _ in out] == [Side.INTERNAL] * 3
    for (_, octets), payload in zip(out, (b"one", b"two", b"three"), strict=True):
        assert_packet(octets, hop(scene.segment(scene.client, scene.node, payload)))
        assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 3
    assert scene.rig.events() == []


def test_what_is_put_back_without_a_flow_is_dropped_and_does_not_come_up_again(
    scene: Scene,
) -> None:
    packets_held = held(scene, b"one", b"two")
    before = scene.values()
    assert scene.rig.apply(*map(InjectPacket, packets_held)) == []
    assert scene.rig.events() == []
    assert scene.dropped_since(before) == 2


def test_what_is_put_back_before_the_install_does_not_match_it(scene: Scene) -> None:
    (packet,) = held(scene, b"early")
    assert scene.rig.apply(InjectPacket(packet), InstallFlow(scene.entry())) == []


def test_an_entry_reads_back_as_it_was_installed(scene: Scene) -> None:
    flags = NAT | Flag.TRANSLATE_SRC | Flag.ADD_TCP_OFFSETS
    entry = scene.entry(
        signature=scene.signature(tos=0xB8),
        flags=int(flags),
        snat_ipaddr=scene.family.snat,
        snat_port=61000,
        next_hop_ipaddr=scene.family.firewall,
        serial=0xFFFFFFFF,
        seq_offset=0xFFFFFFFE,
        ack_offset=1,
        ts_offset=0x80000000,
        wscale_shift=-3,
        group_id=65535,
        idle_timeout_s=65535,
        opened_ms=0x1234567890,
    )
    scene.rig.apply(InstallFlow(entry))
    state = scene.rig.target.lookup(scene.signature(tos=0))
    assert state is not None
    assert state.entry == entry
    assert state.counters == (0, 0, 0, 0)
    assert (state.tcp_flags, state.closing) == (0, False)
    assert state.idle_ms < 1000
    assert scene.rig.target.flow_count() == 1


def test_nothing_is_known_of_a_flow_that_is_not_there(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    other = scene.signature(client=(scene.client[0], scene.client[1] + 1))
    assert scene.rig.target.lookup(other) is None


def test_counters_count_both_directions(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    there, back = scene.to_vip(b"12345"), scene.segment(scene.node, scene.client, b"1234567")
    scene.send(scene.inbound(there), scene.inbound(there), scene.outbound(back))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters == (2, 2 * len(bytes(there)), 1, len(bytes(back)))


def test_padding_of_short_frames_is_not_counted(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    sent = scene.to_vip()
    side, octets = scene.inbound(sent)
    out = scene.send((side, octets.ljust(60, b"\0")))
    assert_packet(only(out, Side.INTERNAL), hop(scene.segment(scene.client, scene.node)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.bytes_in == len(bytes(sent))


def test_an_update_keeps_the_counters_and_moves_the_flow(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"1")))
    scene.rig.apply(InstallFlow(scene.entry(node_ipaddr=scene.family.node2, node_port=9090)))
    assert scene.rig.target.flow_count() == 1
    octets = only(scene.send(scene.inbound(scene.to_vip(b"2"))), Side.INTERNAL)
    assert macs(octets)[0] == NODE2_MAC
    moved = (scene.family.node2, 9090)
    back = scene.segment(moved, scene.client, b"3")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment(scene.vip, scene.client, b"3")))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.counters.pkts_in, state.counters.pkts_out) == (2, 1)


def test_after_an_update_the_old_return_direction_is_gone(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.rig.apply(InstallFlow(scene.entry(node_ipaddr=scene.family.node2)))
    back = scene.segment(scene.node, scene.client, b"stale")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert_packet(octets, hop(back))  # routed, not translated


def test_another_serial_is_another_flow_and_starts_anew(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"1")))
    scene.rig.apply(InstallFlow(scene.entry(serial=1002)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.entry.serial == 1002
    assert state.counters == (0, 0, 0, 0)
    assert state.tcp_flags == 0
    assert scene.rig.target.flow_count() == 1


def test_a_removed_flow_is_gone_in_both_directions(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()), RemoveFlow(scene.signature(tos=8)))
    assert scene.rig.target.lookup(scene.signature()) is None
    assert scene.rig.target.flow_count() == 0
    back = scene.segment(scene.node, scene.client, b"stale")
    assert_packet(only(scene.send(scene.outbound(back)), Side.EXTERNAL), hop(back))
    scene.rig.apply(AddVirtualServer(scene.server()))
    assert scene.send(scene.inbound(scene.to_vip())) == []
    assert len(scene.up_calls()) == 1


def test_removing_what_is_not_there_does_nothing(scene: Scene) -> None:
    scene.rig.apply(RemoveFlow(scene.signature()), RemoveVirtualServer(scene.key()))
    assert scene.rig.events() == []


def test_a_removed_virtual_servers_flows_go_on(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    scene.rig.apply(RemoveVirtualServer(scene.key()))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"on"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"on")))


def test_a_bridged_virtual_servers_installed_flow_is_translated(scene: Scene) -> None:
    """HYBRID: after NEWFLOW the flow entry wins over the bridge."""
    scene.rig.apply(AddVirtualServer(scene.server(bridged=True)), InstallFlow(scene.entry()))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"on"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"on")))


def test_two_flows_cannot_share_a_return_direction(scene: Scene) -> None:
    """Two clients behind one source address and port: the second would get the first's answers."""
    shared = {
        "flags": int(NAT | Flag.TRANSLATE_SRC),
        "snat_ipaddr": scene.family.snat,
        "snat_port": 61000,
    }
    second = scene.signature(client=(scene.family.far_client, 5))
    scene.rig.apply(InstallFlow(scene.entry(**shared)))
    scene.rig.apply(InstallFlow(scene.entry(signature=second, serial=1002, **shared)))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert failed.entry.signature == second
    assert not failed.table_full
    assert failed.reason
    assert scene.rig.target.flow_count() == 1
    assert scene.rig.target.lookup(second) is None
    back = scene.segment(scene.node, (scene.family.snat, 61000), b"whose?")
    octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment(scene.vip, scene.client, b"whose?")))


@pytest.mark.parametrize("first", ["flow", "its mirror"])
def test_a_flow_that_runs_against_anothers_return_direction_is_refused(
    scene: Scene, first: str
) -> None:
    """A packet from the node could be of either; whoever was first keeps what it has."""
    flow = scene.entry()
    mirror = scene.entry(
        signature=scene.signature(client=scene.node, vip=scene.client),
        serial=1002,
        node_ipaddr=scene.family.node2,
    )
    pair = (flow, mirror) if first == "flow" else (mirror, flow)
    scene.rig.apply(*map(InstallFlow, pair))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert (failed.entry, failed.table_full) == (pair[1], False)
    assert scene.rig.target.flow_count() == 1
    state = scene.rig.target.lookup(pair[0].signature)
    assert state is not None
    assert state.entry == pair[0]
    back = scene.segment(scene.node, scene.client, b"whose?")
    ((side, octets),) = scene.send(scene.outbound(back))
    if first == "flow":
        assert side is Side.EXTERNAL
        assert_packet(octets, hop(scene.segment(scene.vip, scene.client, b"whose?")))
    else:
        assert side is Side.INTERNAL
        assert_packet(octets, hop(scene.segment(scene.node, (scene.family.node2, 8080), b"whose?")))


def test_a_full_table_says_so_and_keeps_nothing_of_the_new_flow(scene: Scene) -> None:
    with scene.rig.sized(8) as rig:
        small = Scene(rig, scene.family, scene.protocol)
        capacity = rig.target.flow_capacity
        assert capacity >= 8
        clients = [(scene.family.client, 1000 + number) for number in range(capacity + 1)]
        signatures = [scene.signature(client=client) for client in clients]
        rig.apply(*(InstallFlow(small.entry(signature=found)) for found in signatures))
        (failed,) = rig.events()
        assert isinstance(failed, InstallFailed)
        assert failed.entry.signature == signatures[-1]
        assert failed.table_full
        assert rig.target.flow_count() == capacity
        assert rig.target.lookup(signatures[-1]) is None
        back = small.segment(small.node, clients[-1], b"nobody's")
        assert_packet(only(small.send(small.outbound(back)), Side.EXTERNAL), hop(back))
        rig.apply(InstallFlow(small.entry(signature=signatures[0], serial=5)))
        assert rig.events() == []  # replacing needs no room
        rig.apply(RemoveFlow(signatures[3]), InstallFlow(small.entry(signature=signatures[-1])))
        assert rig.events() == []
        octets = only(small.send(small.outbound(back)), Side.EXTERNAL)
        assert_packet(octets, hop(small.segment(small.vip, clients[-1], b"nobody's")))


def test_the_agents_own_packets_are_routed(scene: Scene) -> None:
    own = scene.segment(scene.vip, (scene.family.far_client, 999), b"RST or so")
    octets = only(scene.rig.apply(TransmitPacket(bytes(own))), Side.EXTERNAL)
    assert macs(octets) == (CLIENT_MAC, TARGET_MAC[Side.EXTERNAL])
    assert_packet(octets, own)
    own = scene.segment(scene.client, scene.node, b"to a node")
    octets = only(scene.rig.apply(TransmitPacket(bytes(own))), Side.INTERNAL)
    assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    assert_packet(octets, own)


def test_the_agents_own_packets_match_neither_flows_nor_virtual_servers(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    own = scene.segment(scene.vip, scene.client, b"x")
    assert_packet(only(scene.rig.apply(TransmitPacket(bytes(own))), Side.EXTERNAL), own)
    assert scene.rig.events() == []
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters == (0, 0, 0, 0)


def test_families_cannot_be_mixed_in_one_flow(scene: Scene) -> None:
    other = "fd00:1::2" if scene.family.is_ipv4 else "10.1.0.2"
    scene.rig.apply(InstallFlow(scene.entry(node_ipaddr=from_text(other))))
    (failed,) = scene.rig.events()
    assert isinstance(failed, InstallFailed)
    assert not failed.table_full
    assert scene.rig.target.flow_count() == 0


def test_a_flow_leads_to_a_host_on_a_link(scene: Scene) -> None:
    """And `::ffff:0.0.0.0` is no address."""
    nobodys = ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.1"]
    texts = ["::ffff:0.0.0.0", *(nobodys if scene.family.is_ipv4 else ["::1", "ff02::1"])]
    hosts = [from_text(text) for text in texts]
    wrong: list[dict[str, Any]] = [{"node_port": 0}]
    wrong += [{field: host} for host in hosts for field in ("node_ipaddr", "next_hop_ipaddr")]
    for changes in wrong:
        scene.rig.apply(InstallFlow(scene.entry(**changes)))
        (failed,) = scene.rig.events()
        assert isinstance(failed, InstallFailed)
        assert scene.rig.target.flow_count() == 0
