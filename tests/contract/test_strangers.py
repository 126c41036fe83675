# SPDX-License-Identifier: Apache-2.0
"""Segments of somebody who knows the ports but no number of the connection, and segments that its
ends would not take: they change nothing (wire protocol 9.7, RFC 5961)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    Event,
    FlowClosed,
    FlowReopened,
    InstallFlow,
    RemoveFlow,
)
from ssmb.constants import ForwardMode
from support.targets.rig import Frame, Side
from support.targets.scene import Scene, only

CLIENT_SEQ, NODE_SEQ = 1004, 5004
"""What both ends send next after `established`, and have acknowledged of each other."""
FAR = 2_000_000_000


def there(scene: Scene, flags: str, seq: int, ack: int = 0, data: bytes = b"") -> Frame:
    """From the client, or in its name."""
    packet = scene.segment(scene.client, scene.vip, data, flags=flags, seq=seq, ack=ack)
    return scene.inbound(packet)


def back(scene: Scene, flags: str, seq: int, ack: int = 0, data: bytes = b"") -> Frame:
    """From the node."""
    packet = scene.segment(scene.node, scene.client, data, flags=flags, seq=seq, ack=ack)
    return scene.outbound(packet)


def established(scene: Scene) -> None:
    """A connection that both ends spoke on, through an address translation."""
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    scene.send(
        there(scene, "S", 1000),
        back(scene, "SA", 5000, 1001),
        there(scene, "A", 1001, 5001),
        there(scene, "PA", 1001, 5001, b"GET"),
        back(scene, "PA", 5001, 1004, b"yes"),
        there(scene, "A", 1004, 5004),
    )


def direct(scene: Scene) -> None:
    """The same with direct return: the node's answers do not pass."""
    entry = scene.entry(flags=0, forward_mode=ForwardMode.L2)
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(entry))
    scene.send(
        there(scene, "S", 1000),
        there(scene, "A", 1001, 5001),
        there(scene, "PA", 1001, 5001, b"GET"),
        there(scene, "A", 1004, 5004),
    )


BOTH_WAYS = pytest.mark.parametrize("begin", [established, direct], ids=["nat", "l2"])


def causes(events: list[Event]) -> list[int]:
    assert all(isinstance(event, FlowClosed) for event in events), events
    return [event.cause for event in events if isinstance(event, FlowClosed)]


def ends_by_fin(scene: Scene) -> bool:
    """Whether the connection is alive, and still ends as it should."""
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert not (state.closed)
    assert not (state.closing)
    assert not (state.half_open)
    scene.send(
        there(scene, "FA", CLIENT_SEQ, NODE_SEQ),
        back(scene, "FA", NODE_SEQ, CLIENT_SEQ + 1),
        there(scene, "A", CLIENT_SEQ + 1, NODE_SEQ + 1),
    )
    return causes(scene.rig.events()) == [CloseCause.FIN]


