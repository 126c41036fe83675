# SPDX-License-Identifier: Apache-2.0
"""A node that speaks first after its connection was idle for so long that the flow is gone."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FallAsleep,
    InjectPacket,
    InstallFlow,
    PacketReason,
    RemoveFlow,
)
from support.octets import packets
from support.targets.rig import Side
from support.targets.scene import Scene


@pytest.fixture
def sleeping(tcp_scene: Scene) -> Scene:
    """A scene whose flow fell asleep, behind another source address."""
    if tcp_scene.rig.name.startswith("p4"):
        pytest.skip("the P4 program has no table of flows that are asleep")
    # another client than other tests have: nothing wakes a flow but time
    tcp_scene.client = (tcp_scene.client[0], 41000)
    entry = tcp_scene.entry()
    tcp_scene.rig.apply(
        AddVirtualServer(tcp_scene.server()),
        InstallFlow(entry),
        RemoveFlow(entry.signature),
        FallAsleep(entry),
    )
    return tcp_scene


def test_the_nodes_packet_of_a_flow_that_is_asleep_comes_up(sleeping: Scene) -> None:
    scene = sleeping
    back = (scene.node, scene.client)
    news = scene.outbound(scene.segment(*back, b"news", flags="PA", seq=5000, ack=1001))
    assert scene.send(news) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.ASLEEP
    assert up.signature.session == scene.signature().session
    ((side, frame),) = scene.rig.apply(InstallFlow(scene.entry(serial=7)), InjectPacket(up))
    assert side == Side.EXTERNAL
    assert packets.parsed(frame).src == scene.vip[0]


def test_nothing_else_of_that_node_comes_up(sleeping: Scene) -> None:
    scene = sleeping
    client, port = scene.client
    for source, target, flags in (
        (scene.node, (client, port + 1), "A"),  # another connection
        ((scene.node[0], 22), scene.client, "A"),
        (scene.node, scene.client, "S"),  # one that it begins itself
    ):
        scene.send(scene.outbound(scene.segment(source, target, flags=flags)))
    assert scene.up_calls() == []


def test_without_an_agent_a_packet_of_a_flow_that_is_asleep_is_held_back(sleeping: Scene) -> None:
    scene = sleeping
    with scene.rig.agent_away():
        data = scene.segment(scene.node, scene.client, flags="A", seq=5000)
        assert scene.send(scene.outbound(data)) == []
