# SPDX-License-Identifier: Apache-2.0
"""Grants: a target gives decisions that were made ahead to new flows by itself (wire protocol
13.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    FlowState,
    InstallFlow,
    PacketIn,
    RemoveFlow,
    RemoveVirtualServer,
)
from data_flow_segment.targets.grants import (
    AddGrantClients,
    AddGrants,
    AddGrantTable,
    BeginGrants,
    EndGrants,
    ExtendLease,
    GrantCounts,
    GrantsEnded,
    GrantsTaken,
)
from ssmb.addresses import from_text
from ssmb.constants import GRANTED_MAX, ErrorCode, Flag, GrantKind
from ssmb.grants import (
    GrantClient,
    GrantNode,
    TakenFlow,
    flows_of,
    following,
    pack_decisions,
)
from ssmb.messages import Translation
from ssmb.seal import tag
from support.targets.rig import Frame, Side
from support.targets.scene import NAT, Scene, only

SERIAL = 0x81FFFFFE
GENERATION = 7
LONG_S = 60.0


@pytest.fixture
def granting(scene: Scene) -> Iterator[Scene]:
    """Both families, both protocols; the virtual server is there, and a lease that lasts."""
    if not scene.rig.target.takes_grants:
        pytest.skip("this target takes no grants")
    scene.rig.apply(
        AddVirtualServer(scene.server()), ExtendLease(1, scene.rig.target_time() + LONG_S)
    )
    yield scene
    scene.rig.apply(EndGrants(scene.key()), ExtendLease(1, 0.0))
    scene.rig.events()


def node(scene: Scene, place: int = 0, address: str | None = None, **changes: object) -> GrantNode:
    """What a decision says about a node: NAT, unless told."""
    fields = {
        "node_ipaddr": from_text(address or scene.node[0]),
        "node_port": scene.node[1],
        "idle_timeout": 60,
        **changes,
    }
    flags = int(NAT | Flag.TRANSLATE_SRC) if "snat_ipaddr" in changes else int(NAT)
    return GrantNode(place, flags, Translation(**fields))  # type: ignore[arg-type]


def begin(scene: Scene, kind: GrantKind = GrantKind.NODES, *, inside: bool = False) -> None:
    scene.rig.apply(BeginGrants(scene.key(), 1, GENERATION, int(kind), inside))


def give(
    scene: Scene,
    decisions: Sequence[int | tuple[int, int]],
    *nodes: GrantNode,
    serial: int = SERIAL,
) -> None:
    """Decisions (a node, or a node and a source port); the plain node has the index 0."""
    made = pack_decisions((each, 0) if isinstance(each, int) else each for each in decisions)
    known = nodes or (node(scene),)
    scene.rig.apply(AddGrants(scene.key(), GENERATION, known, serial, made))


def first(scene: Scene, port: int = 40000, client: str | None = None) -> Frame:
    """The first packet of a flow."""
    ends = (client or scene.client[0], port), scene.vip
    fields: dict[str, Any] = {"flags": "S", "seq": 1000} if scene.protocol == 6 else {}
    return scene.inbound(scene.segment(*ends, **fields))


def taken(scene: Scene) -> list[TakenFlow]:
    """What became of grants; nothing else happened."""
    events = scene.rig.events()
    assert all(isinstance(event, GrantsTaken) for event in events), events
    found = [event for event in events if isinstance(event, GrantsTaken)]
    assert {event.group_id for event in found} <= {1}
    return [flow for event in found for flow in flows_of(event.flows)]


def asked(scene: Scene) -> list[PacketIn]:
    return scene.up_calls()


def counts(scene: Scene) -> GrantCounts:
    (state,) = [each for each in scene.rig.target.grant_states() if each.key == scene.key()]
    return state.counts


def risen(scene: Scene, before: GrantCounts) -> dict[str, int]:
    """Which counts have risen, and by how much."""
    pairs = zip(before._asdict().items(), counts(scene), strict=True)
    return {name: now - then for (name, then), now in pairs if now != then}


def installed(scene: Scene, port: int = 40000) -> FlowState:
    state = scene.rig.target.lookup(scene.signature(client=(scene.client[0], port)))
    assert state is not None
    return state


# --- a decision is taken ------------------------------------------------------------------------


def test_a_first_packet_takes_the_decision_and_goes_on(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0])
    before = counts(scene)
    assert [side for side, _ in scene.send(first(scene))] == [Side.INTERNAL]
    (flow,) = taken(scene)
    signature = scene.signature()
    flags = 2 if scene.protocol == 6 else 0
    assert flow == TakenFlow(0, SERIAL, signature, flags, 0, flow.timestamp)
    entry = installed(scene).entry
    assert entry == scene.entry(serial=SERIAL, opened_ms=flow.timestamp)
    state = installed(scene)
    assert (state.counters.pkts_in, state.half_open) == (1, scene.protocol == 6)
    assert risen(scene, before) == {"taken": 1}


def test_a_syn_that_cannot_be_sent_on_leaves_a_half_open_flow(granting: Scene) -> None:
    """Here its time to live is over."""
    scene = granting
    begin(scene)
    give(scene, [0])
    fields: dict[str, Any] = {"flags": "S", "seq": 1000} if scene.protocol == 6 else {}
    packet = scene.segment(scene.client, scene.vip, **fields)
    layer = packet[IP] if scene.family.is_ipv4 else packet[IPv6]
    setattr(layer, "ttl" if scene.family.is_ipv4 else "hlim", 1)
    out = scene.send(scene.inbound(packet))
    assert [side for side, _ in out if side == Side.INTERNAL] == []
    state = installed(scene)
    assert (state.counters.pkts_in, state.half_open) == (0, scene.protocol == 6)


def test_both_directions_are_there(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    scene.send(first(scene))
    fields: dict[str, Any] = {}
    if scene.protocol == 6:
        fields = {"flags": "SA", "seq": 5000, "ack": 1001}
    out = scene.send(scene.outbound(scene.segment(scene.node, scene.client, **fields)))
    only(out, Side.EXTERNAL)
    assert installed(scene).counters.pkts_out == 1


def test_a_repeated_first_packet_meets_the_entry_and_takes_nothing(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0])
    scene.send(first(scene), first(scene))
    assert len(taken(scene)) == 1
    assert installed(scene).counters.pkts_in == 2


def test_decisions_are_taken_in_their_order_and_serials_go_round(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 1, 0], node(scene), node(scene, 1, scene.family.node2))
    scene.send(*(first(scene, port) for port in (1001, 1002, 1003)))
    flows = taken(scene)
    assert [flow.serial for flow in flows] == [SERIAL, SERIAL + 1, 0x81000000]
    assert [flow.detail for flow in flows] == [0, 1, 0]
    nodes = [installed(scene, port).entry.node_ipaddr for port in (1001, 1002, 1003)]
    first_node, second = from_text(scene.family.node), from_text(scene.family.node2)
    assert nodes == [first_node, second, first_node]


def test_more_decisions_stand_behind_those_that_are_there(granting: Scene) -> None:
    scene = granting
    begin(scene)
    for number in range(3):
        give(scene, [0, 0], serial=0x81000010 + 100 * number)
    scene.send(*(first(scene, port) for port in range(1001, 1007)))
    serials = [flow.serial - 0x81000010 for flow in taken(scene)]
    assert serials == [0, 1, 100, 101, 200, 201]


def test_the_places_are_used_again_and_again(granting: Scene) -> None:
    """GRANTED_MAX are between those taken and those given, however many there were in all."""
    scene = granting
    begin(scene)
    serial, given, used, step = 0x81000100, 0, 0, GRANTED_MAX // 2
    serials: list[int] = []
    for _ in range(3):
        while given - used + step <= GRANTED_MAX:
            give(scene, [0] * step, serial=following(serial, given))
            given += step
        for _ in range(0, step, 128):
            scene.send(*(first(scene, 2000 + used + port) for port in range(128)))
            used += 128
            serials += [flow.serial - serial for flow in taken(scene)]
    assert serials == list(range(3 * step))


def test_a_decision_has_its_own_source_port(granting: Scene) -> None:
    scene = granting
    begin(scene)
    snat = from_text(scene.family.snat)
    give(scene, [(0, 2001), (0, 2002)], node(scene, snat_ipaddr=snat))
    scene.send(first(scene, 1001), first(scene, 1002))
    taken(scene)
    assert [installed(scene, port).entry.snat_port for port in (1001, 1002)] == [2001, 2002]


def test_a_node_may_be_described_anew(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    scene.send(first(scene, 1001))
    give(scene, [0], node(scene, 0, scene.family.node2), serial=0x81000050)
    scene.send(first(scene, 1002))
    taken(scene)
    assert installed(scene, 1001).entry.node_ipaddr == from_text(scene.family.node)
    assert installed(scene, 1002).entry.node_ipaddr == from_text(scene.family.node2)


def test_a_closed_entry_gives_way_to_the_next_connection(granting: Scene) -> None:
    scene = granting
    if scene.protocol != 6:
        pytest.skip("UDP does not close")
    begin(scene)
    give(scene, [0, 0])
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    scene.send(
        first(scene),
        scene.outbound(scene.segment(*back, flags="RA", seq=0, ack=1001)),
    )
    scene.rig.events()
    assert installed(scene).closed
    assert [side for side, _ in scene.send(first(scene))] == [Side.INTERNAL]
    assert [flow.serial for flow in taken(scene)] == [SERIAL + 1]
    assert installed(scene).entry.serial == SERIAL + 1
    # the agent takes out what lingered, and only that
    scene.rig.apply(RemoveFlow(scene.signature(), 1, SERIAL))
    assert installed(scene).entry.serial == SERIAL + 1
    scene.send(scene.inbound(scene.segment(*there, flags="A", seq=1001, ack=1)))
    assert installed(scene).counters.pkts_in == 2


# --- none is taken ------------------------------------------------------------------------------


def test_without_grants_it_is_asked_about(granting: Scene) -> None:
    scene = granting
    begin(scene)
    assert scene.send(first(scene)) == []
    assert len(asked(scene)) == 1


def test_a_dry_ring_asks(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    scene.send(first(scene, 1001))
    taken(scene)
    before = counts(scene)
    assert scene.send(first(scene, 1002)) == []
    assert len(asked(scene)) == 1
    assert risen(scene, before) == {"dry": 1}
    give(scene, [0], serial=0x81000050)
    scene.send(first(scene, 1003))
    assert [flow.serial for flow in taken(scene)] == [0x81000050]


def test_a_lease_that_is_over_asks(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    scene.rig.apply(ExtendLease(1, scene.rig.target_time() + 0.05))
    scene.rig.advance(0.06)
    before = counts(scene)
    scene.send(first(scene))
    assert len(asked(scene)) == 1
    assert risen(scene, before) == {"old": 1}
    scene.rig.apply(ExtendLease(1, scene.rig.target_time() + LONG_S))
    scene.send(first(scene))
    assert [flow.serial for flow in taken(scene)] == [SERIAL]


def test_the_lease_of_another_group_is_another_one(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    scene.rig.apply(ExtendLease(1, 0.0), ExtendLease(2, scene.rig.target_time() + LONG_S))
    scene.send(first(scene))
    assert len(asked(scene)) == 1


def test_what_does_not_begin_a_flow_is_asked_about(granting: Scene) -> None:
    scene = granting
    if scene.protocol != 6:
        pytest.skip("any datagram of UDP may begin a flow")
    begin(scene)
    give(scene, [0])
    scene.send(scene.inbound(scene.to_vip(flags="A", seq=1, ack=1)))
    assert len(asked(scene)) == 1
    assert installed_none(scene)


def installed_none(scene: Scene) -> bool:
    return scene.rig.target.lookup(scene.signature()) is None


def test_a_wrong_checksum_takes_nothing(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0])
    side, frame = first(scene)
    at = len(frame) - (20 if scene.protocol == 6 else 8) + (16 if scene.protocol == 6 else 6)
    damaged = frame[:at] + bytes([frame[at] ^ 0x55]) + frame[at + 1 :]
    assert scene.send((side, damaged)) == []
    assert taken(scene) == []


def test_a_client_on_the_nodes_side_asks_unless_told_otherwise(granting: Scene) -> None:
    scene = granting
    fields: dict[str, Any] = {"flags": "S", "seq": 1} if scene.protocol == 6 else {}
    client = scene.family.node2, 40000
    inner = scene.outbound(scene.segment(client, scene.vip, **fields))
    begin(scene)
    give(scene, [0])
    before = counts(scene)
    scene.send(inner)
    assert len(asked(scene)) == 1
    assert risen(scene, before) == {"inside": 1}
    begin(scene, inside=True)
    give(scene, [0])
    scene.rig.events()
    scene.send(inner)
    assert len(taken(scene)) == 1


def test_a_flow_that_cannot_be_entered_gives_its_decision_back(granting: Scene) -> None:
    """Another flow has the key that its return direction would have."""
    scene = granting
    snat = from_text(scene.family.snat)
    other = scene.entry(
        signature=scene.signature(client=(scene.client[0], 3000)),
        flags=int(NAT | Flag.TRANSLATE_SRC),
        snat_ipaddr=snat,
        snat_port=2001,
    )
    scene.rig.apply(InstallFlow(other))
    begin(scene)
    give(scene, [(0, 2001), (0, 2002)], node(scene, snat_ipaddr=snat))
    before = counts(scene)
    scene.send(first(scene))
    events = scene.rig.events()
    (flow,) = [
        flow for event in events if isinstance(event, GrantsTaken) for flow in flows_of(event.flows)
    ]
    assert (flow.error_code, flow.serial) == (ErrorCode.NORESOURCE, SERIAL)
    assert (flow.signature, flow.timestamp) == (scene.signature(), 1)
    assert [type(event) for event in events].count(PacketIn) == 1
    assert risen(scene, before) == {"full": 1}
    scene.send(first(scene))
    assert [flow.serial for flow in taken(scene)] == [SERIAL + 1]


# --- a generation is over -----------------------------------------------------------------------


def test_a_new_generation_ends_the_one_before(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0, 0])
    scene.send(first(scene, 1001))
    taken(scene)
    scene.rig.apply(BeginGrants(scene.key(), 1, GENERATION + 1, 0, False))
    assert ended(scene) == [GrantsEnded(scene.key(), GENERATION, 1)]
    scene.send(first(scene, 1002))
    assert len(asked(scene)) == 1
    assert installed(scene, 1001).entry.serial == SERIAL  # what was taken stays


def ended(scene: Scene) -> list[GrantsEnded]:
    """It may take a target a moment."""
    for _ in range(20):
        found = [event for event in scene.rig.events() if isinstance(event, GrantsEnded)]
        if found:
            return found
        scene.rig.advance(0.01)
    return []


def test_what_is_of_another_generation_is_ignored(granting: Scene) -> None:
    scene = granting
    begin(scene)
    key = scene.key()
    late = AddGrants(key, GENERATION - 1, (node(scene),), SERIAL, pack_decisions([(0, 0)]))
    scene.rig.apply(late)
    scene.send(first(scene))
    assert len(asked(scene)) == 1


def test_grants_that_end_are_told_once(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0])
    scene.rig.apply(EndGrants(scene.key()), EndGrants(scene.key()))
    assert ended(scene) == [GrantsEnded(scene.key(), GENERATION, 0)]
    assert ended(scene) == []
    scene.send(first(scene))
    assert len(asked(scene)) == 1


def test_a_virtual_server_that_is_removed_takes_its_grants_along(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0])
    scene.rig.apply(RemoveVirtualServer(scene.key()))
    assert ended(scene) == [GrantsEnded(scene.key(), GENERATION, 0)]


# --- the node follows from the client -----------------------------------------------------------


def hash_of(octets: bytes) -> int:
    return int.from_bytes(tag(b"splitplane nodes", octets), "little")


@pytest.mark.parametrize("kind", [GrantKind.HASH, GrantKind.HASH_SOURCE])
def test_a_table_is_looked_up_by_the_hash(granting: Scene, kind: GrantKind) -> None:
    scene = granting
    begin(scene, kind)
    size = 251
    table = bytes((7 * entry // 3) % 2 for entry in range(size))
    key, halves = scene.key(), (table[:100], table[100:])
    scene.rig.apply(
        AddGrantTable(key, GENERATION, 0, halves[0]),
        AddGrantTable(key, GENERATION, 100, halves[1]),
    )
    give(scene, [0] * 20, node(scene), node(scene, 1, scene.family.node2))
    ports = range(1001, 1021)
    scene.send(*(first(scene, port) for port in ports))
    flows = taken(scene)
    assert [flow.serial for flow in flows] == [following(SERIAL, at) for at in range(20)]
    nodes = [from_text(scene.family.node), from_text(scene.family.node2)]
    for port, flow in zip(ports, flows, strict=True):
        src, dst, sport, dport, protocol, _ = flow.signature
        octets = src
        if kind == GrantKind.HASH:
            ends = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
            octets = src + dst + ends + bytes([protocol])
        place = table[hash_of(octets) % size]
        assert flow.detail == place
        assert installed(scene, port).entry.node_ipaddr == nodes[place]
    assert len({flow.detail for flow in flows}) == (2 if kind == GrantKind.HASH else 1)


def test_a_client_has_its_node_and_an_unknown_one_is_asked_about(granting: Scene) -> None:
    scene = granting
    begin(scene, GrantKind.CLIENTS)
    give(scene, [0] * 4, node(scene), node(scene, 1, scene.family.node2))
    clients = (GrantClient(from_text(scene.client[0]), 1, 1),)
    scene.rig.apply(AddGrantClients(scene.key(), GENERATION, clients))
    before = counts(scene)
    scene.send(first(scene, 1001), first(scene, 1002))
    assert [flow.detail for flow in taken(scene)] == [1, 1]
    assert installed(scene, 1002).entry.node_ipaddr == from_text(scene.family.node2)
    scene.send(first(scene, 1003, scene.family.gateway))
    assert len(asked(scene)) == 1
    assert risen(scene, before) == {"taken": 2, "unknown": 1}
    scene.rig.advance(1.1)
    scene.send(first(scene, 1004))
    assert len(asked(scene)) == 1
    assert risen(scene, before) == {"taken": 2, "unknown": 2}


# --- what a new agent finds ---------------------------------------------------------------------


def test_a_new_agent_reads_what_is_there_and_ends_it(granting: Scene) -> None:
    scene = granting
    begin(scene)
    give(scene, [0, 0, 0])
    scene.send(first(scene, 1001))
    taken(scene)
    with scene.rig.agent_away():
        pass
    states = [each for each in scene.rig.target.grant_states() if each.key == scene.key()]
    assert [(each.generation, each.given, each.taken) for each in states] == [(GENERATION, 3, 1)]
    scene.rig.apply(EndGrants(scene.key()))
    assert ended(scene) == [GrantsEnded(scene.key(), GENERATION, 1)]
    assert installed(scene, 1001).entry.serial == SERIAL
