# SPDX-License-Identifier: Apache-2.0
"""How a TCP flow ends: the four steps in any order, RST, and what comes after (9.7)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    Event,
    FlowClosed,
    InjectPacket,
    InstallFlow,
    PacketIn,
    PacketReason,
    RemoveVirtualServer,
)
from ssmb.constants import Flag
from support.octets.packets import hop
from support.targets.rig import Side
from support.targets.scene import NAT, Scene, assert_packet, only

WORD = 0xFFFFFFFF


@dataclass
class Talk:
    """A TCP connection through the target: both ends' numbers, as each of them counts."""

    scene: Scene
    client_seq: int = 4_000_000_000
    node_seq: int = 0xFFFFFFF0  # wraps within the connection
    client_seen: int = 0  # what the node has acknowledged of the client
    node_seen: int = 0
    seq_offset: int = 0  # what the target adds to the client's numbers
    ack_offset: int = 0

    def client(self, flags: str, payload: bytes = b"", *, seq: int | None = None) -> list[Event]:
        """The client sends a segment (`seq`: not the next one)."""
        ack = self.node_seq if "A" in flags else 0
        there = self.scene.segment(
            self.scene.client,
            self.scene.vip,
            payload,
            flags=flags,
            seq=self.client_seq if seq is None else seq,
            ack=(ack - self.ack_offset) & WORD if "A" in flags else 0,
        )
        out = self.scene.send(self.scene.inbound(there))
        assert [side for side, _ in out] == [Side.INTERNAL]
        if seq is None:
            self.client_seq = (self.client_seq + len(payload) + consumed(flags)) & WORD
        return self.scene.rig.events()

    def node(self, flags: str, payload: bytes = b"", *, seq: int | None = None) -> list[Event]:
        """The node sends a segment."""
        ack = (self.client_seq + self.seq_offset) & WORD if "A" in flags else 0
        back = self.scene.segment(
            self.scene.node,
            self.scene.client,
            payload,
            flags=flags,
            seq=self.node_seq if seq is None else seq,
            ack=ack,
        )
        out = self.scene.send(self.scene.outbound(back))
        assert [side for side, _ in out] == [Side.EXTERNAL]
        if seq is None:
            self.node_seq = (self.node_seq + len(payload) + consumed(flags)) & WORD
        return self.scene.rig.events()

    def state(self) -> tuple[bool, int]:
        found = self.scene.rig.target.lookup(self.scene.signature())
        assert found is not None
        return found.closing, found.tcp_flags


def consumed(flags: str) -> int:
    return int("S" in flags) + int("F" in flags)


def opened(scene: Scene, **changes: int) -> Talk:
    """An installed flow after its handshake and a little data each way."""
    scene.rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry(**changes)))
    talk = Talk(scene)
    talk.seq_offset = changes.get("seq_offset", 0)
    talk.ack_offset = changes.get("ack_offset", 0)
    events = talk.client("S") + talk.node("SA") + talk.client("A")
    events += talk.client("PA", b"request") + talk.node("PA", b"response")
    assert events == []
    assert talk.state() == (False, 0x1A)
    return talk


def closed(events: list[Event]) -> list[int]:
    assert all(isinstance(event, FlowClosed) for event in events), events
    return [event.cause for event in events if isinstance(event, FlowClosed)]


OFFSETS = {
    "seq_offset": 0x90000000,
    "ack_offset": 12345,
    "flags": int(NAT | Flag.ADD_TCP_OFFSETS),
}


@pytest.mark.parametrize("changes", [{}, OFFSETS], ids=["plain", "spliced"])
def test_the_client_closes_first(tcp_scene: Scene, changes: dict[str, int]) -> None:
    talk = opened(tcp_scene, **changes)
    assert talk.client("FA") == []
    assert talk.state()[0]
    assert talk.node("A") == []
    assert talk.node("FA") == []
    assert talk.state()[0]
    assert closed(talk.client("A")) == [CloseCause.FIN]
    assert not talk.state()[0]


@pytest.mark.parametrize("changes", [{}, OFFSETS], ids=["plain", "spliced"])
def test_the_node_closes_first_and_the_client_answers_with_both_at_once(
    tcp_scene: Scene, changes: dict[str, int]
) -> None:
    talk = opened(tcp_scene, **changes)
    assert talk.node("FA") == []
    assert talk.client("FA") == []
    assert closed(talk.node("A")) == [CloseCause.FIN]


