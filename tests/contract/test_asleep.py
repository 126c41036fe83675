# SPDX-License-Identifier: Apache-2.0
"""A node that speaks first after its connection was idle for so long that the flow is gone."""

from __future__ import annotations

from collections.abc import Iterator

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
from support.octets.packets import unreachable
from support.targets.rig import Side
from support.targets.scene import Scene


@pytest.fixture
def sleeping(tcp_scene: Scene) -> Iterator[Scene]:
    """A scene whose flow fell asleep."""
    entry = tcp_scene.entry()
    tcp_scene.rig.apply(
        AddVirtualServer(tcp_scene.server()),
        InstallFlow(entry),
        RemoveFlow(entry.signature),
        FallAsleep(entry),
    )
    yield tcp_scene
    tcp_scene.rig.apply(InstallFlow(entry), RemoveFlow(entry.signature))


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


def test_a_flow_that_was_installed_again_is_asleep_no_more(sleeping: Scene) -> None:
    scene = sleeping
    entry = scene.entry(serial=7)
    scene.rig.apply(InstallFlow(entry), RemoveFlow(entry.signature))
    late = scene.segment(scene.node, scene.client, flags="A", seq=5000)
    scene.send(scene.outbound(late))
    assert scene.up_calls() == []


def test_an_error_about_a_flow_that_is_asleep_does_not_leave(sleeping: Scene) -> None:
    """It has the node's own address, and so has what it quotes."""
    scene = sleeping
    family = scene.family
    quoted = bytes(scene.segment(scene.client, scene.node, flags="A"))
    before = scene.values()["drop_asleep"]
    for sender in (family.node, family.firewall):
        error = unreachable(sender, family.client, quoted, "port")
        assert scene.send(scene.outbound(error)) == []
    assert scene.values()["drop_asleep"] == before + 2
    assert scene.up_calls() == []
    # about another connection it is a stranger's
    client, port = scene.client
    quoted = bytes(scene.segment((client, port + 1), scene.node, flags="A"))
    assert len(scene.send(scene.outbound(unreachable(family.node, client, quoted, "port")))) == 1


def test_without_an_agent_a_packet_of_a_flow_that_is_asleep_is_held_back(sleeping: Scene) -> None:
    scene = sleeping
    with scene.rig.agent_away():
        data = scene.segment(scene.node, scene.client, flags="A", seq=5000)
        assert scene.send(scene.outbound(data)) == []


def test_the_next_agent_knows_what_is_asleep(sleeping: Scene) -> None:
    scene = sleeping
    with scene.rig.agent_away():
        pass
    news = scene.outbound(scene.segment(scene.node, scene.client, flags="PA", seq=5000, ack=1001))
    assert scene.send(news) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.signature.session) == (PacketReason.ASLEEP, scene.signature().session)
