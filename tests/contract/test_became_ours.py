# SPDX-License-Identifier: Apache-2.0
"""Flows that were entered before one of their ends became an address of this DFS."""

from __future__ import annotations

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Event,
    FlowLooping,
    InstallFlow,
    RemoveVirtualServer,
    VirtualServerKey,
)
from ssmb.addresses import from_text
from support.targets.scene import Scene


def passes(scene: Scene, count: int = 2) -> list[Event]:
    """A pass that was under way ends, and another one follows."""
    events: list[Event] = []
    for _ in range(count):
        while not scene.rig.target.sweep(256, stats=False):
            pass
        events += scene.rig.events()
    return events


def looping(events: list[Event]) -> list[int]:
    assert all(isinstance(event, FlowLooping) for event in events), events
    return [event.state.entry.serial for event in events if isinstance(event, FlowLooping)]


def test_a_flow_to_what_became_a_virtual_address_is_reported_once(scene: Scene) -> None:
    family = scene.family
    node = scene.entry(serial=1)
    client = scene.entry(serial=2, signature=scene.signature(client=(family.far_client, 4000)))
    client = client._replace(node_ipaddr=from_text(family.node2))
    other = scene.entry(serial=3, signature=scene.signature(client=(family.client, 4001)))
    other = other._replace(node_ipaddr=from_text(family.node2))
    scene.rig.apply(*map(InstallFlow, (node, client, other)))
    assert looping(passes(scene)) == []
    for address, serials in ((family.node, [1]), (family.far_client, [2])):
        key = VirtualServerKey(from_text(address), 80, scene.protocol)
        scene.rig.apply(AddVirtualServer(scene.server(key)))
        assert looping(passes(scene)) == serials
        another = key._replace(virt_port=81)
        scene.rig.apply(AddVirtualServer(scene.server(another)))
        assert looping(passes(scene)) == []  # it was this DFS's before
        scene.rig.apply(RemoveVirtualServer(key), RemoveVirtualServer(another))


def test_an_agent_that_adopts_a_table_looks_at_all_of_it(scene: Scene) -> None:
    """The one before may have died in the middle of its pass."""
    scene.rig.apply(InstallFlow(scene.entry(serial=1)))
    key = VirtualServerKey(from_text(scene.family.node), 80, scene.protocol)
    scene.rig.apply(AddVirtualServer(scene.server(key)))
    with scene.rig.agent_away():
        pass
    assert looping([e for e in passes(scene) if isinstance(e, FlowLooping)]) == [1]
    scene.rig.apply(RemoveVirtualServer(key))
