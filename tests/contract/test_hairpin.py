# SPDX-License-Identifier: Apache-2.0
"""A node that is a client of a virtual server, also of its own."""

from __future__ import annotations

from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFlow,
    PacketReason,
    SetOutboundQuery,
)
from ssmb.constants import Flag
from support.octets.packets import hop, macs
from support.targets.rig import NODE2_MAC, NODE_MAC, Side
from support.targets.scene import NAT, Scene, assert_packet, only

PORT = 40001  # of the virtual address, towards the node


def hairpin(scene: Scene, node: str) -> Any:
    """What the CS decides for the first node's connection to the virtual server."""
    return scene.entry(
        signature=scene.signature(client=(scene.family.node, 4000)),
        flags=int(NAT | Flag.TRANSLATE_SRC),
        snat_ipaddr=scene.family.vip,
        snat_port=PORT,
        node_ipaddr=node,
    )


@pytest.mark.parametrize("chosen", ["node", "node2"], ids=["itself", "another one"])
def test_a_node_reaches_its_virtual_server_and_is_answered(scene: Scene, chosen: str) -> None:
    family = scene.family
    node = getattr(family, chosen)
    scene.rig.apply(AddVirtualServer(scene.server()))
    asks = scene.segment((family.node, 4000), scene.vip, b"ask", flags="S")
    assert scene.send(scene.outbound(asks)) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.virtual_server) == (PacketReason.NEW_FLOW, scene.key())
    out = scene.rig.apply(InstallFlow(hairpin(scene, node)), InjectPacket(up))
    octets = only(out, Side.INTERNAL)
    wanted = scene.segment((family.vip, PORT), (node, 8080), b"ask", flags="S")
    assert_packet(octets, hop(wanted))
    assert macs(octets)[0] == (NODE_MAC if chosen == "node" else NODE2_MAC)
    answers = scene.segment((node, 8080), (family.vip, PORT), b"answer")
    octets = only(scene.send(scene.outbound(answers)), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.vip, (family.node, 4000), b"answer")))
    assert macs(octets)[0] == NODE_MAC


@pytest.mark.parametrize("port", [80, None], ids=["port", "any port"])
def test_wildcard_addresses_are_for_those_outside(scene: Scene, port: int | None) -> None:
    scene.rig.apply(AddVirtualServer(scene.server(scene.key(None, port))))
    packet = scene.segment((scene.family.node, 4000), (scene.family.far_client, 80), b"own")
    assert_packet(only(scene.send(scene.outbound(packet)), Side.EXTERNAL), hop(packet))
    assert scene.up_calls() == []


def test_a_virtual_server_comes_before_the_question_about_outbound_flows(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), SetOutboundQuery(enabled=True))
    scene.send(scene.outbound(scene.segment((scene.family.node, 4000), scene.vip, flags="S")))
    assert [up.reason for up in scene.up_calls()] == [PacketReason.NEW_FLOW]
