# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from data_flow_segment.flows import refusal
from ssmb.addresses import from_text
from support.octets.frames import ACK, FIN, RST, SYN, framed, tcp_packet, udp_packet

ENDS = {
    4: ((from_text("198.51.100.7"), 40000), (from_text("203.0.113.10"), 80)),
    6: ((from_text("2001:db8::7"), 40000), (from_text("2001:db8:1::10"), 80)),
}


def answered(packet: bytes) -> Any:
    octets = refusal.answer(framed(packet, b"\x02" * 6, b"\x04" * 6))
    assert octets is not None
    parsed = IP(octets) if octets[0] >> 4 == 4 else IPv6(octets)
    again = parsed.copy()  # scapy makes the checksums anew: the same octets, so ours were right
    for layer, field in ((IP, "chksum"), (TCP, "chksum"), (ICMP, "chksum")):
        if layer in again:
            delattr(again[layer], field)
    if ICMPv6DestUnreach in again:
        del again[ICMPv6DestUnreach].cksum
    assert bytes(again) == octets
    return parsed


@pytest.mark.parametrize("family", [4, 6])
def test_a_syn_is_reset_as_if_nobody_listened(family: int) -> None:
    client, vip = ENDS[family]
    answer = answered(tcp_packet(client, vip, SYN, seq=1000))[TCP]
    assert (answer.sport, answer.dport) == (80, 40000)
    assert (str(answer.flags), answer.seq, answer.ack) == ("RA", 0, 1001)


@pytest.mark.parametrize("family", [4, 6])
def test_a_segment_of_a_connection_is_reset_at_the_number_that_it_acknowledges(
    family: int,
) -> None:
    client, vip = ENDS[family]
    answer = answered(tcp_packet(client, vip, ACK, seq=5, ack=77, payload=b"abc"))[TCP]
    assert (str(answer.flags), answer.seq) == ("R", 77)


def test_data_and_fin_count_as_sequence_numbers() -> None:
    client, vip = ENDS[4]
    answer = answered(tcp_packet(client, vip, FIN, seq=0xFFFFFFFE, payload=b"abc"))[TCP]
    assert answer.ack == 2


def test_a_reset_is_not_answered() -> None:
    client, vip = ENDS[4]
    frame = framed(tcp_packet(client, vip, RST), b"\x02" * 6, b"\x04" * 6)
    assert refusal.answer(frame) is None


def test_udp_gets_port_unreachable_with_what_it_sent() -> None:
    client, vip = ENDS[4]
    packet = udp_packet(client, vip, b"question" * 100)
    answer = answered(packet)
    assert (answer.src, answer.dst) == ("203.0.113.10", "198.51.100.7")
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    assert len(bytes(answer)) == 576
    assert bytes(answer[ICMP])[8:] == packet[:548]


def test_udp_over_ipv6_gets_its_own_kind_of_port_unreachable() -> None:
    client, vip = ENDS[6]
    packet = udp_packet(client, vip, b"q" * 1400)
    answer = answered(packet)
    assert answer[ICMPv6DestUnreach].code == 4
    assert len(bytes(answer)) == 1280
    assert bytes(answer[ICMPv6DestUnreach])[8:] == packet[:1232]


@pytest.mark.parametrize("frame", [b"", b"\x02" * 13, b"\x02" * 60])
def test_what_is_no_packet_is_not_answered(frame: bytes) -> None:
    assert refusal.answer(frame) is None


def test_the_frames_of_these_tests_are_scapys() -> None:
    client, vip = ENDS[4]
    mine = tcp_packet(client, vip, SYN, seq=9, payload=b"abc", tos=8)
    theirs = IP(src="198.51.100.7", dst="203.0.113.10", id=7, tos=8) / TCP(
        sport=40000, dport=80, flags="S", seq=9, window=65535
    )
    assert bytes(theirs / b"abc") == mine
    datagram = IP(src="198.51.100.7", dst="203.0.113.10", id=7) / UDP(sport=40000, dport=80)
    assert bytes(datagram / b"x") == udp_packet(client, vip)
