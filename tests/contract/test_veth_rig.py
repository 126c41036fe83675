# SPDX-License-Identifier: Apache-2.0
"""The rig with the real cables, tried without a target: the kernel's own routing is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_flow_segment.targets.contract import Target
from support.octets.packets import TCP_PROTOCOL, hop, macs
from support.require import require
from support.targets.rig import IPV4, IPV6, NODE_MAC, TARGET_MAC, Family, MemoryRig, Side
from support.targets.scene import Scene, assert_packet, only
from support.targets.veth_rig import INTERFACE, VethRig, is_kernels_own, missing_for_veth
from support.targets.wire import Wire

pytestmark = pytest.mark.network


def idle_target(_pin_path: Path, _flow_capacity: int) -> Target:
    """A target that is attached to nothing."""
    return MemoryRig().target


@pytest.fixture(scope="module")
def cables() -> Iterator[VethRig]:
    require("network", missing_for_veth())
    rig = VethRig("kernel routing", idle_target)
    yield rig
    rig.close()


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_packets_are_routed_in_order_both_ways(cables: VethRig, family: Family) -> None:
    scene = Scene(cables, family, TCP_PROTOCOL)
    with cables.inside():
        for number in range(30):
            packet = scene.segment(scene.client, scene.node, b"x" * number)
            octets = only(scene.send(scene.inbound(packet)), Side.INTERNAL)
            assert macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
            assert_packet(octets, hop(packet))
            packet = scene.segment(scene.node, scene.client, b"x" * number)
            assert_packet(only(scene.send(scene.outbound(packet)), Side.EXTERNAL), hop(packet))
        many = [scene.segment(scene.client, scene.node, bytes([number])) for number in range(200)]
        out = scene.send(*map(scene.inbound, many))
        assert [octets[-1] for _, octets in out] == list(range(200))


def test_nothing_comes_out_when_nothing_goes_in(cables: VethRig) -> None:
    with cables.inside():
        assert cables.exchange(()) == []
        assert cables.apply() == []


def heard(wire: Wire) -> Iterator[bytes | None]:
    """What comes, but for the reports that the kernel makes some seconds after the interface came
    up, and repeats."""
    while True:
        octets = wire.receive(60)
        if octets is None or not is_kernels_own(octets):
            yield octets


def test_tags_are_seen_as_they_are_on_the_wire(cables: VethRig) -> None:
    """Kernels carry tags beside the frame; a rig must not lose them."""
    scene = Scene(cables, IPV4, TCP_PROTOCOL)
    _, plain = scene.inbound(scene.segment(scene.client, scene.node))
    far = cables._network.wires[Side.EXTERNAL]
    with cables.inside():
        near = Wire(INTERFACE[Side.EXTERNAL])
    try:
        for tags in ("81000007", "88a80064", "88a8006481006007"):
            octets = plain[:12] + bytes.fromhex(tags) + plain[12:]
            far.send(octets)
            assert next(heard(near)) == octets
            near.send(octets)
            assert next(heard(far)) == octets
    finally:
        near.close()


def test_nothing_is_left_behind() -> None:
    require("network", missing_for_veth())
    rig = VethRig("short-lived", idle_target)
    names = [rig._network.target, *rig._network.ends.values()]
    assert all(Path(f"/run/netns/{name}").exists() for name in names)
    rig.close()
    assert not any(Path(f"/run/netns/{name}").exists() for name in names)
