# SPDX-License-Identifier: Apache-2.0
"""The target with a switch, beyond what every target must do: limits, neighbours, the switch's
death.  BMv2 and the model of it are held to the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    InjectPacket,
    InstallFlow,
    SetLocalAddresses,
)
from data_flow_segment.targets.interfaces import broadcasts
from data_flow_segment.targets.p4runtime import core
from ssmb.addresses import IPV4_PREFIX
from support.octets.packets import TCP_PROTOCOL, hop, ip, ip_packet, wrong_checksums
from support.require import require
from support.targets.bmv2 import missing_for_bmv2
from support.targets.p4_model_rig import P4ModelRig
from support.targets.p4_rig import P4Rig
from support.targets.rig import FAMILIES, NODE_MAC, TARGET_MAC, Family, Side
from support.targets.scene import Scene, assert_packet, only

AnyRig = P4Rig | P4ModelRig


@pytest.fixture(params=["model", pytest.param("bmv2", marks=pytest.mark.network)])
def rig(request: pytest.FixtureRequest) -> Iterator[AnyRig]:
    """A switch of its own: these tests change what a switch is told once."""
    if request.param == "bmv2":
        require("p4", missing_for_bmv2())
    made: AnyRig = P4Rig() if request.param == "bmv2" else P4ModelRig()
    yield made
    made.close()


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.network
def test_more_new_flows_than_the_meter_lets_up_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    require("p4", missing_for_bmv2())
    monkeypatch.setattr(core, "UP_CALLS_PER_S", 1)
    monkeypatch.setattr(core, "UP_CALLS_BURST", 12)
    rig = P4Rig()
    try:
        scene = Scene(rig, family, TCP_PROTOCOL)
        rig.apply(AddVirtualServer(scene.server()))
        before = scene.values()
        clients = [(family.client, 2000 + number) for number in range(40)]
        scene.send(*(scene.inbound(scene.segment(each, scene.vip, flags="S")) for each in clients))
        came, after = len(scene.up_calls()), scene.values()
        assert 4 <= came < 24  # the rig's questions by ARP pass the meter too
        assert after["up_calls"] - before["up_calls"] == came
        assert after["drop_up_call_full"] - before["drop_up_call_full"] == 40 - came
    finally:
        rig.close()


def test_a_packet_waits_for_a_neighbour_that_nobody_configured(rig: AnyRig, family: Family) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    stranger = family.node[:-1] + "7"
    rig.apply(AddVirtualServer(scene.server()))
    scene.send(scene.inbound(scene.to_vip(flags="S")))
    (up,) = scene.up_calls()
    entry = scene.entry(node_ipaddr=stranger)
    rig.apply(InstallFlow(entry), InjectPacket(up))  # the question is chatter, see the rig
    answer = _answer(family, stranger)
    octets = only(scene.send((Side.INTERNAL, bytes(answer))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, (stranger, 8080), flags="S")))
    assert scene.values()["resolve_waited"] >= 1
    # and the next one finds its way alone
    octets = only(scene.send(scene.inbound(scene.to_vip(b"more"))), Side.INTERNAL)
    assert_packet(octets, hop(scene.segment(scene.client, (stranger, 8080), b"more")))


def test_the_switchs_own_addresses_answer_ping(rig: AnyRig, family: Family) -> None:
    """Nobody else would: a switch has no kernel behind its ports."""
    scene = Scene(rig, family, TCP_PROTOCOL)
    for address in (family.external, family.internal):
        header = ip(family.client, address, ttl=9)
        if family.is_ipv4:
            question, answers = header / ICMP(type=8, id=7, seq=3) / Raw(b"x"), ICMP
        else:
            question, answers = header / ICMPv6EchoRequest(id=7, seq=3, data=b"x"), ICMPv6EchoReply
        octets = only(scene.send(scene.inbound(question)), Side.EXTERNAL)
        assert wrong_checksums(ip_packet(octets)) == []
        reply = Ether(octets)
        assert (reply.payload.src, reply.payload.dst) == (address, family.client)
        assert (reply[answers].id, reply[answers].seq) == (7, 3)
        assert reply[answers].type == (0 if family.is_ipv4 else 129)
    assert scene.values()["echo_answered"] == 2


def _answer(family: Family, address: str) -> Ether:
    ours = TARGET_MAC[Side.INTERNAL]
    link = Ether(src=NODE_MAC, dst=ours)
    if family.is_ipv4:
        return link / ARP(op=2, hwsrc=NODE_MAC, psrc=address, hwdst=ours, pdst=family.internal)
    advertisement = ICMPv6ND_NA(tgt=address, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=NODE_MAC)
    return link / IPv6(src=address, dst=family.internal, hlim=255) / advertisement


MOVED = "02:5b:00:00:0d:77"


@pytest.mark.parametrize("how", ["asks us", "tells everybody"])
def test_a_neighbour_that_moves_is_followed_at_once(rig: AnyRig, family: Family, how: str) -> None:
    """A node is replaced, an address taken over: keepalived and `arping -U` tell it so."""
    scene = Scene(rig, family, TCP_PROTOCOL)
    stranger = family.node[:-1] + "7"
    rig.apply(InstallFlow(scene.entry(node_ipaddr=stranger)))
    scene.send((Side.INTERNAL, bytes(_answer(family, stranger))))
    octets = only(scene.send(scene.inbound(scene.to_vip(b"before"))), Side.INTERNAL)
    assert Ether(octets).dst == NODE_MAC
    news = _question(family, stranger) if how == "asks us" else _gratuitous(family, stranger)
    answers = scene.send((Side.INTERNAL, bytes(news)))
    assert len(answers) == (how == "asks us")
    octets = only(scene.send(scene.inbound(scene.to_vip(b"after"))), Side.INTERNAL)
    assert Ether(octets).dst == MOVED


def test_who_asks_for_somebody_else_moves_nobody(rig: AnyRig) -> None:
    family = FAMILIES[0]
    scene = Scene(rig, family, TCP_PROTOCOL)
    stranger = family.node[:-1] + "7"
    rig.apply(InstallFlow(scene.entry(node_ipaddr=stranger)))
    scene.send((Side.INTERNAL, bytes(_answer(family, stranger))))
    other = _question(family, stranger)
    other[ARP].pdst = family.node
    assert scene.send((Side.INTERNAL, bytes(other))) == []
    octets = only(scene.send(scene.inbound(scene.to_vip(b"x"))), Side.INTERNAL)
    assert Ether(octets).dst == NODE_MAC


def _question(family: Family, address: str) -> Ether:
    """By the one who has `address` now, for the switch's own."""
    if family.is_ipv4:
        link = Ether(src=MOVED, dst="ff:ff:ff:ff:ff:ff")
        return link / ARP(op=1, hwsrc=MOVED, psrc=address, pdst=family.internal)
    link = Ether(src=MOVED, dst=TARGET_MAC[Side.INTERNAL])
    asks = ICMPv6ND_NS(tgt=family.internal) / ICMPv6NDOptSrcLLAddr(lladdr=MOVED)
    return link / IPv6(src=address, dst=family.internal, hlim=255) / asks


