# SPDX-License-Identifier: Apache-2.0
"""What an agent leaves that died between two steps, and what its successor makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_flow_segment.targets.bpf import BpfTarget
from data_flow_segment.targets.bpf.flows import now_ns, pack, unpack
from data_flow_segment.targets.bpf.layout import FLOW, CloseBit
from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowEntry,
    FlowHalf,
    InstallFlow,
    RemoveFlow,
)
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import Flag
from ssmb.messages import FlowSignature
from support.octets.packets import TCP_PROTOCOL
from support.require import require
from support.targets.rig import IPV4
from support.targets.scene import NAT, Scene
from support.targets.veth_rig import VethRig, missing_for_bpf, open_bpf

pytestmark = pytest.mark.dataplane


def entry(number: int = 1, node: str = "10.1.0.2", serial: int = 1001) -> FlowEntry:
    signature = FlowSignature(
        from_text(f"198.51.100.{number}"), from_text("203.0.113.10"), 40000, 80, TCP_PROTOCOL, 0
    )
    return FlowEntry(
        signature, serial, 1, int(NAT), from_text(node), UNSPECIFIED, 8080, 0, UNSPECIFIED,
        0, 0, 0, 60, 0, 0, 7,
    )  # fmt: skip


def passes(target: BpfTarget, number: int = 2) -> list[Event]:
    found: list[Event] = []
    for _ in range(number):
        while not target.sweep(16, stats=False):
            pass
        while more := target.events():
            found += more
    return found


def change(target: BpfTarget, flow: FlowEntry, **fields: Any) -> None:
    key = pack(flow, 0)[0]
    value = target.flows.table.lookup(key)
    assert value is not None
    target.flows.table.update(key, FLOW.pack(*unpack(value)._replace(**fields)))


def keys(target: BpfTarget) -> int:
    return len(list(target.flows.table.keys()))


@pytest.fixture
def died(ground: Any) -> Callable[..., BpfTarget]:
    """Makes a table as an earlier agent left it, and opens the next one on it."""

    def adopt(*rest: tuple[bytes, bytes]) -> BpfTarget:
        target = ground.open()
        target.apply([InstallFlow(entry(9))])
        for key, value in rest:
            target.flows.table.update(key, value)
        ground.close(target, detach=False)
        adopted: BpfTarget = ground.open()
        assert adopted.adopted
        return adopted

    return adopt


def test_the_clients_half_of_a_flow_is_completed(died: Any) -> None:
    home_key, home, back_key, back = pack(entry(), now_ns())
    target = died((home_key, home))
    assert passes(target) == []
    assert target.flow_count() == 2
    found = target.flows.table.lookup(back_key)
    assert found is not None
    assert unpack(found) == unpack(back)._replace(last_seen=unpack(found).last_seen)
    state = target.lookup(entry().signature)
    assert state is not None
    assert state.entry == entry()


def test_the_clients_half_is_completed_for_a_sync_before_the_sweep(died: Any) -> None:
    home_key, home, _, _ = pack(entry(), now_ns())
    target = died((home_key, home))
    states, _ = target.scan(None, 100)
    assert {state.entry for state in states} == {entry(), entry(9)}


def test_the_clients_half_of_a_spliced_flow_goes(died: Any) -> None:
    """The window's shift was in the other half."""
    spliced = entry()._replace(
        flags=int(NAT | Flag.ADD_TCP_OFFSETS), seq_offset=5, ack_offset=7, wscale_shift=2
    )
    home_key, home, _, _ = pack(spliced, now_ns())
    target = died((home_key, home))
    assert passes(target) == []
    assert keys(target) == 2


def test_the_nodes_half_of_a_flow_is_told_once_and_goes_on(died: Any) -> None:
    _, _, back_key, back = pack(entry(), now_ns())
    target = died((back_key, back))
    assert passes(target) == [FlowHalf(entry().signature)]
    assert target.flow_count() == 1
    assert target.flows.table.lookup(back_key) == back


@pytest.mark.parametrize("node", ["10.1.0.2", "10.1.0.3"], ids=["the same node", "another one"])
def test_the_nodes_half_is_completed_by_what_the_cs_says(died: Any, node: str) -> None:
    _, _, back_key, back = pack(entry(), now_ns())
    target = died((back_key, back))
    passes(target)
    target.apply([InstallFlow(entry(node=node, serial=2002))])
    assert target.events() == []
    assert target.flow_count() == 2
    assert keys(target) == 4
    assert target.lookup(entry().signature) is not None


