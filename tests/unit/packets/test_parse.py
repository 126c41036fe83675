# SPDX-License-Identifier: Apache-2.0
"""Parsing: any octets are either read within their bounds or refused, never more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet as ScapyPacket

from packets.icmp import CannotRead, is_error, quoted_packet
from packets.parse import Kind, MalformedPacket, Packet, parse
from ssmb.addresses import from_text
from support.octets.packets import frame, ip, tcp, udp, unreachable, wrong_checksums

A4, B4 = ("192.0.2.10", 40000), ("203.0.113.10", 80)
A6, B6 = ("2001:db8::10", 40000), ("2001:db8::20", 80)
ENDS = pytest.mark.parametrize(("src", "dst"), [(A4, B4), (A6, B6)], ids=["ipv4", "ipv6"])
MAC = "02:00:00:00:00:01"
LINK = bytes.fromhex("020000000001020000000002")


def framed(packet: ScapyPacket | bytes, vlan: int | None = None) -> bytes:
    return frame(MAC, MAC, packet, vlan)


def parsed_or_refused(octets: bytes) -> Packet | None:
    try:
        return parse(octets)
    except MalformedPacket:
        return None


def assert_within_bounds(packet: Packet, octets: bytes) -> None:
    """What the pipeline relies on before it reads or writes anything."""
    assert 14 <= packet.l3 <= packet.end <= len(octets)
    assert bytes(packet.data) == octets
    if packet.kind == Kind.TRANSPORT:
        assert packet.version in (4, 6)
        assert len(packet.src) == len(packet.dst) == 16
        minimum = 20 if packet.protocol == 6 else 8
        assert packet.later_fragment or packet.end - packet.l4 >= minimum
        assert 0 <= packet.tos <= 255
        assert packet.ip_length > 0
        packet.checksums_are_right()
    if packet.kind == Kind.ICMP:
        assert packet.end - packet.l4 >= 8
        packet.checksums_are_right()
        try:
            inner = quoted_packet(packet) if is_error(packet) else None
        except CannotRead:
            return
        if inner is not None:
            assert inner.l4 + 8 <= inner.end <= len(inner.data)


KINDS = st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x88CC])


@given(octets=st.binary(max_size=120))
def test_any_octets_are_read_within_their_bounds_or_refused(octets: bytes) -> None:
    packet = parsed_or_refused(octets)
    if packet is not None:
        assert_within_bounds(packet, octets)


@given(kind=KINDS, octets=st.binary(max_size=120))
@settings(max_examples=300)
def test_any_octets_after_a_known_type(kind: int, octets: bytes) -> None:
    whole = LINK + kind.to_bytes(2, "big") + octets
    packet = parsed_or_refused(whole)
    if packet is not None:
        assert_within_bounds(packet, whole)


def _good_frames() -> list[bytes]:
    found = []
    for src, dst in ((A4, B4), (A6, B6)):
        whole = tcp(src, dst, "S", b"payload", options=[("Timestamp", (1, 2))])
        found += [framed(whole), framed(whole, vlan=3), framed(udp(src, dst, b"payload"))]
        found.append(framed(unreachable(dst[0], src[0], bytes(whole), "port")))
    chain = IPv6(src=A6[0], dst=B6[0]) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    found.append(framed(chain / IPv6ExtHdrFragment(m=1, id=5) / TCP(sport=1, dport=2)))
    return found


GOOD = _good_frames()


@given(
    octets=st.sampled_from(GOOD),
    changes=st.lists(st.tuples(st.integers(12, 200), st.integers(0, 255)), max_size=5),
    cut=st.integers(0, 250),
)
@settings(max_examples=500)
def test_damaged_and_cut_frames(octets: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(octets)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    whole = bytes(damaged[:cut])
    packet = parsed_or_refused(whole)
    if packet is not None:
        assert_within_bounds(packet, whole)


def test_every_cut_of_every_good_frame() -> None:
    for octets in GOOD:
        assert parsed_or_refused(octets) is not None
        for length in range(len(octets)):
            packet = parsed_or_refused(octets[:length])
            if packet is not None:
                assert_within_bounds(packet, octets[:length])


@ENDS
@pytest.mark.parametrize("vlan", [None, 7])
def test_what_is_found(src: tuple[str, int], dst: tuple[str, int], vlan: int | None) -> None:
    sent = tcp(src, dst, "SE", b"payload", ip_fields={"tos": 0xB9, "ttl": 9})
    packet = parse(framed(sent, vlan))
    assert packet.kind == Kind.TRANSPORT
    assert (packet.src, packet.dst) == (from_text(src[0]), from_text(dst[0]))
    assert packet.ports == (40000, 80)
    assert packet.protocol == 6
    assert packet.tcp_flags == 0x42
    assert (packet.tos, packet.ttl) == (0xB9, 9)
    assert packet.ip_length == len(bytes(sent))
    assert not packet.first_fragment
    assert not packet.later_fragment
    assert packet.checksums_are_right()


@ENDS
def test_padding_is_no_part_of_the_packet(src: tuple[str, int], dst: tuple[str, int]) -> None:
    sent = udp(src, dst, b"x")
    packet = parse(framed(sent) + b"padding")
    assert packet.ip_length == len(bytes(sent))
    assert packet.checksums_are_right()


@given(
    family=st.sampled_from([(A4, B4), (A6, B6)]),
    protocol=st.sampled_from(["tcp", "udp"]),
    payload=st.binary(max_size=50),
    flip=st.integers(0, 10_000),
)
def test_the_verdict_on_checksums_is_the_independent_verifiers(
    family: tuple[tuple[str, int], tuple[str, int]], protocol: str, payload: bytes, flip: int
) -> None:
    src, dst = family
    sent = tcp(src, dst, "A", payload) if protocol == "tcp" else udp(src, dst, payload)
    octets = bytearray(framed(sent))
    assert parse(octets).checksums_are_right()
    octets[14 + flip // 8 % (len(octets) - 14)] ^= 1 << flip % 8
    packet = parsed_or_refused(bytes(octets))
    if packet is None or packet.kind != Kind.TRANSPORT or packet.ip_length != len(octets) - 14:
        return
    if packet.first_fragment or packet.later_fragment:
        return
    udp_length = packet.word(packet.l4 + 4)
    if packet.protocol == 17 and udp_length != packet.end - packet.l4:
        return  # the verifier takes the whole packet for the datagram
    wrong = wrong_checksums(bytes(octets[14:]))
    assert packet.checksums_are_right() == (wrong == [])


@pytest.mark.parametrize(
    ("frag", "flags", "first", "later"),
    [(0, "", False, False), (0, "DF", False, False), (0, "MF", True, False), (5, "", False, True)],
)
def test_which_fragment_it_is(frag: int, flags: str, first: bool, later: bool) -> None:
    fields: dict[str, Any] = {"frag": frag, "flags": flags, "id": 77}
    packet = parse(framed(udp(A4, B4, b"x" * 16, ip_fields=fields)))
    assert (packet.first_fragment, packet.later_fragment) == (first, later)
    assert packet.fragment_id == 77
    assert packet.kind == Kind.TRANSPORT
    assert packet.checksums_are_right()


@pytest.mark.parametrize(
    ("offset", "more", "first", "later"),
    [(0, 1, True, False), (9, 1, False, True), (9, 0, False, True), (0, 0, False, False)],
)
def test_which_ipv6_fragment_it_is(offset: int, more: int, first: bool, later: bool) -> None:
    """Neither: an atomic fragment, which is a whole packet (RFC 6946)."""
    header = IPv6(src=A6[0], dst=B6[0]) / IPv6ExtHdrFragment(nh=6, offset=offset, m=more, id=88)
    packet = parse(framed(header / bytes(TCP(sport=5, dport=6))))
    assert (packet.first_fragment, packet.later_fragment) == (first, later)
    assert (packet.fragment_id, packet.kind) == (88, Kind.TRANSPORT)


def test_extension_headers_are_skipped() -> None:
    chain = IPv6(src=A6[0], dst=B6[0]) / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting(addresses=[])
    packet = parse(framed(chain / IPv6ExtHdrDestOpt() / TCP(sport=5, dport=6)))
    assert (packet.kind, packet.protocol, packet.ports) == (Kind.TRANSPORT, 6, (5, 6))


def test_a_long_chain_of_extension_headers_ends_the_search() -> None:
    """What is behind it is unknown, so it is no transport packet; it is routed."""
    chain = IPv6(src=A6[0], dst=B6[0])
    for _ in range(20):
        chain = chain / IPv6ExtHdrDestOpt()
    assert parse(framed(chain / TCP())).kind == Kind.OTHER


def test_other_protocols_are_none_of_ours() -> None:
    for header in (ip(A4[0], B4[0], proto=47), ip(A6[0], B6[0], nh=47)):
        packet = parse(framed(bytes(header / b"gre or so")))
        assert packet.kind == Kind.OTHER
    # each family has its own ICMP
    assert parse(framed(bytes(ip(A4[0], B4[0], proto=58) / bytes(20)))).kind == Kind.OTHER
    assert parse(framed(bytes(ip(A6[0], B6[0], nh=1) / bytes(20)))).kind == Kind.OTHER


def test_types_beyond_ip() -> None:
    assert parse(LINK + b"\x08\x06" + bytes(28)).kind == Kind.ARP
    assert parse(LINK + b"\x88\xcc" + bytes(28)).kind == Kind.OTHER
    # three tags are one too many to look behind
    tags = b"\x88\xa8\x00\x01\x81\x00\x00\x02\x81\x00\x00\x03"
    assert parse(LINK + tags + b"\x08\x00" + bytes(IP() / TCP())).kind == Kind.OTHER


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        LINK,
        LINK + b"\x81\x00\x00",
        LINK + b"\x08\x00" + bytes(20),
        LINK + b"\x86\xdd" + bytes(40),
        LINK + b"\x08\x00" + bytes(IP(len=19) / TCP()),
        LINK + b"\x08\x00" + bytes(IP(ihl=4) / TCP()),
        LINK + b"\x08\x00" + bytes(IP() / TCP(dataofs=4)),
        LINK + b"\x08\x00" + bytes(IP() / TCP(dataofs=6)),
    ],
)
def test_what_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse(octets)


def test_a_copy_is_independent() -> None:
    packet = parse(GOOD[0])
    other = packet.copy()
    other.data[packet.l3 + 8] ^= 0xFF
    assert bytes(packet.data) == GOOD[0]
    assert other.ports == packet.ports
