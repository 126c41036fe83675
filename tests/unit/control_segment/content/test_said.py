# SPDX-License-Identifier: Apache-2.0
"""What clients say, as a DFS brings it: read, to be waited for, or the reason why it never can be
(15.2)."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether

from control_segment.content.said import (
    MORE,
    CookieReader,
    HttpReader,
    NoReader,
    Reader,
    Said,
    SslReader,
    Unreadable,
    tcp_payload,
)

REQUEST: Final = b"GET /a HTTP/1.1\r\nHost: shop\r\nCookie: id=7; other=8\r\n\r\n"
SESSION: Final = bytes(range(32))


def hello(session: bytes = SESSION, *, claimed: int | None = None) -> bytes:
    """A ClientHello of TLS 1.2 without extensions (RFC 5246 7.4.1.2)."""
    length = bytes([len(session) if claimed is None else claimed])
    body = b"\x03\x03" + bytes(32) + length + session + b"\x00\x02\x13\x01\x01\x00"
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(message: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(message).to_bytes(2, "big") + message


def why(reading: object) -> str:
    assert isinstance(reading, Unreadable), reading
    return reading.why


READERS: Final[dict[str, Reader]] = {
    "http": HttpReader(0),
    "cookie": CookieReader("id", 0),
    "ssl": SslReader(0, reads_all=False),
    "ssl, all": SslReader(0, reads_all=True),
    "none": NoReader(),
}


@pytest.mark.parametrize("kind", READERS)
@given(st.one_of(st.binary(max_size=80), st.sampled_from([REQUEST, record(hello())])), st.data())
def test_whatever_comes_is_read_waited_for_or_refused(
    kind: str, octets: bytes, data: st.DataObject
) -> None:
    cut = octets[: data.draw(st.integers(0, len(octets)))]
    assert isinstance(READERS[kind].data(cut), Said | Unreadable)
    reading = READERS[kind].payload(cut)
    assert isinstance(reading, Said | Unreadable) or reading is MORE


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, len(REQUEST)))
def test_a_request_that_has_not_all_come_is_waited_for(cut: int) -> None:
    assert HttpReader(0).payload(REQUEST[:cut]) is MORE
    assert CookieReader("id", 0).payload(REQUEST[:cut]) is MORE


def test_a_whole_one_has_its_head_and_its_cookie() -> None:
    said = HttpReader(0).payload(REQUEST)
    assert isinstance(said, Said)
    assert said.head is not None
    assert said.subject is said.head
    assert said.head.cookies["id"] == "7"
    assert CookieReader("id", 0).payload(REQUEST) == Said(cookie="7")
    assert CookieReader("none", 0).payload(REQUEST) == Said(cookie=None)


def test_what_is_no_request_never_becomes_one() -> None:
    for reader in (HttpReader(0), CookieReader("id", 0)):
        assert why(reader.payload(b"\x16\x03\x01 no request\r\n\r\n"))
    assert why(HttpReader(0).data(b"\x16\x03\x01 no request\r\n\r\n"))


def test_one_that_is_longer_than_it_may_be_counts_by_what_came_if_its_line_did() -> None:
    long = b"GET /" + b"a" * 300
    assert why(HttpReader(100).payload(long)) == "no whole request line"
    cut = HttpReader(60).payload(b"GET /b HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300)
    assert isinstance(cut, Said)
    assert cut.head is not None
    assert why(HttpReader(0).data(b"GET /")) == "no whole request line"


def test_a_cookie_that_a_dfs_took_out_is_the_one_that_was_asked_for() -> None:
    reader = CookieReader("id", 0)
    assert reader.data(b"id=7") == Said(cookie="7")
    assert reader.data(b"") == Said()
    for octets in (b"other=7", b"id", b"ID=7"):
        assert why(reader.data(octets)) == "the data is not the cookie that was asked for"


# --- ClientHello ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reads_all", [False, True])
def test_a_client_hello_has_its_session_id(reads_all: bool) -> None:
    reader = SslReader(0, reads_all=reads_all)
    for said in (reader.data(hello()), reader.payload(record(hello()))):
        assert isinstance(said, Said)
        assert said.session_id == SESSION
        assert (said.hello is not None) == reads_all
        assert said.subject is said.hello


def test_of_a_cut_one_what_comes_first_is_enough_unless_rules_look_at_all() -> None:
    octets = record(hello())
    assert SslReader(0, reads_all=False).payload(octets[: 5 + 39 + 32]) == Said(session_id=SESSION)
    for cut in range(5 + 39 + 31):
        assert SslReader(0, reads_all=False).payload(octets[:cut]) is MORE
    for cut in range(1, len(octets)):
        assert SslReader(0, reads_all=True).payload(octets[:cut]) is MORE


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (record(hello(), kind=23), "no TLS handshake"),
        (record(b"\x02" + hello()[1:]), "no ClientHello"),
        (
            record(hello(bytes(40), claimed=40)),
            "no ClientHello: its session id is longer than it may be",
        ),
    ],
)
def test_what_is_no_client_hello_never_becomes_one(octets: bytes, reason: str) -> None:
    assert why(SslReader(0, reads_all=False).payload(octets)) == reason
    assert why(SslReader(0, reads_all=True).payload(octets)).startswith(reason[:14].rstrip(":"))


@pytest.mark.parametrize("octets", [b"", b"\x02" + hello()[1:], hello()[:38]])
def test_data_that_is_none_is_refused(octets: bytes) -> None:
    assert why(SslReader(0, reads_all=False).data(octets)) == "no ClientHello"


def test_data_that_is_damaged_is_refused_where_all_of_it_counts() -> None:
    damaged = hello()[:71] + b"\xff\xff\xff\xff\xff\xff"
    assert isinstance(SslReader(0, reads_all=False).data(damaged), Said)
    assert why(SslReader(0, reads_all=True).data(damaged)).startswith("no ClientHello: ")


def test_a_kind_of_which_nothing_is_read_says_so() -> None:
    reader = NoReader()
    assert why(reader.data(b"a")) == why(reader.payload(b"a"))


# --- frames --------------------------------------------------------------------------------------

PAYLOAD: Final = b"what it carries"
OPTIONS: Final = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]


@pytest.mark.parametrize(
    "packet",
    [
        Ether() / IP() / TCP() / PAYLOAD,
        Ether() / IP(options=b"\x01\x01\x01\x00") / TCP(options=OPTIONS) / PAYLOAD,
        Ether() / Dot1Q(vlan=5) / IP() / TCP() / PAYLOAD,
        Ether() / IPv6() / TCP(options=OPTIONS) / PAYLOAD,
        Ether() / IP() / TCP() / PAYLOAD / b"",
    ],
)
def test_a_frame_gives_what_its_segment_carries(packet: Ether) -> None:
    octets = bytes(packet)
    assert tcp_payload(octets) == PAYLOAD
    if IP in packet and Dot1Q not in packet:
        assert tcp_payload(octets + bytes(6)) == PAYLOAD  # padded by the link
        assert tcp_payload(octets[:-1]) is None


@pytest.mark.parametrize(
    "packet",
    [
        Ether() / IP() / UDP() / PAYLOAD,
        Ether() / IPv6() / UDP() / PAYLOAD,
        Ether() / IP(flags="MF") / TCP() / PAYLOAD,
        Ether() / IP(frag=3) / TCP() / PAYLOAD,
        Ether() / IPv6() / IPv6ExtHdrFragment(offset=3, nh=6) / PAYLOAD,
        Ether(type=0x0806) / PAYLOAD,
        Ether() / IP() / TCP(dataofs=15) / PAYLOAD,
    ],
)
def test_one_without_a_whole_segment_gives_nothing(packet: Ether) -> None:
    assert tcp_payload(bytes(packet)) is None