def test_the_nodes_half_goes_if_the_cs_does_not_know_the_flow(died: Any) -> None:
    _, _, back_key, back = pack(entry(), now_ns())
    target = died((back_key, back))
    passes(target)
    target.apply([RemoveFlow(entry().signature)])
    assert keys(target) == 2
    assert target.flow_count() == 1


@pytest.mark.parametrize("half", [0, 2], ids=["only the client's", "only the node's"])
def test_half_a_flow_is_in_nobodys_way(died: Any, half: int) -> None:
    """The client asks again before the sweep comes by."""
    parts = pack(entry(), now_ns())
    target = died((parts[half], parts[half + 1]))
    target.apply([InstallFlow(entry(serial=2002))])
    assert target.events() == []
    state = target.lookup(entry().signature)
    assert state is not None
    assert state.entry.serial == 2002
    assert passes(target) == []
    assert target.flow_count() == 2
    assert keys(target) == 4


def test_the_return_direction_of_an_earlier_decision(died: Any) -> None:
    """The flow was moved to another node, and the agent died before the old way back went."""
    now = now_ns()
    home_key, home, back_key, back = pack(entry(node="10.1.0.3"), now)
    _, _, old_key, old = pack(entry(node="10.1.0.2"), now)
    target = died((home_key, home), (back_key, back), (old_key, old))
    assert passes(target) == []
    assert target.flow_count() == 2
    assert keys(target) == 4
    state = target.lookup(entry().signature)
    assert state is not None
    assert state.entry.node_ipaddr == from_text("10.1.0.3")


def test_a_flow_moves_to_another_node_although_the_table_is_full(ground: Any) -> None:
    target = ground.open(flow_capacity=8)
    target.apply([InstallFlow(entry(number)) for number in range(1, 9)])
    target.apply([InstallFlow(entry(3, node="10.1.0.3"))])
    assert target.events() == []
    assert target.flow_count() == 8
    assert keys(target) == 16


def test_the_end_of_another_flow_with_the_same_key_is_told_too(ground: Any) -> None:
    """Both ends found no room in the ring, and clients use their ports again."""
    target = ground.open()
    target.apply([InstallFlow(entry(number)) for number in range(5, 20)])
    for serial in (1001, 2002, 3003):
        target.apply([InstallFlow(entry(serial=serial))])
        change(target, entry(), close=int(CloseBit.CLOSED))
        (event,) = passes(target)
        assert isinstance(event, FlowClosed)
        assert event.state.entry.serial == serial
        if serial != 2002:  # one is replaced as it lingers
            target.apply([RemoveFlow(entry().signature)])


def test_what_lingers_is_told_to_the_next_agent_although_packets_came(ground: Any) -> None:
    target = ground.open()
    target.apply([InstallFlow(entry())])
    ground.close(target, detach=False)
    target = ground.open()
    seen = now_ns() + 60_000_000_000
    change(target, entry(), close=int(CloseBit.CLOSED | CloseBit.REPORTED), last_seen=seen)
    (event,) = passes(target, 3)
    assert isinstance(event, FlowClosed)


def test_an_end_that_came_by_the_ring_is_not_told_again() -> None:
    """Its client had been silent since before this agent began."""
    require("dataplane", missing_for_bpf())
    rig = VethRig("bpf-tc", open_bpf("tc"))
    try:
        with rig.inside():
            scene = Scene(rig, IPV4, TCP_PROTOCOL)
            rig.apply(InstallFlow(scene.entry(flags=int(NAT | Flag.ROUTE_BY_DST_IP))))
            scene.send(scene.inbound(scene.segment(scene.client, scene.vip, flags="S", seq=9)))
            with rig.agent_away():
                rig.advance(0.05)
            reset = scene.segment(scene.node, scene.client, flags="RA", ack=10)
            scene.send(scene.outbound(reset))
            assert len(rig.events()) == 1
            target = rig.target
            assert isinstance(target, BpfTarget)
            assert passes(target, 3) == []
    finally:
        rig.close()
