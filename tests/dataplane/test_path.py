# SPDX-License-Identifier: Apache-2.0
"""What the kernel's data path does that a target without a kernel cannot do wrong."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6ExtHdrFragment

from data_flow_segment.targets.bpf import BpfTarget, links
from data_flow_segment.targets.bpf.libbpf import TestRunOptions as RunOptions
from data_flow_segment.targets.bpf.libbpf import library
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    Event,
    FlowClosed,
    InstallFlow,
    PacketReason,
    RemoveFlow,
)
from splitplane.lab.processes import wait_for
from ssmb.addresses import from_text
from ssmb.constants import Flag
from support.octets.packets import (
    TCP_PROTOCOL,
    UDP_PROTOCOL,
    hop,
    ip_packet,
    macs,
    parsed,
    wrong_checksums,
)
from support.targets.rig import FAMILIES, IPV4, IPV6, Family, Side, neighbours
from support.targets.scene import NAT, Scene, only
from support.targets.veth_rig import VethRig, opened, run
from support.targets.wire import Wire

pytestmark = pytest.mark.dataplane

COMPLETE = 1 << 2  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE, Linux 6.17
L2, TUNNEL = 1, 2


@pytest.fixture(scope="module")
def running() -> Iterator[VethRig]:
    with opened("tc") as rig:
        yield rig


def target_of(rig: VethRig) -> BpfTarget:
    assert isinstance(rig.target, BpfTarget)
    return rig.target


def test_what_is_not_ours_is_seen_by_the_next_program(rig: VethRig) -> None:
    """Filters that were on the interface before go on: here, the program itself once more."""
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    frame = scene.inbound(scene.segment(scene.client, (IPV4.node, 9), b"routed"))
    target = target_of(rig)
    number = rig.interface(Side.EXTERNAL)
    links._attach_clsact("ext0", number, target.program_fd("dfs_tc"), target._options.pin_path)
    try:
        before = scene.values()["passed"]
        assert len(scene.send(frame)) == 1
        assert scene.values()["passed"] - before == 2
    finally:
        links._detach_clsact(number, target._options.pin_path)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_syn_whose_node_has_no_route_counts_for_its_flow(rig: VethRig, family: Family) -> None:
    """As when the node's link is down: the next one is asked about, not each of a flood."""
    scene = Scene(rig, family, TCP_PROTOCOL)
    version = "-4" if family.is_ipv4 else "-6"
    command = ("ip", "-n", rig._network.target, version, "route")
    run(*command, "add", "unreachable", family.node)
    try:
        rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry(), half_open=True))
        rig.advance(0.3)
        before = scene.values()
        syn = scene.inbound(scene.to_vip(flags="S", seq=1000))
        assert scene.send(syn, syn) == []
        assert scene.values()["drop_no_route"] == before["drop_no_route"] + 2
        state = rig.target.lookup(scene.signature())
        assert state is not None
        assert (state.half_open, state.counters.pkts_in) == (True, 2)
        assert state.idle_ms < 300
        assert scene.up_calls() == []
        rig.advance(0.3)
        assert scene.send(syn) == []
        (up,) = scene.up_calls()
        assert up.reason == PacketReason.UNANSWERED
    finally:
        run(*command, "delete", "unreachable", family.node)


def test_the_mtu_is_the_routes(scene: Scene, rig: VethRig) -> None:
    family = scene.family
    version = "-4" if family.is_ipv4 else "-6"
    where = (family.node, "dev", "int0")
    command = ("ip", "-n", rig._network.target, version, "route")
    run(*command, "add", *where, "mtu", "lock", "1400")
    try:
        scene.rig.apply(InstallFlow(scene.entry()))
        headers = len(bytes(scene.to_vip()))
        fits = scene.to_vip(bytes(1400 - headers), ip_fields={})
        only(scene.send(scene.inbound(fits)), Side.INTERNAL)
        long = scene.to_vip(
            bytes(1401 - headers), ip_fields={"flags": "DF"} if family.is_ipv4 else {}
        )
        error = parsed(only(scene.send(scene.inbound(long)), Side.EXTERNAL))
        if family.is_ipv4:
            assert (error[ICMP].type, error[ICMP].nexthopmtu) == (3, 1400)
        else:
            assert error[ICMPv6PacketTooBig].mtu == 1400
    finally:
        run(*command, "delete", *where)


