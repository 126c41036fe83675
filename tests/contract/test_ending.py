# SPDX-License-Identifier: Apache-2.0
"""A target that ends flows by itself (Offload, `ends`): the DELETEs that it finishes, entries that
linger and give way, half-open flows.

The rigs are configured with a timeout of one second for half-open flows.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    Event,
    FinishedMessages,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowReopened,
    InstallFlow,
    Offload,
    RemoveFlow,
)
from ssmb.constants import LINGER_MS, CloseReason, Flag
from ssmb.messages import Delete
from support.targets.answering_cs import GROUP, AnsweringCs, finished
from support.targets.rig import IPV4, Frame, OffloadRig, Rig, Side
from support.targets.scene import NAT, Scene

LINGER_S = LINGER_MS / 1000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IPV4_OCTETS, IPV6_OCTETS = 40, 60  # of a TCP segment without data or options


class Flow:
    """One connection of a client's port with the node, and what both have sent."""

    def __init__(self, scene: Scene, port: int = 40000) -> None:
        self.scene = scene
        self.end = scene.client[0], port
        self.seq, self.ack = 1000, 5000
        self.node_port = port  # as the node sees the client

    @property
    def signature(self) -> Any:
        return self.scene.signature(client=self.end)

    def client(self, flags: str, payload: bytes = b"", **fields: Any) -> list[Frame]:
        numbers = {"seq": self.seq, "ack": self.ack if "A" in flags else 0, **fields}
        packet = self.scene.segment(self.end, self.scene.vip, payload, flags=flags, **numbers)
        self.seq += len(payload) + ("S" in flags) + ("F" in flags)
        return self.scene.send(self.scene.inbound(packet))

    def node(self, flags: str, payload: bytes = b"") -> list[Frame]:
        packet = self.scene.segment(
            self.scene.node, self.end, payload, flags=flags, seq=self.ack, ack=self.seq
        )
        self.ack += len(payload) + ("S" in flags) + ("F" in flags)
        return self.scene.send(self.scene.outbound(packet))

    def shake_hands(self) -> None:
        assert len(self.client("S") + self.node("SA") + self.client("A")) == 3

    def close(self) -> None:
        assert len(self.client("FA") + self.node("FA") + self.client("A")) == 3

    def is_there(self) -> bool:
        return self.scene.rig.target.lookup(self.signature) is not None


def swept(rig: Rig) -> list[Event]:
    """All that a pass finds."""
    while not rig.target.sweep(256, stats=False):
        pass
    return rig.events()


def deletes(events: list[Event]) -> list[Delete]:
    found = finished(events)
    assert all(isinstance(each, Delete) for each in found)
    return cast("list[Delete]", found)


@pytest.fixture
def ending(offload_rig: OffloadRig, tcp_scene: Scene) -> Scene:
    """The target ends flows, and the agent asks."""
    offload_rig.apply(AddVirtualServer(tcp_scene.server()), Offload(GROUP, ends=True))
    return tcp_scene


@pytest.fixture
def asking(asking_rig: OffloadRig, tcp_scene: Scene, cs: AnsweringCs) -> AnsweringCs:
    asking_rig.apply(AddVirtualServer(tcp_scene.server()), cs.offload())
    return cs


def installed(scene: Scene, port: int = 40000, **changes: Any) -> Flow:
    """A flow that the agent entered."""
    flow = Flow(scene, port)
    entry = scene.entry(**{"signature": flow.signature, "serial": port, **changes})
    scene.rig.apply(InstallFlow(entry))
    return flow


def begun(cs: AnsweringCs, scene: Scene, port: int = 40000, **changes: Any) -> tuple[Flow, int]:
    """A flow that a REPLY entered, half-open, and its serial."""
    flow = Flow(scene, port)
    query = cs.asked(flow.client("S"))
    out = scene.send(cs.frame(cs.reply(query, scene.entry(**changes))))
    assert [side for side, _ in out] == [Side.INTERNAL]
    return flow, query.serial


def length(scene: Scene) -> int:
    return IPV4_OCTETS if scene.family.is_ipv4 else IPV6_OCTETS


def test_a_closed_flow_is_told_by_its_delete(ending: Scene) -> None:
    flow = installed(ending, opened_ms=0x12345678, signature=ending.signature(tos=0xB8))
    flow.shake_hands()
    flow.client("PA", b"request")
    flow.node("PA", b"a response")
    assert ending.rig.events() == []
    before = ending.values()["ended"]
    flow.close()
    size = length(ending)
    (delete,) = deletes(ending.rig.events())
    assert delete._replace(idle_ms=0) == Delete(
        flags=int(Flag.HAS_STATS | Flag.ADDR16),
        serial=40000,
        **ending.signature(tos=0xB8)._asdict(),
        tcp_flags=SYN | ACK | PSH | FIN,
        detail=CloseReason.FIN,
        timestamp=0x12345678,
        pkts_in=5,
        bytes_in=5 * size + len(b"request"),
        pkts_out=3,
        bytes_out=3 * size + len(b"a response"),
    )
    assert delete.idle_ms < 1000
    assert ending.values()["ended"] == before + 1