def test_both_close_at_the_same_time(tcp_scene: Scene) -> None:
    talk = opened(tcp_scene)
    before = talk.client_seq
    assert talk.client("FA") == []
    after, talk.client_seq = talk.client_seq, before  # the node has not seen the client's yet
    assert talk.node("FA") == []
    talk.client_seq = after
    assert talk.client("A") == []
    assert closed(talk.node("A")) == [CloseCause.FIN]


def test_what_is_told_at_the_end_is_all_that_was_counted(tcp_scene: Scene) -> None:
    talk = opened(tcp_scene)
    talk.client("FA")
    talk.node("FA")
    (event,) = talk.client("A")
    assert isinstance(event, FlowClosed)
    assert event.state.entry == tcp_scene.entry()
    assert (event.state.counters.pkts_in, event.state.counters.pkts_out) == (5, 3)
    assert event.state.tcp_flags == 0x1B
    assert not event.state.closing


def test_data_after_a_half_close_goes_on(tcp_scene: Scene) -> None:
    talk = opened(tcp_scene)
    talk.client("FA", b"last words")
    assert talk.node("A") == []
    for _ in range(5):
        assert talk.node("PA", b"still a long answer") == []
        assert talk.client("A") == []
    assert talk.state()[0]
    assert talk.node("FA", b"end") == []
    assert closed(talk.client("A")) == [CloseCause.FIN]


def test_a_fin_that_is_not_acknowledged_yet_does_not_count(tcp_scene: Scene) -> None:
    """The acknowledgement must cover the FIN itself, not just the data before it."""
    talk = opened(tcp_scene)
    before = talk.client_seq
    talk.client("FA")
    after, talk.client_seq = talk.client_seq, before
    assert talk.node("FA") == []  # acknowledges the data, not the FIN
    talk.client_seq = after
    assert talk.client("A") == []
    assert talk.state()[0]
    assert talk.node("A") != []


def test_repeated_fins_change_nothing(tcp_scene: Scene) -> None:
    talk = opened(tcp_scene)
    seq = talk.client_seq
    for _ in range(3):
        talk.client_seq = seq
        assert talk.client("FA") == []
    assert talk.node("FA") == []
    assert closed(talk.client("A")) == [CloseCause.FIN]


@pytest.mark.parametrize("flags", ["R", "RA"])
@pytest.mark.parametrize("end", ["client", "node"])
def test_a_valid_reset_from_either_end_closes(tcp_scene: Scene, end: str, flags: str) -> None:
    talk = opened(tcp_scene)
    talk.client("A")  # all that both sent is acknowledged now
    talk.node("A")
    events = talk.client(flags) if end == "client" else talk.node(flags)
    assert closed(events) == [CloseCause.RST]
    assert not talk.state()[0]


def test_a_valid_reset_of_a_spliced_flow_is_judged_by_its_own_sides_numbers(
    tcp_scene: Scene,
) -> None:
    talk = opened(tcp_scene, **OFFSETS)
    talk.client("A")
    talk.node("A")
    assert closed(talk.node("R")) == [CloseCause.RST]


def test_a_node_that_refuses_closes(tcp_scene: Scene) -> None:
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry()))
    talk = Talk(tcp_scene)
    assert talk.client("S") == []
    assert closed(talk.node("RA", seq=0)) == [CloseCause.RST]


@pytest.mark.parametrize("end", ["client", "node"])
def test_a_reset_from_out_of_the_window_does_not_close(tcp_scene: Scene, end: str) -> None:
    """Nobody who cannot see the connection may make us forget it (RFC 5961 3)."""
    talk = opened(tcp_scene)
    talk.client("A")
    talk.node("A")
    for distance in (0x40000000, -0x40000000, 0x7FFFFFFF, -200_000):
        own = talk.client_seq if end == "client" else talk.node_seq
        seq = (own + distance) & WORD
        events = talk.client("R", seq=seq) if end == "client" else talk.node("R", seq=seq)
        assert events == []
    assert talk.client("PA", b"alive") == []
    assert talk.state()[0] is False


def finished(scene: Scene) -> Talk:
    talk = opened(scene)
    talk.client("FA")
    talk.node("FA")
    assert closed(talk.client("A")) == [CloseCause.FIN]
    return talk


def test_late_packets_are_translated_and_the_end_is_told_once(tcp_scene: Scene) -> None:
    scene, talk = tcp_scene, finished(tcp_scene)
    for _ in range(3):
        octets = only(
            scene.send(scene.outbound(scene.segment(scene.node, scene.client, flags="FA"))),
            Side.EXTERNAL,
        )
        assert_packet(octets, hop(scene.segment(scene.vip, scene.client, flags="FA")))
    assert talk.client("A") == []
    assert talk.client("R") == []
    while not scene.rig.target.sweep(100, stats=False):
        pass
    assert scene.rig.events() == []
    assert scene.rig.target.lookup(scene.signature()) is not None


