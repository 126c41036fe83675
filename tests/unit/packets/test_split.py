# SPDX-License-Identifier: Apache-2.0
"""Splitting IPv4 packets: held to scapy's own fragments, and to the kernel's rules for options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from packets.parse import parse
from packets.split import may_be_split, split
from support.octets.packets import wrong_checksums

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LINK_TO_IPV4 = bytes(LINK / IP())[:14]


def udp(length: int, **fields: object) -> IP:
    head = IP(src="192.0.2.1", dst="203.0.113.1", id=77, ttl=9, tos=4, **fields)
    return head / UDP(sport=1, dport=2) / bytes(n % 251 for n in range(length))


@given(length=st.integers(1, 3000), mtu=st.integers(68, 1500))
def test_pieces_fit_and_make_up_the_packet(length: int, mtu: int) -> None:
    whole = bytes(udp(length))
    pieces = [frame[14:] for frame in split(parse(LINK_TO_IPV4 + whole), mtu)]
    data = b""
    for number, piece in enumerate(pieces):
        read = IP(piece)
        assert len(piece) == read.len <= mtu
        assert wrong_checksums(piece) == []
        assert (read.id, read.ttl, read.tos, read.proto) == (77, 9, 4, 17)
        assert read.frag * 8 == len(data)
        assert bool(read.flags.MF) == (number < len(pieces) - 1)
        data += piece[20:]
    assert data == whole[20:]


def test_a_fragment_is_split_further() -> None:
    whole = bytes(udp(2000))
    halves = split(parse(LINK_TO_IPV4 + whole), 1004)
    pieces = [piece for half in halves for piece in split(parse(half), 400)]
    data = b""
    for number, frame in enumerate(pieces):
        read = IP(frame[14:])
        assert read.frag * 8 == len(data)
        assert bool(read.flags.MF) == (number < len(pieces) - 1)
        data += frame[34:]
    assert data == whole[20:]


def test_the_link_header_stays_with_its_tags() -> None:
    tagged = LINK / Dot1Q(vlan=7) / udp(500)
    frames = split(parse(bytes(tagged)), 300)
    assert len(frames) == 2
    assert {frame[:18] for frame in frames} == {bytes(tagged)[:18]}


def test_later_fragments_carry_the_options_that_say_so() -> None:
    """RFC 791 3.1: the top bit of an option's type."""
    options = [IPOption(b"\x07\x07\x04\x00\x00\x00\x00"), IPOption(b"\x94\x04\x00\x00")]
    first, *later = split(parse(bytes(LINK / udp(600, options=options))), 300)
    assert IP(first[14:]).ihl == 8
    for frame in later:
        assert wrong_checksums(frame[14:]) == []
        assert frame[34:38] == b"\x94\x04\x00\x00"
        assert IP(frame[14:]).ihl == 6


@pytest.mark.parametrize(
    "packet",
    [udp(2000, flags="DF"), IPv6(src="::2", dst="::3") / UDP() / bytes(2000)],
    ids=["don't fragment", "IPv6"],
)
def test_what_its_sender_does_not_allow_is_refused(packet: IP) -> None:
    read = parse(bytes(LINK / packet))
    assert not may_be_split(read)
    with pytest.raises(ValueError, match="may not be fragmented"):
        split(read, 1280)


def test_a_link_that_carries_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="may not be fragmented"):
        split(parse(bytes(LINK / udp(100))), 67)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (b"\x01\x01\x94\x04\x00\x00\x00\x00", b"\x94\x04\x00\x00"),
        (b"\x94\x04\x00\x00\x94\x01\x00\x00", b"\x94\x04\x00\x00"),  # a length that is none
        (b"\x94\x04\x00\x00\x01\x01\x01\x94", b"\x94\x04\x00\x00"),  # which is cut off
        (b"\x00\x94\x04\x00", b""),  # behind the end of the list
    ],
)
def test_options_that_are_damaged_end_the_list(options: bytes, kept: bytes) -> None:
    whole = bytes(LINK / udp(600))
    header = bytearray(whole[14:34])
    header[0] = 0x40 | (20 + len(options)) // 4
    header[2:4] = (int.from_bytes(header[2:4], "big") + len(options)).to_bytes(2, "big")
    first, *later = split(parse(whole[:14] + bytes(header) + options + whole[34:]), 300)
    assert first[34 : 34 + len(options)] == options
    for frame in later:
        assert frame[34 : 14 + (frame[14] & 15) * 4] == kept
