# SPDX-License-Identifier: Apache-2.0
"""The agent may go and come back: the target's table is the only copy of what goes on."""

from __future__ import annotations

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    FlowClosed,
    FlowEntry,
    InjectPacket,
    InstallFlow,
    PacketReason,
    SetOutboundQuery,
    TransmitPacket,
)
from ssmb.constants import Flag
from support.octets.packets import hop
from support.targets.rig import Side
from support.targets.scene import Scene, assert_packet, only


def test_flows_go_on_while_the_agent_is_away_and_the_next_one_knows_them(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    boot_id, capacity = scene.rig.target.boot_id, scene.rig.target.flow_capacity
    assert boot_id != 0
    with scene.rig.agent_away():
        for _ in range(3):
            octets = only(scene.send(scene.inbound(scene.to_vip(b"alone"))), Side.INTERNAL)
            assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"alone")))
        back = scene.segment(scene.node, scene.client, b"answer")
        octets = only(scene.send(scene.outbound(back)), Side.EXTERNAL)
        assert_packet(octets, hop(scene.segment(scene.vip, scene.client, b"answer")))
    target = scene.rig.target
    assert target.adopted
    assert (target.boot_id, target.flow_capacity) == (boot_id, capacity)
    state = target.lookup(scene.signature())
    assert state is not None
    assert state.entry == scene.entry()
    assert (state.counters.pkts_in, state.counters.pkts_out) == (3, 1)
    assert [found.entry for found in target.scan(None, 10)[0]] == [scene.entry()]
    assert list(target.virtual_servers()) == [scene.server()]
    assert target.flow_count() == 1


def test_new_flows_wait_for_an_agent(scene: Scene) -> None:
    scene.rig.apply(AddVirtualServer(scene.server()))
    with scene.rig.agent_away():
        pass  # what the agent's side counts begins at zero with every agent
    before = scene.values()
    with scene.rig.agent_away():
        assert scene.send(scene.inbound(scene.to_vip(b"nobody listens"))) == []
    assert scene.up_calls() == []
    assert scene.dropped_since(before) == 1
    scene.send(scene.inbound(scene.to_vip(b"again")))
    assert len(scene.up_calls()) == 1


def test_an_agent_that_came_back_installs_removes_and_puts_back(scene: Scene) -> None:
    with scene.rig.agent_away():
        pass
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(scene.to_vip(b"held")))
    (up,) = scene.up_calls()
    octets = only(scene.rig.apply(InstallFlow(scene.entry()), InjectPacket(up)), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, b"held")))


def test_a_flow_that_closed_while_nobody_listened_is_told_once(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    with scene.rig.agent_away():
        scene.send(
            scene.inbound(scene.segment(*there, flags="S", seq=9)),
            scene.outbound(scene.segment(*back, flags="SA", seq=99, ack=10)),
            scene.inbound(scene.segment(*there, flags="FA", seq=10, ack=100)),
            scene.outbound(scene.segment(*back, flags="FA", seq=100, ack=11)),
            scene.inbound(scene.segment(*there, flags="A", seq=11, ack=101)),
        )
    told: list[FlowEntry] = []
    for _ in range(3):
        while not scene.rig.target.sweep(64, stats=True):
            pass
        for event in scene.rig.events():
            assert isinstance(event, FlowClosed)
            assert event.cause == CloseCause.FIN
            assert (event.state.counters.pkts_in, event.state.counters.pkts_out) == (3, 2)
            told.append(event.state.entry)
    assert told == [scene.entry()]


def test_the_next_agent_is_told_of_what_lingers(tcp_scene: Scene) -> None:
    """The last one was told and went before it could take the entry out."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(
        scene.inbound(scene.to_vip(flags="S", seq=9)),
        scene.outbound(scene.segment(scene.node, scene.client, flags="RA", ack=10)),
    )
    (event,) = scene.rig.events()
    with scene.rig.agent_away():
        pass
    while not scene.rig.target.sweep(64, stats=False):
        pass
    (again,) = scene.rig.events()
    assert isinstance(event, FlowClosed)
    assert isinstance(again, FlowClosed)
    assert (again.cause, again.state.entry) == (event.cause, event.state.entry)


def test_what_waited_for_the_last_agent_is_not_told_to_the_next(scene: Scene) -> None:
    """Its holds are gone with it; clients and nodes repeat what matters."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(scene.to_vip(b"unread")))
    with scene.rig.agent_away():
        pass
    assert scene.up_calls() == []


def test_what_the_agent_holds_of_the_nodes_side_is_put_back_there(scene: Scene) -> None:
    scene.rig.apply(SetOutboundQuery(enabled=True))
    inside, outside = (scene.family.node, 5000), (scene.family.far_client, 443)
    scene.send(scene.outbound(scene.segment(inside, outside, b"held")))
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.OUTBOUND
    entry = scene.entry(
        signature=up.signature,
        flags=int(Flag.OUTBOUND | Flag.TRANSLATE_SRC | Flag.ROUTE_BY_DST_IP),
        snat_ipaddr=scene.family.vip,
        snat_port=61000,
    )
    octets = only(scene.rig.apply(InstallFlow(entry), InjectPacket(up)), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment((scene.family.vip, 61000), outside, b"held")))


def test_octets_that_are_no_packet_are_not_sent(scene: Scene) -> None:
    """The agent's mistake, or a peer's over the bridge; it is counted and nothing more."""
    whole = bytes(scene.to_vip(b"x"))
    before = scene.values()
    for octets in (b"", b"\x45", whole[:12], b"\x00" * 40):
        assert scene.rig.apply(TransmitPacket(octets)) == []
    assert scene.dropped_since(before) == 4
    assert scene.rig.events() == []
