# SPDX-License-Identifier: Apache-2.0
"""Neighbours of flows whose MAC address changes, and nobody says so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Ether

from data_flow_segment.targets.bpf import BpfTarget
from data_flow_segment.targets.bpf.flows import now_ns
from data_flow_segment.targets.bpf.neighbours import CHECK_NS, Neighbours, NeighbourTable
from data_flow_segment.targets.contract import InstallFlow
from splitplane.lab.processes import wait_for
from ssmb.constants import Flag
from support.octets.packets import TCP_PROTOCOL, macs
from support.targets.rig import CLIENT_MAC, FAMILIES, IPV4, NODE_MAC, TARGET_MAC, Side, neighbours
from support.targets.scene import Scene
from support.targets.veth_rig import VethRig, opened, run

pytestmark = pytest.mark.dataplane

NEW_MAC = "02:5b:00:00:0d:77"


@pytest.fixture(scope="module", params=["tc", "xdp"])
def running(request: pytest.FixtureRequest) -> Iterator[VethRig]:
    with opened(request.param) as rig:
        inside = ("ip", "netns", "exec", rig._network.target)
        for ip in ("ipv4", "ipv6"):  # a probe fails after 3 x 50 ms
            for name in ("int0", "ext0"):
                run(*inside, "sysctl", "-qw", f"net.{ip}.neigh.{name}.retrans_time_ms=50")
        yield rig


def kernel_entry(rig: VethRig, address: str) -> dict[str, Any]:
    version = "-6" if ":" in address else "-4"
    shown = ("-json", version, "neighbour", "show", "to", address, "nud", "all")
    command = ["ip", "-n", rig._network.target, *shown]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = json.loads(said or "[]") or [{"state": ["NONE"]}]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def set_entry(rig: VethRig) -> Iterator[Callable[[str, str, str], None]]:
    """Give an address another state in the kernel, and the lasting one back in the end."""
    changed: dict[str, tuple[str, str]] = {}

    def put(address: str, device: str, state: str) -> None:
        ((mac),) = [
            known[address]
            for family in FAMILIES
            for known in neighbours(family).values()
            if address in known
        ]
        changed[address] = (device, mac)
        command = ("ip", "-n", rig._network.target, "neighbour", "replace", address)
        run(*command, "lladdr", mac, "dev", device, "nud", state)

    yield put
    for side in Side:
        rig._network.set_questions(side, 0)
    for address, (device, mac) in changed.items():
        command = ("ip", "-n", rig._network.target, "neighbour", "replace", address)
        run(*command, "lladdr", mac, "dev", device, "nud", "permanent")


@pytest.fixture
def keeper(rig: VethRig) -> Iterator[Neighbours]:
    """Beside the target's own, which nobody calls here."""
    assert isinstance(rig.target, BpfTarget)
    made = Neighbours(rig.target._program.next_hops, NeighbourTable())
    yield made
    made.close()


def requests_for(out: list[tuple[Side, bytes]], address: str) -> list[tuple[Side, str]]:
    """Sides and destination MAC addresses of the kernel's ARP questions."""
    return [
        (side, macs(octets)[0])
        for side, octets in out
        if octets[12:14] == b"\x08\x06" and Ether(octets)[ARP].pdst == address
    ]


@pytest.mark.parametrize("mode", ["nat", "l2"])
def test_a_node_that_moved_is_found_by_a_probe_and_a_question_to_all(
    rig: VethRig, keeper: Neighbours, set_entry: Callable[..., None], mode: str
) -> None:
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    changes = {} if mode == "nat" else {"forward_mode": 1, "flags": int(Flag.ROUTE_BY_DST_IP)}
    rig.apply(InstallFlow(scene.entry(**changes)))
    set_entry(IPV4.node, "int0", "stale")
    rig._network.set_questions(Side.INTERNAL, 3)
    packet = scene.inbound(scene.to_vip(b"x"))
    (sent,) = [octets for _, octets in scene.send(packet)]
    assert macs(sent)[0] == NODE_MAC
    keeper.follow(now_ns())
    asked: list[tuple[Side, str]] = []

    def is_asked() -> bool:
        asked.extend(requests_for(rig.exchange(()), IPV4.node))
        return bool(asked)

    wait_for("the kernel's question to the node", is_asked)
    assert asked[0] == (Side.INTERNAL, NODE_MAC), "the old one is asked first, alone"
    wait_for("the probe to fail", lambda: kernel_entry(rig, IPV4.node)["state"] == ["FAILED"])

    own = TARGET_MAC[Side.INTERNAL]
    answer = ARP(op=2, hwsrc=NEW_MAC, psrc=IPV4.node, hwdst=own, pdst=IPV4.internal)

    def arrives_at_the_new_one() -> bool:
        out = scene.send(packet)
        keeper.follow(now_ns())
        out += rig.exchange(())
        if (Side.INTERNAL, "ff:ff:ff:ff:ff:ff") in requests_for(out, IPV4.node):
            out = rig.exchange([(Side.INTERNAL, bytes(Ether(src=NEW_MAC, dst=own) / answer))])
        return any(macs(octets)[0] == NEW_MAC and IP in Ether(octets) for _, octets in out)

    wait_for("packets at the new MAC address", arrives_at_the_new_one, timeout_s=60)