def test_a_sweep_of_resets_through_the_window_does_not_close(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    numbers = [CLIENT_SEQ + distance for distance in (1, 2, 100, 16_000, 32_000, 65_000, -1, -500)]
    scene.send(*(there(scene, "R", seq) for seq in numbers))
    scene.send(*(there(scene, "RA", seq, NODE_SEQ) for seq in numbers))
    assert scene.rig.events() == []
    assert ends_by_fin(scene)


@BOTH_WAYS
@pytest.mark.parametrize("flags", ["R", "FA"])
def test_a_segment_with_a_wrong_checksum_is_not_believed(
    tcp_scene: Scene, begin: Callable[[Scene], None], flags: str
) -> None:
    """The node drops it."""
    scene = tcp_scene
    begin(scene)
    packet = scene.segment(
        scene.client, scene.vip, flags=flags, seq=CLIENT_SEQ, ack=NODE_SEQ, chksum=0x1234
    )
    assert len(scene.send(scene.inbound(packet))) == 1
    assert scene.rig.events() == []
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert not state.closing


@BOTH_WAYS
def test_the_reset_of_a_client_closes(tcp_scene: Scene, begin: Callable[[Scene], None]) -> None:
    begin(tcp_scene)
    tcp_scene.send(there(tcp_scene, "R", CLIENT_SEQ))
    assert causes(tcp_scene.rig.events()) == [CloseCause.RST]


@BOTH_WAYS
def test_fins_with_random_numbers_are_not_believed(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    scene = tcp_scene
    begin(scene)
    scene.send(
        there(scene, "FA", FAR, FAR),
        there(scene, "FA", FAR + 1, NODE_SEQ),
        there(scene, "F", CLIENT_SEQ),
        there(scene, "FA", CLIENT_SEQ + 7, FAR),
    )
    scene.send(there(scene, "PA", CLIENT_SEQ, NODE_SEQ, b"more"))
    assert scene.rig.events() == []
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert not state.closing


@BOTH_WAYS
def test_random_data_with_a_reset_behind_it_do_not_close(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    scene = tcp_scene
    begin(scene)
    for seq, ack in ((FAR, FAR), (CLIENT_SEQ + 9000, FAR), (CLIENT_SEQ + 9000, NODE_SEQ)):
        scene.send(
            there(scene, "PA", seq, ack, bytes(100)),
            there(scene, "R", seq + 100),
            there(scene, "R", seq),
        )
    assert scene.rig.events() == []
    scene.send(there(scene, "R", CLIENT_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]


@BOTH_WAYS
def test_a_syn_with_the_handshakes_rest_and_a_reset_behind_it_do_not_close(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    scene = tcp_scene
    begin(scene)
    scene.send(
        there(scene, "S", FAR),
        there(scene, "A", FAR + 1, FAR),
        there(scene, "RA", FAR + 1, FAR),
        there(scene, "R", FAR + 1),
        there(scene, "SR", CLIENT_SEQ),
        there(scene, "SF", CLIENT_SEQ),
        there(scene, "SA", FAR, FAR),
        there(scene, "R", FAR + 1),
    )
    assert scene.rig.events() == []
    scene.send(there(scene, "R", CLIENT_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]


def test_an_acknowledgement_far_ahead_hides_no_reset_of_the_node(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    scene.send(there(scene, "A", CLIENT_SEQ, FAR), there(scene, "A", FAR, NODE_SEQ + 50_000))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    scene.send(back(scene, "R", NODE_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]


def test_an_acknowledgement_of_what_was_not_sent_completes_no_close(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    scene.send(
        there(scene, "FA", CLIENT_SEQ, NODE_SEQ),
        back(scene, "FA", NODE_SEQ, CLIENT_SEQ + 1),
        there(scene, "A", CLIENT_SEQ + 1, NODE_SEQ + 2),
        there(scene, "A", CLIENT_SEQ + 1, FAR),
    )
    assert scene.rig.events() == []
    scene.send(there(scene, "A", CLIENT_SEQ + 1, NODE_SEQ + 1))
    assert causes(scene.rig.events()) == [CloseCause.FIN]


# --- ends that lose packets before they come here, and end all the same ----------------------


@BOTH_WAYS
def test_a_fin_that_overtook_data_counts_once_they_are_there(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    scene = tcp_scene
    begin(scene)
    scene.send(there(scene, "FPA", CLIENT_SEQ + 100, NODE_SEQ, bytes(50)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert not state.closing
    scene.send(there(scene, "PA", CLIENT_SEQ, NODE_SEQ, bytes(100)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.closing


def test_what_was_lost_before_it_came_here_is_known_by_its_acknowledgement(
    tcp_scene: Scene,
) -> None:
    """It took another way, or two pieces are missing; the other end has all of it."""
    scene = tcp_scene
    established(scene)
    scene.send(
        there(scene, "PA", CLIENT_SEQ + 100, NODE_SEQ, bytes(100)),
        there(scene, "PA", CLIENT_SEQ + 300, NODE_SEQ, bytes(100)),
        back(scene, "A", NODE_SEQ, CLIENT_SEQ + 400),
        there(scene, "FA", CLIENT_SEQ + 400, NODE_SEQ),
        back(scene, "FA", NODE_SEQ, CLIENT_SEQ + 401),
        there(scene, "A", CLIENT_SEQ + 401, NODE_SEQ + 1),
    )
    assert causes(scene.rig.events()) == [CloseCause.FIN]


@BOTH_WAYS
def test_a_reset_after_two_holes_that_were_filled(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    scene = tcp_scene
    begin(scene)
    scene.send(
        there(scene, "PA", FAR, NODE_SEQ, bytes(10)),  # a stranger's
        there(scene, "PA", CLIENT_SEQ + 100, NODE_SEQ, bytes(100)),
        there(scene, "PA", CLIENT_SEQ + 300, NODE_SEQ, bytes(100)),
        there(scene, "PA", CLIENT_SEQ, NODE_SEQ, bytes(100)),
        there(scene, "PA", CLIENT_SEQ + 200, NODE_SEQ, bytes(100)),
        there(scene, "PA", CLIENT_SEQ + 400, NODE_SEQ, bytes(5)),
        there(scene, "R", CLIENT_SEQ + 405),
    )
    assert causes(scene.rig.events()) == [CloseCause.RST]


def test_a_flow_that_is_met_in_the_middle_ends_as_well(tcp_scene: Scene) -> None:
    """Another DFS began it; nothing is known of scales and numbers."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(
        there(scene, "PA", CLIENT_SEQ, NODE_SEQ, b"abc"),
        there(scene, "A", CLIENT_SEQ + 3, NODE_SEQ + 500_000),  # much of the answer went before
        back(scene, "PA", NODE_SEQ + 500_000, CLIENT_SEQ + 3, b"xy"),
        there(scene, "FA", CLIENT_SEQ + 3, NODE_SEQ + 500_002),
        back(scene, "FA", NODE_SEQ + 500_002, CLIENT_SEQ + 4),
        there(scene, "A", CLIENT_SEQ + 4, NODE_SEQ + 500_003),
    )
    assert causes(scene.rig.events()) == [CloseCause.FIN]


# --- a flow that goes on --------------------------------------------------------------------


@BOTH_WAYS
def test_a_client_that_goes_on_after_its_reset_takes_the_flow_back(
    tcp_scene: Scene, begin: Callable[[Scene], None]
) -> None:
    """Then the RST was not its own, or did not arrive."""
    scene = tcp_scene
    begin(scene)
    scene.send(there(scene, "R", CLIENT_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]
    scene.send(there(scene, "R", CLIENT_SEQ), there(scene, "PA", FAR, NODE_SEQ, b"x"))
    assert scene.rig.events() == []
    scene.send(there(scene, "PA", CLIENT_SEQ, NODE_SEQ, b"on"))
    (event,) = scene.rig.events()
    assert isinstance(event, FlowReopened)
    assert event.state.entry.serial == scene.entry().serial
    assert not event.state.closed
    scene.send(there(scene, "R", CLIENT_SEQ + 2))
    assert causes(scene.rig.events()) == [CloseCause.RST]


def test_what_was_on_its_way_does_not_take_the_flow_back(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    scene.send(
        there(scene, "R", CLIENT_SEQ),
        back(scene, "PA", NODE_SEQ, CLIENT_SEQ, b"still on its way"),
        back(scene, "A", NODE_SEQ + 16, CLIENT_SEQ),
        there(scene, "PA", CLIENT_SEQ - 3, NODE_SEQ, b"GET"),
    )
    assert causes(scene.rig.events()) == [CloseCause.RST]


def test_a_node_that_goes_on_after_its_reset_takes_the_flow_back(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    scene.send(back(scene, "R", NODE_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]
    scene.send(back(scene, "PA", NODE_SEQ, CLIENT_SEQ, b"on"))
    assert [type(event) for event in scene.rig.events()] == [FlowReopened]


def test_who_has_sent_nothing_but_a_reset_does_not_go_on(tcp_scene: Scene) -> None:
    """Its numbers are not known: whatever comes may be anybody's."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(there(scene, "PA", CLIENT_SEQ, NODE_SEQ, b"abc"), back(scene, "R", NODE_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]
    for seq in (0, 20, 65_000):
        scene.send(back(scene, "PA", seq, CLIENT_SEQ + 3, b"x"))
    assert scene.rig.events() == []


def test_an_entry_is_taken_out_when_it_has_been_silent(tcp_scene: Scene) -> None:
    scene = tcp_scene
    established(scene)
    scene.rig.apply(RemoveFlow(scene.signature(), silent_ms=1))
    (event,) = scene.rig.events()
    assert isinstance(event, FlowReopened)  # it is not even closed
    assert not event.state.closed
    scene.send(there(scene, "R", CLIENT_SEQ))
    assert causes(scene.rig.events()) == [CloseCause.RST]
    scene.rig.advance(0.1)
    scene.rig.apply(RemoveFlow(scene.signature(), silent_ms=50))
    assert scene.rig.events() == []
    assert scene.rig.target.lookup(scene.signature()) is None


# --- where packets come from ----------------------------------------------------------------


def test_a_nodes_answer_from_the_external_side_is_dropped(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    before = scene.values()
    answer = scene.segment(scene.node, scene.client, b"made up")
    assert scene.send(scene.inbound(answer)) == []
    assert scene.values()["drop_return_outside"] == before["drop_return_outside"] + 1
    only(scene.send(scene.outbound(answer)), Side.EXTERNAL)
    assert scene.send(scene.inbound(answer)) == []


@pytest.mark.parametrize("flags", ["SR", "SF", "SRA", "SFA"])
def test_a_syn_with_fin_or_rst_begins_no_flow(tcp_scene: Scene, flags: str) -> None:
    scene = tcp_scene
    scene.rig.apply(AddVirtualServer(scene.server()))
    before = scene.values()
    assert scene.send(there(scene, flags, 7)) == []
    assert scene.rig.events() == []
    assert scene.values()["drop_tcp_flags"] == before["drop_tcp_flags"] + 1
