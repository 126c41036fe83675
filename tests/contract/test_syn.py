# SPDX-License-Identifier: Apache-2.0
"""A SYN on a living entry: another connection, or somebody who knows no sequence number."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    FlowClosed,
    InjectPacket,
    InstallFlow,
    PacketReason,
    RemoveFlow,
)
from ssmb.constants import Flag, ForwardMode
from support.targets.rig import Frame, Side
from support.targets.scene import Scene


def established(scene: Scene) -> None:
    """A connection that both ends spoke on."""
    scene.rig.apply(InstallFlow(scene.entry()))
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scene.send(
        scene.inbound(scene.segment(*there, flags="S", seq=1000)),
        scene.outbound(scene.segment(*back, flags="SA", seq=5000, ack=1001)),
        scene.inbound(scene.segment(*there, flags="A", seq=1001, ack=5001)),
        scene.inbound(scene.segment(*there, b"GET", flags="PA", seq=1001, ack=5001)),
        scene.outbound(scene.segment(*back, b"yes", flags="PA", seq=5001, ack=1004)),
    )


def test_a_blind_syn_and_reset_do_not_end_a_connection(tcp_scene: Scene) -> None:
    """Who guesses the ports knows no sequence number; a SYN must not supply one."""
    scene = tcp_scene
    established(scene)
    guess = 2_000_000_000
    scene.send(
        scene.inbound(scene.to_vip(flags="S", seq=guess)),
        scene.inbound(scene.to_vip(flags="R", seq=guess + 1)),
    )
    assert scene.rig.events() == []
    # and the connection still ends as it should
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scene.send(
        scene.outbound(scene.segment(*back, flags="A", seq=5004, ack=1004)),
        scene.inbound(scene.segment(*there, flags="FA", seq=1004, ack=5004)),
        scene.outbound(scene.segment(*back, flags="FA", seq=5004, ack=1005)),
        scene.inbound(scene.segment(*there, flags="A", seq=1005, ack=5005)),
    )
    (event,) = scene.rig.events()
    assert isinstance(event, FlowClosed)
    assert event.cause == CloseCause.FIN


def test_another_connection_counts_from_the_nodes_answer(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scene.send(
        scene.inbound(scene.segment(*there, flags="S", seq=7_000_000)),
        scene.outbound(scene.segment(*back, flags="SA", seq=9_000_000, ack=7_000_001)),
        scene.inbound(scene.segment(*there, flags="A", seq=7_000_001, ack=9_000_001)),
        # what would have been right for the one before
        scene.inbound(scene.segment(*there, flags="R", seq=1004)),
    )
    assert scene.rig.events() == []
    scene.send(scene.inbound(scene.segment(*there, flags="R", seq=7_000_001)))
    (event,) = scene.rig.events()
    assert isinstance(event, FlowClosed)
    assert event.cause == CloseCause.RST


def test_a_node_that_refuses_another_connection_ends_the_flow(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    back = (scene.node, scene.client)
    scene.send(
        scene.inbound(scene.to_vip(flags="S", seq=7_000_000)),
        scene.outbound(scene.segment(*back, flags="RA", seq=0, ack=1_234_567)),
    )
    assert scene.rig.events() == []  # an answer to nothing that was asked
    scene.send(scene.outbound(scene.segment(*back, flags="RA", seq=0, ack=7_000_001)))
    (event,) = scene.rig.events()
    assert isinstance(event, FlowClosed)
    assert event.cause == CloseCause.RST


def test_what_both_ends_want_next_is_known(tcp_scene: Scene) -> None:
    """A connection that is ended in the middle is reset with exactly these numbers."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.client_wants, state.node_wants) == (None, None)
    scene.rig.apply(RemoveFlow(scene.signature()))
    established(scene)
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scene.send(
        scene.outbound(scene.segment(*back, flags="A", seq=5004, ack=1004)),
        scene.inbound(scene.segment(*there, flags="A", seq=1004, ack=5004)),
    )
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.client_wants, state.node_wants) == (5004, 1004)


# --- a node that does not answer ---------------------------------------------------------------


def test_a_second_syn_that_the_node_does_not_answer_comes_up(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    syn = scene.inbound(scene.to_vip(flags="S", seq=1000))
    assert len(scene.send(syn)) == 1  # the first one of all is the node's
    scene.rig.advance(0.3)
    assert scene.send(syn) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.signature.session) == (
        PacketReason.UNANSWERED,
        scene.signature().session,
    )
    assert up.virtual_server == scene.key()
    ((side, _),) = scene.rig.apply(InjectPacket(up))  # put back it goes to the node
    assert side == Side.INTERNAL
    assert scene.up_calls() == []