@pytest.mark.parametrize("mode", [0, L2], ids=["nat", "l2"])
@pytest.mark.parametrize("side", [Side.EXTERNAL, Side.INTERNAL], ids=["to node", "to client"])
def test_what_is_too_long_for_its_route_goes_on_in_fragments(
    rig: VethRig, mode: int, side: Side
) -> None:
    """The agent splits it: a program cannot, and the kernel's forwarding would apply its own rules
    to addresses that are not the sender's any more (rp_filter, netfilter)."""
    if side is Side.INTERNAL and mode == L2:
        pytest.skip("the node answers the client directly")
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    flags = int(NAT) if mode == 0 else int(Flag.ROUTE_BY_DST_IP)
    rig.apply(InstallFlow(scene.entry(forward_mode=mode, flags=flags)))
    data = bytes(range(256)) * 5
    if side is Side.EXTERNAL:
        sent = scene.inbound(scene.to_vip(data))
        wanted = scene.segment(scene.client, scene.node if mode == 0 else scene.vip, data)
        narrow = (IPV4.node, "dev", "int0")
    else:
        sent = scene.outbound(scene.segment(scene.node, scene.client, data))
        wanted = scene.segment(scene.vip, scene.client, data)
        narrow = (IPV4.client, "dev", "ext0")
    command = ("ip", "-n", rig._network.target, "route")
    run(*command, "add", *narrow, "mtu", "lock", "700")
    try:
        before = scene.values()
        out = scene.send(sent)
    finally:
        run(*command, "delete", *narrow)
    whole = b""
    for number, (_, octets) in enumerate(out):
        packet = ip_packet(octets)
        piece = IP(packet)
        assert len(packet) <= 700
        assert wrong_checksums(packet) == []
        assert (piece.frag * 8, bool(piece.flags.MF)) == (len(whole), number < len(out) - 1)
        assert (piece.src, piece.dst) == (wanted.src, wanted.dst)
        whole += packet[20:]
    assert whole == bytes(wanted)[20:]
    assert len(out) == 2
    assert scene.dropped_since(before) == 0
    assert scene.values()["fragmented"] - before["fragmented"] == 1


def test_an_ipv6_tunnel_without_room_for_the_least_packet_fragments_its_own(rig: VethRig) -> None:
    """No sender makes packets below 1,280 octets (RFC 8200 5, RFC 2473 7.1)."""
    scene = Scene(rig, IPV6, TCP_PROTOCOL)
    flags = int(Flag.ROUTE_BY_DST_IP)
    rig.apply(InstallFlow(scene.entry(forward_mode=TUNNEL, flags=flags)))
    head = len(bytes(scene.to_vip()))
    fits, too_long = (scene.to_vip(b"z" * (length - head)) for length in (1280, 1281))
    where = (IPV6.node, "dev", "int0")
    command = ("ip", "-n", rig._network.target, "-6", "route")
    run(*command, "add", *where, "mtu", "lock", "1300")
    try:
        before = scene.values()
        out = scene.send(scene.inbound(fits))
        assert scene.dropped_since(before) == 0
        error = parsed(only(scene.send(scene.inbound(too_long)), Side.EXTERNAL))
    finally:
        run(*command, "delete", *where)
    pieces = [parsed(octets) for side, octets in out if side is Side.INTERNAL]
    assert len(pieces) == len(out) == 2
    assert {(piece.src, piece.dst) for piece in pieces} == {(IPV6.internal, IPV6.node)}
    assert [piece[IPv6ExtHdrFragment].m for piece in pieces] == [1, 0]
    assert all(len(ip_packet(octets)) <= 1300 for _, octets in out)
    assert b"".join(ip_packet(octets)[48:] for _, octets in out) == bytes(hop(fits))
    assert error[ICMPv6PacketTooBig].mtu == 1280
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert state.counters.pkts_in == 1


@pytest.mark.parametrize("next_hop", [False, True], ids=["direct", "next hop"])
def test_a_neighbour_that_is_not_known_yet_is_asked_for(
    scene: Scene, rig: VethRig, next_hop: bool
) -> None:
    """The packet waits in the kernel for the answer; the route says nothing of its length yet."""
    family, changes = scene.family, {}
    asked = family.firewall if next_hop else family.node
    if next_hop:
        changes = {"next_hop_ipaddr": family.firewall, "flags": int(NAT & ~Flag.ROUTE_BY_DST_IP)}
    command = ("ip", "-n", rig._network.target, "neighbour")
    mac = neighbours(family)[Side.INTERNAL][asked]
    run(*command, "delete", asked, "dev", "int0")
    rig._network.set_questions(Side.INTERNAL, 3)
    try:
        rig.apply(InstallFlow(scene.entry(**changes)))
        before = scene.values()
        out = scene.send(scene.inbound(scene.to_vip(bytes(1300))))
        if family.is_ipv4:  # IPv6 asks from link-local addresses, and this network has none
            assert only(out, Side.INTERNAL)[12:14] == b"\x08\x06"
        assert scene.values()["flow_packets"] - before["flow_packets"] == 1
        assert scene.dropped_since(before) == 0
    finally:
        run(*command, "replace", asked, "lladdr", mac, "dev", "int0", "nud", "permanent")
        rig._network.set_questions(Side.INTERNAL, 0)
    scene.send()  # what waited may go now
    packet = only(scene.send(scene.inbound(scene.to_vip(b"now"))), Side.INTERNAL)
    assert macs(packet)[0] == mac