def test_the_delete_has_the_offsets_of_a_spliced_flow(ending: Scene) -> None:
    offsets = {"seq_offset": 7, "ack_offset": 0xFFFFFFF0, "ts_offset": 3, "wscale_shift": -2}
    flags = int(NAT | Flag.ADD_TCP_OFFSETS)
    flow = installed(ending, flags=flags, **offsets)
    flow.client("S")
    flow.node("SA")
    flow.client("RA", seq=flow.seq)
    (delete,) = deletes(ending.rig.events())
    assert delete.flags == Flag.HAS_STATS | Flag.ADDR16 | Flag.ADD_TCP_OFFSETS
    assert delete.detail == CloseReason.RST
    for name, value in offsets.items():
        assert getattr(delete, name) == value, name


def test_a_reset_is_told_as_one(ending: Scene) -> None:
    flow = installed(ending)
    flow.shake_hands()
    flow.node("RA")
    (delete,) = deletes(ending.rig.events())
    assert (delete.detail, delete.serial) == (CloseReason.RST, 40000)
    assert delete.tcp_flags & RST


def test_it_lingers_and_is_taken_out(offload_rig: OffloadRig, ending: Scene) -> None:
    flow = installed(ending)
    flow.shake_hands()
    flow.close()
    assert len(deletes(ending.rig.events())) == 1
    assert swept(ending.rig) == []  # told once
    assert len(flow.client("A")) == 1  # a late packet
    state = ending.rig.target.lookup(flow.signature)
    assert state is not None
    assert state.closed
    before = ending.values()["taken_out"]
    ending.rig.advance(LINGER_S + 0.1)
    assert swept(ending.rig) == []
    assert not flow.is_there()
    assert ending.rig.target.flow_count() == 0
    assert ending.values()["taken_out"] == before + 1


def test_late_packets_keep_it(offload_rig: OffloadRig) -> None:
    scene = Scene(offload_rig, IPV4, 6)
    offload_rig.apply(AddVirtualServer(scene.server()), Offload(GROUP, ends=True))
    flow = installed(scene)
    flow.shake_hands()
    flow.close()
    offload_rig.advance(LINGER_S / 2)
    assert len(flow.node("A")) == 1
    offload_rig.advance(LINGER_S / 2 + 0.1)
    assert len(deletes(swept(offload_rig))) == 1
    assert flow.is_there()
    offload_rig.advance(LINGER_S / 2)
    assert swept(offload_rig) == []
    assert not flow.is_there()


def test_a_flow_may_go_on_after_a_reset(ending: Scene) -> None:
    flow = installed(ending)
    flow.shake_hands()
    flow.client("R", seq=flow.seq)
    flow.client("PA", b"goes on")
    events = ending.rig.events()
    kinds = [type(event) for event in events]
    assert kinds == [FinishedMessages, FlowReopened], "told after its DELETE"
    (delete,) = deletes(events[:1])
    reopened = events[1]
    assert isinstance(reopened, FlowReopened)
    assert reopened.state.entry.serial == delete.serial
    assert not reopened.state.closed
    flow.node("A")
    flow.close()
    (again,) = deletes(ending.rig.events())
    assert (again.detail, again.serial) == (CloseReason.FIN, delete.serial)
    assert again.pkts_in > delete.pkts_in


def test_withdrawn_flows_end_as_before(ending: Scene) -> None:
    early, late = installed(ending), installed(ending, 40001)
    early.shake_hands()
    late.shake_hands()
    early.close()
    ending.rig.apply(Offload(GROUP))
    late.close()
    told, closed = ending.rig.events()
    assert [delete.serial for delete in deletes([told])] == [40000]
    assert isinstance(closed, FlowClosed)
    assert (closed.state.entry.serial, closed.cause) == (40001, CloseCause.FIN)
    ending.rig.advance(LINGER_S + 0.1)
    assert swept(ending.rig) == []
    assert not early.is_there()  # it was told of, and nobody else takes it out
    assert late.is_there()  # the agent does
    ending.rig.apply(RemoveFlow(late.signature, LINGER_MS))
    assert ending.rig.target.flow_count() == 0


