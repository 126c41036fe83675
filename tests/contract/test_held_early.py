# SPDX-License-Identifier: Apache-2.0
"""A flow that is held before its node is known (docs/design/0012-content.md)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from data_flow_segment.targets.contract import FlowEntry, InstallFlow, PacketReason, RemoveFlow
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import Flag
from support.octets import packets
from support.targets.rig import Side
from support.targets.scene import NAT, Scene, only


@pytest.fixture
def scene(tcp_scene: Scene) -> Iterator[Scene]:
    if not tcp_scene.rig.target.makes_cookies:
        pytest.skip("this target leaves content-aware virtual servers alone")
    yield tcp_scene
    tcp_scene.rig.apply(RemoveFlow(tcp_scene.signature()))


def without_node(scene: Scene) -> FlowEntry:
    entry = scene.entry(
        held=True,
        flags=int(Flag.PROXY_SERVER),
        node_ipaddr=UNSPECIFIED,
        node_port=0,
        idle_timeout_s=0,
    )
    scene.rig.apply(InstallFlow(entry))
    return entry


def test_its_clients_packets_come_up_and_it_is_read_as_it_was_entered(scene: Scene) -> None:
    entry = without_node(scene)
    sent = packets.tcp(scene.client, scene.vip, "PA", b"question", seq=1, ack=2)
    assert scene.send(scene.inbound(sent)) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.signature) == (PacketReason.HELD, scene.signature())
    found = scene.rig.target.lookup(scene.signature())
    assert found is not None
    assert found.entry == entry
    assert found.half_open
    assert [each.entry for each in scene.rig.target.scan(None, 10)[0]] == [entry]


@pytest.mark.parametrize("serial", [1001, 1002])  # REPLY's, and a NEWFLOW's
def test_its_node_comes_later_and_then_another_one(scene: Scene, serial: int) -> None:
    without_node(scene)
    flags = int(NAT | Flag.PROXY_SERVER)
    for port in (8080, 8081):
        node = (scene.node[0], port)
        entry = scene.entry(held=True, flags=flags, node_port=port, serial=serial)
        scene.rig.apply(InstallFlow(entry))
        found = scene.rig.target.lookup(scene.signature())
        assert found is not None
        assert found.entry == entry
        answer = packets.tcp(node, scene.client, "SA", seq=1, ack=2)
        assert scene.send(scene.outbound(answer)) == []
        (up,) = scene.up_calls()
        assert (up.reason, up.signature) == (PacketReason.HELD, scene.signature())
    spliced = entry._replace(held=False, flags=int(NAT | Flag.ADD_TCP_OFFSETS), ack_offset=7)
    scene.rig.apply(InstallFlow(spliced))
    sent = packets.tcp(scene.client, scene.vip, "PA", b"question", seq=1, ack=2)
    only(scene.send(scene.inbound(sent)), Side.INTERNAL)
    assert scene.rig.target.flow_count() == 1