def test_senders_of_what_cannot_go_on_do_not_keep_the_agent_busy(scene: Scene) -> None:
    scene.rig.apply(InstallFlow(scene.entry()))
    frame = scene.inbound(scene.to_vip(ip_fields={"ttl": 1}))
    time.sleep(0.15)  # what earlier senders were sent counts too
    before = scene.values()
    scene.send(*[frame] * 1000)
    after = scene.values()
    assert after["drop_ttl"] - before["drop_ttl"] == 1000
    sent = after["transmitted"] - before["transmitted"]
    assert 1 <= sent < 1000


def test_what_is_answered_for_virtual_addresses_is_limited(scene: Scene) -> None:
    """To ports without a virtual server; pings are limited by the same means."""
    scene.rig.apply(AddVirtualServer(scene.server()))
    frame = scene.inbound(scene.segment(scene.client, (scene.family.vip, 81), flags="S"))
    time.sleep(0.15)  # what earlier senders were sent counts too
    before = scene.values()
    scene.send(*[frame] * 1000)
    assert scene.values()["drop_unserved"] - before["drop_unserved"] == 1000
    assert 1 <= len(scene.up_calls()) < 1000


def with_whole_sum(rig: VethRig, side: Side, frame: bytes) -> int:
    """Run the program on a packet of which the NIC summed every octet; EBADMSG if the sum is
    not that of what the program made of it."""
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(
        bytes(40) + rig.interface(side).to_bytes(4, sys.byteorder) + bytes(64)
    )
    options = RunOptions(
        sz=ctypes.sizeof(RunOptions), data_in=ctypes.addressof(data),
        data_size_in=len(frame), ctx_in=ctypes.addressof(context), ctx_size_in=44,
        repeat=1, flags=COMPLETE,
    )  # fmt: skip
    descriptor = target_of(rig).program_fd("dfs_tc")
    failed = int(library().bpf_prog_test_run_opts(descriptor, ctypes.byref(options)))
    if failed == -22:
        pytest.skip("this kernel cannot run a program on such a packet")
    assert failed or options.retval == 7, options.retval  # TC_ACT_REDIRECT
    return failed