def test_a_flow_that_nobody_asked_it_to_end_is_the_agents(ending: Scene) -> None:
    other = installed(ending, group_id=2)
    other.shake_hands()
    other.close()
    (closed,) = ending.rig.events()
    assert isinstance(closed, FlowClosed)


def test_a_new_agent_is_told_once_more(ending: Scene) -> None:
    flow = installed(ending)
    flow.shake_hands()
    with ending.rig.agent_away():
        flow.close()
    (closed,) = swept(ending.rig)
    assert isinstance(closed, FlowClosed)
    assert closed.state.entry.serial == 40000
    assert swept(ending.rig) == []
    path = AnsweringCs(ending.family)  # as the rig was: the program is where REPLYs come in
    ending.rig.apply(path.offload(), Offload(GROUP))


# --- flows that a REPLY entered ------------------------------------------------------------------


def test_a_client_that_says_nothing_more(tcp_scene: Scene, asking: AnsweringCs) -> None:
    silent, serial = begun(asking, tcp_scene)
    talking, _ = begun(asking, tcp_scene, 40001)
    talking.node("SA")
    talking.client("A")
    before = tcp_scene.values()
    tcp_scene.rig.advance(1.1)
    (delete,) = deletes(swept(tcp_scene.rig))
    assert (delete.serial, delete.detail) == (serial, CloseReason.IDLE)
    assert delete.signature == silent.signature
    assert (delete.tcp_flags, delete.pkts_in, delete.pkts_out) == (SYN, 1, 0)
    assert delete.idle_ms >= 1000
    assert not silent.is_there()
    assert talking.is_there()
    after = tcp_scene.values()
    assert after["half_open_ended"] == before["half_open_ended"] + 1


def test_a_syn_that_cannot_be_sent_on_leaves_a_flow_for_as_long(
    tcp_scene: Scene, asking: AnsweringCs
) -> None:
    """Here its time to live is over; its flow is half-open all the same."""
    scene = tcp_scene
    packet = scene.to_vip(flags="S", seq=1000)
    layer = packet[IP] if scene.family.is_ipv4 else packet[IPv6]
    setattr(layer, "ttl" if scene.family.is_ipv4 else "hlim", 1)
    query = asking.asked(scene.send(scene.inbound(packet)))
    out = scene.send(asking.frame(asking.reply(query, scene.entry())))
    assert [side for side, _ in out if side == Side.INTERNAL] == []
    state = scene.rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.half_open, state.counters.pkts_in) == (True, 0)
    before = scene.values()
    scene.rig.advance(1.1)
    (delete,) = deletes(swept(scene.rig))
    assert (delete.serial, delete.detail, delete.tcp_flags) == (query.serial, CloseReason.IDLE, SYN)
    assert scene.rig.target.flow_count() == 0
    assert scene.values()["half_open_ended"] == before["half_open_ended"] + 1


def test_without_ends_it_is_idle(tcp_scene: Scene, asking: AnsweringCs) -> None:
    tcp_scene.rig.apply(asking.offload(ends=False))
    flow, serial = begun(asking, tcp_scene)
    tcp_scene.rig.advance(1.1)
    (idle,) = swept(tcp_scene.rig)
    assert isinstance(idle, FlowIdle)
    assert idle.state.entry.serial == serial
    assert idle.state.half_open
    assert flow.is_there()


def test_the_same_port_connects_again(
    asking_rig: OffloadRig, tcp_scene: Scene, asking: AnsweringCs
) -> None:
    scene = tcp_scene
    flow, serial = begun(asking, scene)
    reply = asking.reply(asking.asked(Flow(scene, 40005).client("S")), scene.entry())
    flow.node("SA")
    flow.client("A")
    flow.close()
    assert [delete.serial for delete in deletes(scene.rig.events())] == [serial]
    # a REPLY about the flow that is over is late
    before = scene.values()
    signature = flow.signature._asdict()
    stale = reply._replace(serial=serial, **signature, frame=b"")
    assert scene.send(asking.frame(stale)) == []
    assert scene.values()["reply_stale"] == before["reply_stale"] + 1
    # another SYN is another connection
    flow.seq += 100_000
    query = asking.asked(flow.client("S"))
    assert query.serial != serial
    out = scene.send(asking.frame(asking.reply(query, scene.entry())))
    assert [side for side, _ in out] == [Side.INTERNAL]
    state = scene.rig.target.lookup(flow.signature)
    assert state is not None
    assert (state.entry.serial, state.closed, state.counters.pkts_in) == (query.serial, False, 1)
    assert scene.rig.target.flow_count() == 1
    assert (scene.rig.events(), asking_rig.delivered()) == ([], [])