def _gratuitous(family: Family, address: str) -> Ether:
    if family.is_ipv4:
        link = Ether(src=MOVED, dst="ff:ff:ff:ff:ff:ff")
        return link / ARP(op=1, hwsrc=MOVED, psrc=address, pdst=address)
    link = Ether(src=MOVED, dst="33:33:00:00:00:01")
    tells = ICMPv6ND_NA(tgt=address, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MOVED)
    return link / IPv6(src=address, dst="ff02::1", hlim=255) / tells


def test_the_agent_asks_for_a_node_as_soon_as_a_flow_goes_there(
    rig: AnyRig, family: Family
) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.keeps_chatter = True
    stranger = family.node[:-1] + "8"
    frames = rig.apply(InstallFlow(scene.entry(node_ipaddr=stranger)))
    questions = [Ether(octets) for side, octets in frames if side is Side.INTERNAL]
    asked = [q[ARP].pdst if ARP in q else q[ICMPv6ND_NS].tgt for q in questions]
    assert stranger in asked


def test_a_switch_that_died_is_filled_again_and_counts_go_on(rig: AnyRig, family: Family) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    rig.apply(AddVirtualServer(scene.server()), InstallFlow(scene.entry()))
    boot_id = rig.target.boot_id
    for _ in range(3):
        only(scene.send(scene.inbound(scene.to_vip(b"before"))), Side.INTERNAL)
    seen = rig.target.lookup(scene.signature())
    assert seen is not None
    rig.restart_switch()
    for _ in range(2):
        only(scene.send(scene.inbound(scene.to_vip(b"after"))), Side.INTERNAL)
    state = rig.target.lookup(scene.signature())
    assert state is not None
    assert (state.entry, state.counters.pkts_in) == (scene.entry(), 5)
    assert state.counters.bytes_in > seen.counters.bytes_in
    assert scene.values()["switch_refilled"] == 1
    # an agent that comes now finds all of it as the first one told the CSs
    with rig.agent_away():
        pass
    assert (rig.target.adopted, rig.target.boot_id) == (True, boot_id)
    assert rig.target.flow_count() == 1
    assert list(rig.target.virtual_servers()) == [scene.server()]


def test_a_table_that_is_full_is_told_in_one_line_and_counted(
    rig: AnyRig, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = [IPV4_PREFIX + (0x0A640000 + n).to_bytes(4, "big") for n in range(4096)]
    own = {address for each in rig.options.interfaces for address in each.addresses}
    more = len(own | broadcasts(rig.options.routes))
    with caplog.at_level(logging.WARNING, "splitplane.dfs"):
        rig.apply(SetLocalAddresses(frozenset(addresses)))
    (line,) = [record.message for record in caplog.records if "refused" in record.message]
    assert f"refused {more} x INSERT in local_addresses: " in line
    assert "(the table has 4096 places: " in line
    assert rig.target.counters()["write_refused"].value == more
    # nothing else is lost by it
    rig.apply(SetLocalAddresses(frozenset(addresses[:10])))
    scene = Scene(rig, FAMILIES[0], TCP_PROTOCOL)
    rig.apply(InstallFlow(scene.entry()))
    only(scene.send(scene.inbound(scene.to_vip(b"x"))), Side.INTERNAL)


def test_a_capacity_beyond_the_programs_registers_is_what_there_is(rig: AnyRig) -> None:
    target = rig.reopened(replace(rig.options, flow_capacity=1 << 20))
    assert target.flow_capacity == 131071


def test_errors_of_our_own_are_as_many_as_a_routers(rig: AnyRig, family: Family) -> None:
    scene = Scene(rig, family, TCP_PROTOCOL)
    time_over = scene.segment((family.far_client, 9), (family.node, 9), ip_fields={"ttl": 1})
    errors = scene.send(*[scene.inbound(time_over)] * 200)
    limited = scene.values()["icmp_limited"]
    assert limited > 0
    assert len(errors) == 200 - limited
