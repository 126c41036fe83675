# SPDX-License-Identifier: Apache-2.0
"""TCP segments as values, against scapy and against hostile octets."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet import TCP as SCAPY_TCP
from scapy.layers.inet6 import IPv6

from packets.parse import ACK, FIN, PSH, SYN, MalformedPacket, Packet
from packets.tcp import (
    NO_OPTIONS,
    URG,
    Options,
    Segment,
    after,
    read,
    read_ip,
    read_options,
    write,
    write_options,
)
from ssmb.addresses import from_text
from ssmb.constants import TCP, UDP
from ssmb.messages import Session
from support.octets import packets

V4: Final = Session(from_text("198.51.100.9"), from_text("203.0.113.10"), 40001, 80, TCP)
V6: Final = Session(from_text("2001:db8::9"), from_text("2001:db8:1::10"), 40001, 80, TCP)

numbers = st.integers(0, 0xFFFFFFFF)
options = st.builds(
    Options,
    mss=st.none() | st.integers(1, 65535),
    window_scale=st.none() | st.integers(0, 14),
    sack_permitted=st.booleans(),
    sack=st.just(()) | st.tuples(st.tuples(numbers, numbers)),
    timestamps=st.none() | st.tuples(numbers, numbers),
)
segments = st.builds(
    Segment,
    seq=numbers,
    ack=numbers,
    flags=st.integers(0, 255),
    window=st.integers(0, 65535),
    options=options,
    payload=st.binary(max_size=60),
    urgent=st.integers(0, 65535),
    tos=st.integers(0, 255),
)


@given(segments, st.sampled_from([V4, V6]))
def test_what_is_written_is_read(segment: Segment, ends: Session) -> None:
    octets = write(segment, ends)
    assert read_ip(octets) == (ends, segment)


@pytest.mark.parametrize("ends", [V4, V6])
def test_scapy_reads_what_is_written(ends: Session) -> None:
    segment = Segment(
        seq=0xFFFFFFF0,
        ack=7,
        flags=PSH | ACK | URG,
        window=500,
        options=Options(timestamps=(5, 6), sack=((1, 2), (3, 4), (5, 6), (7, 8))),
        payload=b"GET / HTTP/1.0\r\n\r\n",
        urgent=3,
        tos=0x28,
    )
    octets = write(segment, ends)
    packet = (IP if ends is V4 else IPv6)(octets)
    theirs = packet[SCAPY_TCP]
    assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (40001, 80, 0xFFFFFFF0, 7)
    assert (str(theirs.flags), theirs.window, theirs.urgptr) == ("PAU", 500, 3)
    # a fourth block has no room beside timestamps (RFC 2018 3)
    assert dict(theirs.options)["SAck"] == (1, 2, 3, 4, 5, 6)
    assert dict(theirs.options)["Timestamp"] == (5, 6)
    assert bytes(theirs.payload) == segment.payload
    remade: Any = (IP if ends is V4 else IPv6)(octets)
    del remade[SCAPY_TCP].chksum
    assert bytes(remade) == octets


def test_scapys_syn_is_read() -> None:
    syn = packets.tcp(
        ("198.51.100.9", 40001),
        ("203.0.113.10", 80),
        "SEC",
        seq=9,
        window=64240,
        # kind 34 is TCP Fast Open (RFC 7413), which nothing here knows
        options=[
            ("MSS", 1460),
            ("SAckOK", b""),
            ("Timestamp", (77, 0)),
            ("WScale", 15),
            (34, b"\x01\x02\x03\x04"),
        ],
    )
    ends, segment = read_ip(bytes(syn))
    assert ends == V4
    assert segment.options == Options(1460, 14, True, (), (77, 0))
    assert segment.flags == SYN | 0xC0


def test_lengths() -> None:
    assert Segment(5).end == 5
    assert Segment(0xFFFFFFFE, flags=SYN, payload=b"ab").end == 1
    assert Segment(5, flags=FIN | ACK, payload=b"ab").length == 3


@given(st.binary(max_size=44))
def test_hostile_options(octets: bytes) -> None:
    found = read_options(octets)
    again = read_options(write_options(found))
    assert again._replace(sack=()) == found._replace(sack=())
    assert again.sack == found.sack[: len(again.sack)]
    assert len(write_options(found)) <= 40
    assert len(write_options(found)) % 4 == 0


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        ("", NO_OPTIONS),
        ("02", NO_OPTIONS),
        ("0200", NO_OPTIONS),  # a length of 0 would never end
        ("0201", NO_OPTIONS),
        ("020405", NO_OPTIONS),  # beyond the end
        ("02040000", NO_OPTIONS),  # no MSS is 0
        ("0203ff0303", NO_OPTIONS),  # a wrong length, and then one that is too long
        ("030307", Options(window_scale=7)),
        ("0303ff", Options(window_scale=14)),
        ("0402", Options(sack_permitted=True)),
        ("00020405b4", NO_OPTIONS),  # behind the end
        ("0101020405b4", Options(mss=1460)),
        ("020405b402040200", Options(mss=512)),  # the last one counts
        ("0502", NO_OPTIONS),  # no block
        ("05070000000100", NO_OPTIONS),
        ("050a0000000100000002", Options(sack=((1, 2),))),
        ("080a0000000100000002", Options(timestamps=(1, 2))),
        ("080b000000010000000200", NO_OPTIONS),
    ],
)
def test_options(octets: str, found: Options) -> None:
    assert read_options(bytes.fromhex(octets)) == found


@given(st.binary(max_size=120))
def test_hostile_packets(octets: bytes) -> None:
    for version in (0x45, 0x60):  # so that more than the first octet is looked at
        with contextlib.suppress(MalformedPacket):
            read_ip(bytes([version]) + octets)


@given(segments, st.data())
def test_a_changed_octet_is_noticed(segment: Segment, data: st.DataObject) -> None:
    octets = bytearray(write(segment, V4))
    at = data.draw(st.integers(20, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MalformedPacket):
        read_ip(bytes(octets))


def test_what_is_not_a_segment() -> None:
    datagram = packets.udp(("198.51.100.9", 1), ("203.0.113.10", 2), b"x")
    assert bytes(datagram)[9] == UDP
    with pytest.raises(MalformedPacket, match="not TCP"):
        read_ip(bytes(datagram))
    first = packets.tcp(("198.51.100.9", 1), ("203.0.113.10", 2), ip_fields={"flags": "MF"})
    with pytest.raises(MalformedPacket, match="fragment"):
        read_ip(bytes(first))
    with pytest.raises(MalformedPacket, match="not TCP"):
        read(Packet(b""))


def test_numbers_go_round() -> None:
    assert after(5, 3) == 2
    assert after(2, 0xFFFFFFFE) == 4
    assert after(0xFFFFFFFE, 2) == -4