def test_a_source_port_is_given_out_again(
    asking_rig: OffloadRig, tcp_scene: Scene, asking: AnsweringCs
) -> None:
    """The node knows both flows by one address and port; the one that is over gives way."""
    scene = tcp_scene
    shared: dict[str, Any] = {
        "flags": int(NAT | Flag.TRANSLATE_SRC),
        "snat_ipaddr": scene.family.snat,
        "snat_port": 5000,
    }
    earlier, serial = begun(asking, scene, **shared)
    earlier.client("R", seq=earlier.seq)
    assert [delete.serial for delete in deletes(scene.rig.events())] == [serial]
    before = scene.values()
    later, _ = begun(asking, scene, 40001, **shared)
    assert later.is_there()
    assert not earlier.is_there()
    assert scene.values()["lingering_replaced"] == before["lingering_replaced"] + 1
    assert scene.rig.target.flow_count() == 1
    assert (scene.rig.events(), asking_rig.delivered()) == ([], [])


def sized_scene(rig: Rig, scene: Scene, cs: AnsweringCs) -> Scene:
    """The same in a rig with a small table."""
    other = Scene(rig, scene.family, scene.protocol)
    cast("OffloadRig", rig).delivered()
    rig.apply(AddVirtualServer(other.server()), cs.offload())
    return other


def test_half_open_flows_make_room(
    asking_rig: OffloadRig, tcp_scene: Scene, cs: AnsweringCs
) -> None:
    with asking_rig.sized(8) as rig:
        scene = sized_scene(rig, tcp_scene, cs)
        room = rig.target.flow_capacity
        serials = [begun(cs, scene, 41000 + number)[1] for number in range(room)]
        assert rig.events() == []
        assert rig.target.flow_count() == room
        for number in range(3):
            flow, _ = begun(cs, scene, 42000 + number)
            assert flow.is_there()
        assert rig.target.flow_count() == room
        told = deletes(rig.events())
        assert [delete.serial for delete in told] == serials[:3]  # the oldest
        assert {delete.detail for delete in told} == {CloseReason.OVERFLOW}
        assert scene.values()["half_open_evicted"] == 3


def test_what_lingers_makes_room_first(
    asking_rig: OffloadRig, tcp_scene: Scene, cs: AnsweringCs
) -> None:
    with asking_rig.sized(8) as rig:
        scene = sized_scene(rig, tcp_scene, cs)
        room = rig.target.flow_capacity
        flows = [begun(cs, scene, 41000 + number) for number in range(room)]
        over, serial = flows[room // 2]
        over.client("R", seq=over.seq)
        assert [delete.serial for delete in deletes(rig.events())] == [serial]
        flow, _ = begun(cs, scene, 42000)
        assert flow.is_there()
        assert not over.is_there()
        assert rig.events() == []
        assert rig.target.flow_count() == room


def test_a_table_full_of_open_flows_is_the_agents(
    asking_rig: OffloadRig, tcp_scene: Scene, cs: AnsweringCs
) -> None:
    with asking_rig.sized(8) as rig:
        scene = sized_scene(rig, tcp_scene, cs)
        for number in range(rig.target.flow_capacity):
            flow, _ = begun(cs, scene, 41000 + number)
            flow.node("SA")
            flow.client("A")
        query = cs.asked(Flow(scene, 42000).client("S"))
        datagram = cs.sealed(cs.reply(query, scene.entry()))
        assert scene.send(cs.carrying(datagram)) == []
        assert cast("OffloadRig", rig).delivered() == [datagram]
        assert rig.events() == []


def entries_of(rig: Rig) -> list[FlowEntry]:
    return [state.entry for state in rig.target.scan(None, 256)[0]]


def test_what_a_reply_entered_is_found_by_a_new_agent(
    asking_rig: OffloadRig, tcp_scene: Scene, asking: AnsweringCs
) -> None:
    shared = int(NAT | Flag.TRANSLATE_SRC)
    snat: dict[str, Any] = {
        "flags": shared,
        "snat_ipaddr": tcp_scene.family.snat,
        "snat_port": 5000,
    }
    _, serial = begun(asking, tcp_scene, **snat)
    (before,) = entries_of(tcp_scene.rig)
    with tcp_scene.rig.agent_away():
        _, other = begun(asking, tcp_scene, 40001)
    assert tcp_scene.rig.target.flow_count() == 2
    after = {entry.serial: entry for entry in entries_of(tcp_scene.rig)}
    assert after.keys() == {serial, other}
    assert after[serial] == before
    assert after[serial]._replace(opened_ms=0) == tcp_scene.entry(
        serial=serial, opened_ms=0, **snat
    )
    tcp_scene.rig.apply(asking.offload())