def test_the_target_has_them_checked_itself(
    rig: VethRig, scene: Scene, set_entry: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(rig.target, BpfTarget)
    fresh = Neighbours(rig.target._program.next_hops, NeighbourTable())
    monkeypatch.setattr(rig.target, "_neighbours", fresh)
    try:
        rig.apply(InstallFlow(scene.entry()))
        set_entry(scene.family.node, "int0", "stale")
        scene.send(scene.inbound(scene.to_vip(b"x")))
        rig.target.sweep(1, stats=False)
        assert kernel_entry(rig, scene.family.node)["state"] in (["PROBE"], ["FAILED"])
    finally:
        fresh.close()


def test_the_clients_router_is_checked_too(
    rig: VethRig, scene: Scene, keeper: Neighbours, set_entry: Callable[..., None]
) -> None:
    rig.apply(InstallFlow(scene.entry()))
    set_entry(scene.family.client, "ext0", "stale")
    (sent,) = [
        octets
        for _, octets in scene.send(scene.outbound(scene.segment(scene.node, scene.client, b"x")))
    ]
    assert macs(sent)[0] == CLIENT_MAC
    keeper.follow(now_ns())
    assert kernel_entry(rig, scene.family.client)["state"] in (["PROBE"], ["FAILED"])


def test_what_was_heard_just_now_is_probed_after_a_while(
    rig: VethRig, scene: Scene, keeper: Neighbours, set_entry: Callable[..., None]
) -> None:
    family = scene.family
    rig.apply(InstallFlow(scene.entry()))
    set_entry(family.node, "int0", "reachable")
    scene.send(scene.inbound(scene.to_vip(b"x")))
    began = now_ns()
    keeper.follow(began)
    assert kernel_entry(rig, family.node)["state"] == ["REACHABLE"]
    used = rig.target._program.next_hops  # type: ignore[attr-defined]
    later = began + CHECK_NS
    for key in list(used.keys()):
        used.update(key, later.to_bytes(8, "little") + bytes(8))
    keeper.follow(later)
    assert kernel_entry(rig, family.node)["state"] in (["PROBE"], ["FAILED"])


@pytest.mark.parametrize("state", ["permanent", "noarp"])
def test_what_an_operator_entered_stays(
    rig: VethRig, scene: Scene, keeper: Neighbours, set_entry: Callable[..., None], state: str
) -> None:
    rig.apply(InstallFlow(scene.entry()))
    set_entry(scene.family.node, "int0", state)
    scene.send(scene.inbound(scene.to_vip(b"x")))
    keeper.follow(now_ns())
    assert kernel_entry(rig, scene.family.node)["state"] == [state.upper()]


def test_what_no_flow_uses_is_left_alone(
    rig: VethRig, scene: Scene, keeper: Neighbours, set_entry: Callable[..., None]
) -> None:
    rig.apply(InstallFlow(scene.entry()))
    set_entry(scene.family.node2, "int0", "stale")
    scene.send(scene.inbound(scene.to_vip(b"x")))
    keeper.follow(now_ns())
    assert kernel_entry(rig, scene.family.node2)["state"] == ["STALE"]


def test_a_next_hop_without_an_entry_is_asked_for_where_packets_cannot_ask(
    rig: VethRig, keeper: Neighbours, set_entry: Callable[..., None]
) -> None:
    """XDP cannot let the kernel resolve a node that is not the packet's destination."""
    if rig.name != "bpf-xdp":
        pytest.skip("tc lets the packet itself have the kernel ask")
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    changes = {"forward_mode": 1, "flags": int(Flag.ROUTE_BY_DST_IP)}
    rig.apply(InstallFlow(scene.entry(**changes)))
    set_entry(IPV4.node, "int0", "stale")
    rig._network.set_questions(Side.INTERNAL, 3)
    run("ip", "-n", rig._network.target, "neighbour", "delete", IPV4.node, "dev", "int0")
    assert scene.send(scene.inbound(scene.to_vip(b"x"))) == []
    keeper.follow(now_ns())
    assert (Side.INTERNAL, "ff:ff:ff:ff:ff:ff") in requests_for(rig.exchange(()), IPV4.node)


def test_netlink_answers_are_not_taken_for_each_other(rig: VethRig) -> None:
    from data_flow_segment.targets.bpf.neighbours import NextHop
    from ssmb.addresses import from_text

    table = NeighbourTable()
    try:
        device = rig.interface(Side.INTERNAL)
        nobody = NextHop(from_text("10.1.0.222"), device)
        node = NextHop(from_text(IPV4.node), device)
        for _ in range(3):
            assert table.state(nobody) is None
            assert table.state(node) == 0x80  # NUD_PERMANENT
            table.probe(nobody)  # fails: there is nothing to probe
    finally:
        table.close()
