# SPDX-License-Identifier: Apache-2.0
"""The P4 program on BMv2, with its tables written by hand: what the target does for a living, once,
without the target.  Everything else is the contract suite's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from ssmb.addresses import from_text
from support.octets import packets
from support.require import require
from support.targets.bmv2 import (
    PORT,
    Cables,
    P4Client,
    PacketUp,
    install_network,
    missing_for_bmv2,
    running_switch,
)
from support.targets.rig import CLIENT_MAC, IPV4, NODE_MAC, TARGET_MAC, Side
from support.targets.scene import assert_packet

pytestmark = pytest.mark.network

CLIENT: Final = (IPV4.client, 40000)
VIP: Final = (IPV4.vip, 80)
NODE: Final = (IPV4.node, 8080)
INDEX, COOKIE = 6, 0x5EED
INJECT, REPORT, LISTEN = 1, 4, 5  # OPERATION_* of p4/include/constants.p4
INJECT_ARRIVAL = 1
NEW_FLOW, NEIGHBOUR, CLOSED, REPORTED = 1, 6, 8, 9  # REASON_*
DROP_INJECT_UNMATCHED, DROP_DETACHED = 14, 16  # COUNTER_*


@pytest.fixture(scope="module")
def switch() -> Iterator[tuple[Cables, P4Client]]:
    require("p4", missing_for_bmv2())
    cables = Cables()
    try:
        with running_switch(cables) as address:
            client = P4Client(address)
            client.push()
            own = {side: [from_text(getattr(IPV4, side.value))] for side in Side}
            install_network(client, own)
            install_hops(client)
            install_server(client)
            client.packet_out(bytes(14), operation=LISTEN, value=600_000)
            yield cables, client
            client.close()
    finally:
        cables.close()


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def install_hops(client: P4Client) -> None:
    ends = {Side.EXTERNAL: (IPV4.client, CLIENT_MAC), Side.INTERNAL: (IPV4.node, NODE_MAC)}
    for side, (address, far) in ends.items():
        number = PORT[side]
        addressed: dict[str, Any] = {"src_mac": mac(TARGET_MAC[side]), "dst_mac": mac(far)}
        client.insert(
            "next_hops", {"next_hop": number}, "forward", port=number, mtu=1500, **addressed
        )
        client.insert(
            "neighbours", {"address": from_text(address)}, "set_neighbour", next_hop=number
        )
        client.insert("routes", {"address": (from_text(address), 128)}, "connected", port=number)


def install_server(client: P4Client) -> None:
    match = {"address": (from_text(VIP[0]), b"\xff" * 16), "port": (VIP[1], 0xFFFF), "protocol": 6}
    settings = {"server": 77, "bridged": 0, "group_id": 1, "answer_arp": 1, "proxied": 0}
    client.insert("virtual_servers", match, "set_server", priority=4, **settings)
    client.insert("virtual_addresses", {"address": from_text(VIP[0])}, "answered")


def word_sum(octets: bytes) -> int:
    return sum(int.from_bytes(octets[at : at + 2], "big") for at in range(0, len(octets), 2))


def install_flow(client: P4Client) -> None:
    """NAT to the node, both directions."""
    (c, cp), (v, vp), (n, np) = ((from_text(a), p) for a, p in (CLIENT, VIP, NODE))
    unused = dict.fromkeys(
        (
            *("has_offsets", "seq_add", "ack_add", "ts_echo_add", "ts_value_add", "is_tunnel"),
            *("shift_left", "shift_right", "next_hop", "serial", "group_id", "flags"),
            *("forward_mode", "tos", "node_ipaddr", "node_port", "snat_ipaddr", "snat_port"),
            *("next_hop_ipaddr", "seq_offset", "ack_offset", "ts_offset", "wscale_shift"),
            *("idle_timeout_s", "opened_ms", "from_inside", "is_held"),
        ),
        0,
    )
    there = {"src_addr": c, "dst_addr": v, "src_port": cp, "dst_port": vp, "protocol": 6}
    back = {"src_addr": n, "dst_addr": c, "src_port": np, "dst_port": cp, "protocol": 6}
    becomes = {"new_src_addr": c, "new_dst_addr": n, "new_src_port": cp, "new_dst_port": np}
    returns = {"new_src_addr": v, "new_dst_addr": c, "new_src_port": vp, "new_dst_port": cp}
    address, port = (word_sum(n) - word_sum(v)) % 65535, np - vp
    client.insert(
        "flows",
        back,
        "returning",
        **(unused | returns),
        index=INDEX + 1,
        cookie=COOKIE,
        address_delta=-address % 65535,
        port_delta=-port % 65535,
    )
    client.insert(
        "flows",
        there,
        "inbound",
        idle_timeout_ns=10**9,
        **(unused | becomes),
        index=INDEX,
        cookie=COOKIE,
        address_delta=address,
        port_delta=port,
        towards=n,
    )


def exchange(cables: Cables, side: Side, frame: bytes, out: Side) -> bytes:
    """Send one frame; the one that comes out on the other side."""
    cables.wires[side].send(frame)
    found = cables.wires[out].receive(2.0)
    assert found is not None, f"nothing came out on the {out.value} side"
    return found


def up(client: P4Client, reason: int) -> PacketUp:
    found = client.packet_in()
    while found is not None and found.fields["reason"] == NEIGHBOUR != reason:
        found = client.packet_in()  # copies of the questions that the switch answered
    assert found is not None, "nothing came up"
    assert found.fields["reason"] == reason, found
    return found


def frame(side: Side, packet: Any) -> bytes:
    far = CLIENT_MAC if side is Side.EXTERNAL else NODE_MAC
    return packets.frame(far, TARGET_MAC[side], packet)


def test_an_address_of_a_virtual_server_is_answered_for(switch: tuple[Cables, P4Client]) -> None:
    cables, _ = switch
    ask = Ether(src=CLIENT_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=CLIENT_MAC, psrc=IPV4.client, pdst=IPV4.vip
    )
    reply = Ether(exchange(cables, Side.EXTERNAL, bytes(ask), Side.EXTERNAL))
    assert (reply[ARP].op, reply[ARP].psrc, reply.src) == (2, IPV4.vip, TARGET_MAC[Side.EXTERNAL])


def test_what_waited_for_its_next_hop_arrives_again(switch: tuple[Cables, P4Client]) -> None:
    cables, client = switch
    ping = IP(src=IPV4.client, dst=IPV4.node) / ICMP() / b"waited"
    waited = frame(Side.EXTERNAL, ping)
    client.packet_out(waited, operation=INJECT, value=INJECT_ARRIVAL, port=PORT[Side.EXTERNAL])
    octets = cables.wires[Side.INTERNAL].receive(2.0)
    assert octets is not None, "no flow matched, and none was needed"
    assert_packet(octets, packets.hop(ping))


def test_a_flow_from_its_first_packet_to_its_end(switch: tuple[Cables, P4Client]) -> None:
    cables, client = switch
    client.clear("flows")  # of other tests
    # nobody knows the flow: it comes up, and down again without one it is dropped
    syn = packets.tcp(CLIENT, VIP, "S", seq=100)
    cables.wires[Side.EXTERNAL].send(frame(Side.EXTERNAL, syn))
    first = up(client, NEW_FLOW)
    assert (first.fields["server"], first.fields["port"]) == (77, PORT[Side.EXTERNAL])
    assert first.octets == frame(Side.EXTERNAL, syn)
    before = client.outcomes()[DROP_INJECT_UNMATCHED]
    client.packet_out(first.octets, operation=INJECT, port=PORT[Side.EXTERNAL])
    client.packet_out(bytes(14), operation=REPORT, value=INDEX)
    up(client, REPORTED)
    assert client.outcomes()[DROP_INJECT_UNMATCHED] == before + 1
    # with the flow it goes to the node
    install_flow(client)
    client.packet_out(first.octets, operation=INJECT, port=PORT[Side.EXTERNAL])
    octets = cables.wires[Side.INTERNAL].receive(2.0)
    assert octets is not None
    assert_packet(octets, packets.hop(packets.tcp(CLIENT, NODE, "S", seq=100)))
    assert packets.macs(octets) == (NODE_MAC, TARGET_MAC[Side.INTERNAL])
    # there and back, to the fourth step of the close
    talk = [
        (Side.INTERNAL, "SA", 500, 101, b""),
        (Side.EXTERNAL, "A", 101, 501, b"GET /"),
        (Side.INTERNAL, "FA", 501, 106, b"hello"),
        (Side.EXTERNAL, "FA", 106, 507, b""),
        (Side.INTERNAL, "A", 507, 107, b""),
    ]
    for side, flags, seq, ack, data in talk:
        inbound = side is Side.EXTERNAL
        ends, wanted = (
            ((CLIENT, VIP), (CLIENT, NODE)) if inbound else ((NODE, CLIENT), (VIP, CLIENT))
        )
        sent = packets.tcp(*ends, flags, data, seq=seq, ack=ack)
        out = Side.INTERNAL if inbound else Side.EXTERNAL
        octets = exchange(cables, side, frame(side, sent), out)
        assert_packet(octets, packets.hop(packets.tcp(*wanted, flags, data, seq=seq, ack=ack)))
    report = up(client, CLOSED).octets
    assert int.from_bytes(report[:4], "big") == INDEX
    places = ((10, 14), (14, 19), (44, 49))
    cookie, there, back = (int.from_bytes(report[begin:end], "big") for begin, end in places)
    assert (cookie, there, back) == (COOKIE, 3, 3)


def test_an_error_about_a_flow_reaches_the_client(switch: tuple[Cables, P4Client]) -> None:
    cables, client = switch
    if not client.read_table("flows"):
        install_flow(client)
    quoted = IP(bytes(packets.tcp(CLIENT, NODE, "A", b"GET /", seq=101)))
    error = IP(src=IPV4.node, dst=IPV4.client) / ICMP(type=3, code=4, nexthopmtu=1280) / quoted
    octets = exchange(cables, Side.INTERNAL, frame(Side.INTERNAL, error), Side.EXTERNAL)
    found = Ether(octets)[IP]
    assert packets.wrong_checksums(packets.ip_packet(octets)) == []
    inner = IP(bytes(found[ICMP].payload))
    assert (found.src, inner.dst, inner[TCP].dport) == (IPV4.vip, IPV4.vip, 80)
    assert bytes(inner[Raw].load) == b"GET /"


def test_without_an_agent_new_flows_are_dropped(switch: tuple[Cables, P4Client]) -> None:
    cables, client = switch
    client.packet_out(bytes(14), operation=LISTEN, value=0)
    client.packet_out(bytes(14), operation=REPORT, value=INDEX)
    up(client, REPORTED)
    before = client.outcomes()[DROP_DETACHED]
    syn = packets.tcp((IPV4.client, 40001), VIP, "S")
    cables.wires[Side.EXTERNAL].send(frame(Side.EXTERNAL, syn))
    assert client.packet_in(0.5) is None
    assert client.outcomes()[DROP_DETACHED] == before + 1
    client.packet_out(bytes(14), operation=LISTEN, value=600_000)


def test_an_idle_flow_is_told_by_the_switch(switch: tuple[Cables, P4Client]) -> None:
    _, client = switch
    if not client.read_table("flows"):
        install_flow(client)
    message = client.notifications.get(timeout=10)
    assert message.WhichOneof("update") == "idle_timeout_notification"