@pytest.mark.parametrize("protocol", [TCP_PROTOCOL, UDP_PROTOCOL], ids=["tcp", "udp"])
@pytest.mark.parametrize("mode", [0, L2, TUNNEL], ids=["nat", "l2", "tunnel"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_sum_of_the_whole_packet_stays_right(
    rig: VethRig, family: Family, protocol: int, mode: int
) -> None:
    scene = Scene(rig, family, protocol)
    flags = int(NAT) if mode == 0 else int(Flag.ROUTE_BY_DST_IP)
    rig.apply(InstallFlow(scene.entry(forward_mode=mode, flags=flags)))
    _, octets = scene.inbound(scene.to_vip(b"an odd number"))
    assert with_whole_sum(rig, Side.EXTERNAL, octets) == 0
    if mode == 0:
        _, octets = scene.outbound(scene.segment(scene.node, scene.client, b"back"))
        assert with_whole_sum(rig, Side.INTERNAL, octets) == 0


def test_the_sum_of_an_error_about_a_flow_stays_right(rig: VethRig) -> None:
    from scapy.layers.inet6 import ICMPv6DestUnreach
    from scapy.layers.inet6 import IPv6 as Ip6

    scene = Scene(rig, IPV6, TCP_PROTOCOL)
    rig.apply(InstallFlow(scene.entry()))
    sent = scene.segment(scene.client, scene.node, b"x")
    error = Ip6(src=IPV6.node, dst=IPV6.client) / ICMPv6DestUnreach() / bytes(sent)
    _, octets = scene.outbound(error)
    assert with_whole_sum(rig, Side.INTERNAL, octets) == 0


def fill_ring(rig: VethRig, frame: bytes) -> None:
    """Run the program on a new flow's packet until no more go up."""
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(
        bytes(40) + rig.interface(Side.EXTERNAL).to_bytes(4, sys.byteorder) + bytes(64)
    )
    options = RunOptions(
        sz=ctypes.sizeof(RunOptions), data_in=ctypes.addressof(data), data_size_in=len(frame),
        ctx_in=ctypes.addressof(context), ctx_size_in=44, repeat=20_000,
    )  # fmt: skip
    descriptor = target_of(rig).program_fd("dfs_tc")
    assert library().bpf_prog_test_run_opts(descriptor, ctypes.byref(options)) == 0


def test_the_end_of_a_flow_that_finds_the_ring_full_is_told_by_the_sweep(rig: VethRig) -> None:
    scene = Scene(rig, IPV4, TCP_PROTOCOL)
    target = target_of(rig)
    target.apply([AddVirtualServer(scene.server()), InstallFlow(scene.entry())])
    other = scene.segment((IPV4.client, 9), scene.vip, bytes(1400), flags="S")
    fill_ring(rig, scene.inbound(other)[1])
    before = scene.values()
    assert before["drop_up_call_full"] > 0
    there, back = (scene.client, scene.vip), (scene.node, scene.client)
    wires = rig._network.wires

    def rose(counter: str) -> bool:
        return scene.values()[counter] > before[counter]

    wires[Side.EXTERNAL].send(scene.inbound(scene.segment(*there, flags="S", seq=9))[1])
    wait_for("the SYN to go through", lambda: rose("flow_packets"))
    wires[Side.INTERNAL].send(scene.outbound(scene.segment(*back, flags="RA", ack=10))[1])
    wait_for("the end to be lost", lambda: rose("event_lost"))
    assert scene.values()["event_lost"] - before["event_lost"] == 1
    while target.events():
        pass
    found: list[Event] = []
    for _ in range(3):
        while not target.sweep(64, stats=False):
            pass
        found += target.events()
    (event,) = found
    assert isinstance(event, FlowClosed)
    assert event.cause == CloseCause.RST
    rig.exchange(())


def arrived(wire: Wire) -> Iterator[bytes]:
    """What is there, or as much of it as a round looks at: a flood may be as fast as who reads."""
    while_there = iter(lambda: wire.receive(0), None)
    return islice(while_there, 100)


def test_tables_change_under_a_flood(rig: VethRig) -> None:
    """Both processors send on flows that are entered, replaced and taken out meanwhile: what
    leaves was translated by one decision as a whole, and nothing of a flow is left."""
    scene = Scene(rig, IPV4, UDP_PROTOCOL)
    target = target_of(rig)
    ports = range(20_000, 20_032)
    frames = [
        scene.inbound(scene.segment((IPV4.client, port), scene.vip, b"x" * 64))[1] for port in ports
    ]
    entries = [
        scene.entry(signature=scene.signature(client=(IPV4.client, port)), serial=port)
        for port in ports
    ]
    moved = [
        entry._replace(node_ipaddr=from_text(IPV4.node2), serial=entry.serial + 1000)
        for entry in entries
    ]
    stop = threading.Event()

    def flood(side: Side) -> None:
        while not stop.is_set():
            for frame in frames:
                rig._network.wires[side].send(frame)

    sender = threading.Thread(target=flood, args=(Side.EXTERNAL,))
    sender.start()
    seen = 0
    try:
        for _ in range(150):
            target.apply([InstallFlow(entry) for entry in entries])
            target.apply([InstallFlow(entry) for entry in moved])
            target.apply([RemoveFlow(entry.signature) for entry in entries])
            for octets in arrived(rig._network.wires[Side.INTERNAL]):
                packet = ip_packet(octets)
                if packet[9] == UDP_PROTOCOL and packet[22:24] == (8080).to_bytes(2, "big"):
                    seen += 1
                    assert wrong_checksums(packet) == []
            for _ in arrived(rig._network.wires[Side.EXTERNAL]):
                pass  # what came in between went the kernel's way
            while not target.sweep(64, stats=True):
                pass
            target.events()
    finally:
        stop.set()
        sender.join()
    assert seen > 100
    while target.events():
        pass
    assert target.flow_count() == 0
    assert list(target.flows.table.keys()) == []
    wait_for("the kernel's queues to be empty", lambda: not rig.exchange(()))
    rig.events()