def test_one_syn_on_a_half_open_flow_whose_node_fell_silent_comes_up(tcp_scene: Scene) -> None:
    """It answered, and may have died before its client went on: nobody has a connection there."""
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry(), half_open=True))
    back = (scene.node, scene.client)
    scene.send(
        scene.inbound(scene.to_vip(flags="S", seq=1000)),
        scene.outbound(scene.segment(*back, flags="SA", seq=5000, ack=1001)),
    )
    scene.rig.advance(0.3)
    assert len(scene.send(scene.inbound(scene.to_vip(flags="S", seq=1000)))) == 1  # it may live
    scene.rig.advance(0.8)
    assert scene.send(scene.inbound(scene.to_vip(flags="S", seq=7_000_000))) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.UNANSWERED


def test_without_an_agent_a_second_syn_goes_to_the_node(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    syn = scene.inbound(scene.to_vip(flags="S", seq=1000))
    with scene.rig.agent_away():
        scene.send(syn)
        scene.rig.advance(0.3)
        assert len(scene.send(syn)) == 1


def test_a_syn_on_a_connection_whose_node_speaks_does_not_come_up(tcp_scene: Scene) -> None:
    """A stranger's, say: the node answers for itself."""
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    established(scene)
    scene.send(
        scene.outbound(scene.segment(scene.node, scene.client, flags="A", seq=5004, ack=1004))
    )
    scene.rig.advance(0.3)
    assert len(scene.send(scene.inbound(scene.to_vip(flags="S", seq=7_000_000)))) == 1
    assert scene.up_calls() == []


def question(scene: Scene) -> Frame:
    """What the client says on, after `established`."""
    return scene.inbound(
        scene.segment(scene.client, scene.vip, b"?", flags="PA", seq=1004, ack=5004)
    )


def test_one_syn_on_a_connection_whose_node_has_not_answered_yet_does_not_come_up(
    tcp_scene: Scene,
) -> None:
    """A stranger's, just after a packet of the client: the connection must not be moved for it."""
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    established(scene)
    scene.rig.advance(1.1)
    scene.send(question(scene))
    scene.rig.advance(0.3)
    syn = scene.inbound(scene.to_vip(flags="S", seq=7_000_000))
    assert len(scene.send(syn)) == 1
    # what a client says between two SYNs tells that it has the connection
    scene.send(question(scene))
    scene.rig.advance(0.3)
    assert len(scene.send(syn)) == 1
    # the node lives, and answers one of several (RFC 5961 4)
    scene.send(
        scene.outbound(scene.segment(scene.node, scene.client, flags="A", seq=5004, ack=1005))
    )
    for _ in range(3):
        scene.rig.advance(0.25)
        assert len(scene.send(syn)) == 1
    assert scene.up_calls() == []


@pytest.mark.parametrize("direct", [False, True])
def test_a_second_syn_to_a_node_that_fell_silent_comes_up(
    tcp_scene: Scene, *, direct: bool
) -> None:
    """A client that connects again and again from one port."""
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    if direct:
        change = {"forward_mode": int(ForwardMode.L2), "flags": int(Flag.ROUTE_BY_DST_IP)}
        scene.rig.apply(InstallFlow(scene.entry(**change)))
        scene.send(scene.inbound(scene.to_vip(flags="S", seq=1000)))
        scene.send(scene.inbound(scene.to_vip(flags="A", seq=1001, ack=5001)))
    else:
        established(scene)
    scene.rig.advance(1.1)
    assert len(scene.send(scene.inbound(scene.to_vip(flags="S", seq=7_000_000)))) == 1
    scene.rig.advance(0.3)
    assert scene.send(scene.inbound(scene.to_vip(flags="S", seq=8_000_000))) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.UNANSWERED
    ((side, _),) = scene.rig.apply(InjectPacket(up))
    assert side == Side.INTERNAL


# --- one port for a virtual server and for its node itself ----------------------------------------


def test_a_syn_to_the_node_itself_from_a_flows_own_port_comes_up(tcp_scene: Scene) -> None:
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    established(scene)
    direct = scene.segment(scene.client, scene.node, flags="S", seq=9)
    assert scene.send(scene.inbound(direct)) == []
    (up,) = scene.up_calls()
    assert (up.reason, up.signature.session) == (
        PacketReason.COLLISION,
        scene.signature().session,
    )
    # anything else towards the node is routed as ever
    client, port = scene.client
    for packet in (
        scene.segment((client, port + 1), scene.node, flags="S", seq=9),
        scene.segment(scene.client, (scene.node[0], 22), flags="S", seq=9),
    ):
        assert len(scene.send(scene.inbound(packet))) == 1
    assert scene.up_calls() == []