def test_a_syn_on_a_closed_entry_is_a_new_flow(tcp_scene: Scene) -> None:
    scene = tcp_scene
    finished(scene)
    syn = scene.to_vip(flags="S", seq=77)
    assert scene.send(scene.inbound(syn)) == []
    (up,) = scene.up_calls()
    assert up.reason == PacketReason.NEW_FLOW
    assert up.tcp_flags == 2
    entry = scene.entry(serial=2002, node_ipaddr=scene.family.node2)
    octets = only(scene.rig.apply(InstallFlow(entry), InjectPacket(up)), Side.INTERNAL)
    renewed = scene.segment(scene.client, (scene.family.node2, 8080), flags="S", seq=77)
    assert_packet(octets, hop(renewed))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 1
    assert (state.tcp_flags, state.closing) == (2, False)


def test_a_syn_on_a_closed_entry_without_its_virtual_server_does_not_come_up(
    tcp_scene: Scene,
) -> None:
    scene = tcp_scene
    finished(scene)
    scene.rig.apply(RemoveVirtualServer(scene.key()))
    scene.send(scene.inbound(scene.to_vip(flags="S", seq=77)))
    assert not [event for event in scene.rig.events() if isinstance(event, PacketIn)]


def test_only_a_clients_plain_syn_begins_anew(tcp_scene: Scene) -> None:
    """Other late packets of either end still belong to what is over."""
    scene = tcp_scene
    finished(scene)
    for flags in ("SA", "A", "FA", "PA", "R"):
        sent = scene.inbound(scene.to_vip(flags=flags, seq=77))
        octets = only(scene.send(sent), Side.INTERNAL)
        assert_packet(octets, hop(scene.segment(scene.client, scene.node, flags=flags, seq=77)))
    sent = scene.outbound(scene.segment(scene.node, scene.client, flags="S", seq=5))
    octets = only(scene.send(sent), Side.EXTERNAL)
    assert_packet(octets, hop(scene.segment(scene.vip, scene.client, flags="S", seq=5)))
    assert scene.rig.events() == []


@pytest.mark.parametrize(
    ("distance", "valid"), [(0, True), (1, False), (127_000, False), (-9, False)]
)
def test_a_reset_within_the_receivers_window_but_not_at_its_number_does_not_close(
    tcp_scene: Scene, distance: int, valid: bool
) -> None:
    """The receiver answers it with a challenge, and goes on (RFC 5961 3.2)."""
    scene = tcp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scale = [("WScale", 7), ("NOP", None)]
    segments = [
        scene.inbound(scene.segment(*there, flags="S", seq=100, options=scale)),
        scene.outbound(scene.segment(*back, flags="SA", seq=500, ack=101, options=scale)),
        scene.inbound(scene.segment(*there, flags="A", seq=101, ack=501)),
        scene.outbound(scene.segment(*back, flags="A", seq=501, ack=101, window=1000)),
        scene.inbound(scene.segment(*there, flags="R", seq=101 + distance)),
    ]
    assert len(scene.send(*segments)) == 5
    assert closed(scene.rig.events()) == ([CloseCause.RST] if valid else [])


def test_a_syn_on_a_living_entry_goes_to_the_same_node(tcp_scene: Scene) -> None:
    """The client's own repeat, or its port used anew before we knew: the node can tell."""
    scene = tcp_scene
    opened(scene)
    octets = only(scene.send(scene.inbound(scene.to_vip(flags="S", seq=5))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, scene.node, flags="S", seq=5)))
    assert scene.rig.events() == []


def test_a_replaced_entry_closes_anew(tcp_scene: Scene) -> None:
    finished(tcp_scene)
    tcp_scene.rig.apply(InstallFlow(tcp_scene.entry(serial=2002)))
    talk = Talk(tcp_scene, client_seq=1, node_seq=100)
    talk.client("S")
    talk.node("SA")
    talk.client("FA")
    talk.node("FA")
    assert closed(talk.client("A")) == [CloseCause.FIN]


def test_udp_never_closes(udp_scene: Scene) -> None:
    scene = udp_scene
    scene.rig.apply(InstallFlow(scene.entry()))
    scene.send(scene.inbound(scene.to_vip(b"\x05" * 40)))
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.tcp_flags, state.closing) == (0, False)
    assert scene.rig.events() == []
