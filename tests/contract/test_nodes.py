# SPDX-License-Identifier: Apache-2.0
"""A node's packet in mid-session that no flow knows is asked about, and never routed on with the
node's own address; who talks to the node itself is spared (wire protocol 14.4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFlow,
    PacketReason,
    RemoveFlow,
    SetNodes,
    VirtualServerKey,
)
from ssmb.addresses import from_text, to_text
from ssmb.constants import TCP, UDP
from support.octets import packets
from support.targets.rig import Frame, Side
from support.targets.scene import Scene


def places(*found: tuple[str, int | None], protocol: int = TCP) -> SetNodes:
    keys = (VirtualServerKey(from_text(address), port, protocol) for address, port in found)
    return SetNodes(frozenset(keys))


@pytest.fixture
def scene(tcp_scene: Scene) -> Iterator[Scene]:
    """A scene whose target knows its node."""
    if not tcp_scene.rig.target.knows_nodes:
        pytest.skip("this target knows no nodes: docs/design/0010 says what it does instead")
    server = AddVirtualServer(tcp_scene.server())
    tcp_scene.rig.apply(server, places(tcp_scene.node))
    yield tcp_scene
    tcp_scene.rig.apply(SetNodes(frozenset()))


def said(scene: Scene, flags: str = "PA", port: int | None = None, client: int = 0) -> Frame:
    """By the node, to the client or to another one of its ports."""
    address, client_port = scene.client
    node = scene.node if port is None else (scene.node[0], port)
    to = (address, client_port + client)
    return scene.outbound(scene.segment(node, to, b"news", flags=flags, seq=5000, ack=1001))


def dropped(scene: Scene) -> int:
    return scene.values()["drop_node_unknown"]


@pytest.mark.parametrize("flags", ["PA", "A", "SA", "FA"])
def test_a_packet_of_a_node_that_no_flow_knows_comes_up(scene: Scene, flags: str) -> None:
    assert scene.send(said(scene, flags)) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.OF_NODE
    assert up.virtual_server is None
    signature = up.signature
    assert (to_text(signature.src_ipaddr), signature.src_port) == scene.node
    assert (to_text(signature.dst_ipaddr), signature.dst_port) == scene.client
    # what it is answered with
    entry = scene.entry()
    ((side, frame),) = scene.rig.apply(InstallFlow(entry), InjectPacket(up))
    assert side == Side.EXTERNAL
    assert packets.parsed(frame).src == scene.vip[0]
    scene.rig.apply(RemoveFlow(entry.signature))


def test_once_its_flow_is_there_nothing_comes_up(scene: Scene) -> None:
    entry = scene.entry()
    scene.rig.apply(InstallFlow(entry))
    ((side, _),) = scene.send(said(scene))
    assert side == Side.EXTERNAL
    assert scene.up_calls() == []
    scene.rig.apply(RemoveFlow(entry.signature))


def test_a_rst_of_a_node_that_no_flow_knows_is_dropped(scene: Scene) -> None:
    before = dropped(scene)
    assert scene.send(said(scene, "RA"), said(scene, "R")) == []
    assert scene.up_calls() == []
    assert dropped(scene) == before + 2


def test_what_is_no_answer_of_a_node_is_routed_on(scene: Scene) -> None:
    frames = (
        said(scene, "S"),  # a connection of its own
        said(scene, port=22),
        scene.outbound(scene.segment((scene.family.firewall, 8080), scene.client, flags="A")),
    )
    for frame in frames:
        ((side, _),) = scene.send(frame)
        assert side == Side.EXTERNAL
    assert scene.up_calls() == []


def test_a_place_without_a_port_is_every_port_of_its_node(scene: Scene) -> None:
    scene.rig.apply(places((scene.node[0], None)))
    scene.send(said(scene, port=22))
    (up,) = scene.up_calls()
    assert up.signature.src_port == 22


def test_a_list_replaces_the_one_before(scene: Scene) -> None:
    scene.rig.apply(places((scene.node[0], 22)))
    assert len(scene.send(said(scene))) == 1
    scene.send(said(scene, port=22))
    assert len(scene.up_calls()) == 1


@pytest.mark.parametrize(("flags", "port"), [("S", 20000), ("A", 20001), ("PA", 20002)])
def test_who_talks_to_the_node_itself_gets_its_answers(scene: Scene, flags: str, port: int) -> None:
    """Its own packets show it, whatever they are: the target may have begun in mid-session."""
    client = scene.client[0], scene.client[1] + port
    there = scene.segment(client, scene.node, flags=flags, seq=1000)
    ((side, _),) = scene.send(scene.inbound(there))
    assert side == Side.INTERNAL
    for said_flags in ("SA", "PA", "RA"):
        ((side, out),) = scene.send(said(scene, said_flags, client=port))
        assert side == Side.EXTERNAL
        assert packets.parsed(out).src == scene.node[0]
    assert scene.up_calls() == []
    scene.send(said(scene))  # not another connection
    assert len(scene.up_calls()) == 1


def test_answers_to_the_target_itself_are_its_kernels(scene: Scene) -> None:
    answer = scene.segment(scene.node, (scene.family.internal, 40000), flags="SA")
    scene.send(scene.outbound(answer))
    assert scene.up_calls() == []


def test_no_more_come_up_than_an_agent_can_bear(scene: Scene) -> None:
    before = dropped(scene)
    frames = [said(scene, client=number) for number in range(3000)]
    for start in range(0, len(frames), 500):
        assert scene.send(*frames[start : start + 500]) == []
    came = 0
    while some := len(scene.up_calls()):
        came += some
    assert 100 <= came < 2900
    assert dropped(scene) > before
    scene.rig.advance(1.1)  # for whoever comes next


def test_without_an_agent_it_is_held_back(scene: Scene) -> None:
    with scene.rig.agent_away():
        assert scene.send(said(scene)) == []


def test_datagrams_of_nodes_are_routed_on(udp_scene: Scene) -> None:
    """They have no sessions that could be told from others."""
    if not udp_scene.rig.target.knows_nodes:
        pytest.skip("this target knows no nodes")
    udp_scene.rig.apply(places(udp_scene.node, protocol=UDP))
    datagram = udp_scene.segment(udp_scene.node, udp_scene.client, b"news")
    assert len(udp_scene.send(udp_scene.outbound(datagram))) == 1
    udp_scene.rig.apply(SetNodes(frozenset()))
