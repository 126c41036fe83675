# SPDX-License-Identifier: Apache-2.0
"""Heads of requests: any octets, any segments, in linear time, and as h11 reads them."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packets.http import Incomplete, RequestHead, read_request
from support.octets.extraction_checks import (
    CHOICE_SIZE,
    LIMIT_MAX,
    Counted,
    check_against_h11,
    check_http,
)
from support.octets.request_strategies import damaged, requests

Request = tuple[bytes, tuple[str, str, str, list[tuple[str, str]]]]
choices = st.binary(min_size=CHOICE_SIZE, max_size=CHOICE_SIZE)


@given(request=requests(), body=st.binary(max_size=9))
def test_what_is_right_is_read(request: Request, body: bytes) -> None:
    octets, (method, target, version, headers) = request
    head = read_request(octets + body, LIMIT_MAX)
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.version) == (method, target, version)
    assert list(head.headers) == headers
    assert head.head_length == len(octets)
    for name, _ in headers:
        assert head.header(name) == ("; " if name == "cookie" else ", ").join(
            value for other, value in headers if other == name
        )


@given(request=requests())
def test_h11_reads_the_same(request: Request) -> None:
    """And it accepts what is right, so that the comparison is one."""
    octets, _ = request
    head = read_request(octets, LIMIT_MAX)
    assert isinstance(head, RequestHead)
    server = h11.Connection(h11.SERVER)
    server.receive_data(octets)
    assert isinstance(server.next_event(), h11.Request)
    check_against_h11(head, octets)


@given(choice=choices, octets=damaged())
def test_damaged_requests(choice: bytes, octets: bytes) -> None:
    check_http(choice + octets)
    check_http(b"\x3f\xff" + choice[2:] + octets)  # without a limit that cuts


@given(octets=damaged() | requests().map(lambda request: request[0]))
def test_a_usual_request_line_is_read_as_any_other(octets: bytes) -> None:
    at_once = read_request(octets, LIMIT_MAX)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("packets.http._USUAL_LINE", re.compile("(?!)"))
        assert read_request(octets, LIMIT_MAX) == at_once


@given(data=st.binary(max_size=200))
def test_any_octets(data: bytes) -> None:
    check_http(data)


@given(request=requests())
def test_every_split(request: Request) -> None:
    octets, _ = request
    whole = read_request(octets, LIMIT_MAX)
    for end in range(len(octets)):
        cut = read_request(octets[:end], LIMIT_MAX)
        assert isinstance(cut, Incomplete)
        assert not cut.truncated
        assert read_request(octets, LIMIT_MAX, cut) == whole


HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("before", "repeated"),
    [
        (b"GET /", b"a"),  # a target without an end
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: ", b"a"),
        (b"GET / HTTP/1.1\r\n" + HOST, b"X: a\r\n"),
        (b"GET / HTTP/1.1\r\n" + HOST, b"\r"),
        (b"GET / HTTP/1.1\r\n", b"\n"),
    ],
    ids=["target", "value", "headers", "CR", "LF"],
)
def test_the_work_is_linear(before: bytes, repeated: bytes) -> None:
    """However little comes at a time: every octet is looked at a few times at most."""
    octets = (before + repeated * 4000)[:4000]
    Counted.looked_at = 0
    result: Incomplete | None = None
    for end in range(len(octets) + 1):
        cut = read_request(Counted(octets[:end]), LIMIT_MAX, result)
        assert isinstance(cut, Incomplete)
        result = cut
    assert len(octets) / 2 < Counted.looked_at < 8 * len(octets)


def test_the_work_without_what_was_returned_is_not() -> None:
    """The count counts: who does not give back what the last call returned pays for it."""
    octets = b"GET / HTTP/1.1\r\nX: " + b"a" * 1000
    Counted.looked_at = 0
    for end in range(len(octets) + 1):
        read_request(Counted(octets[:end]), LIMIT_MAX)
    assert Counted.looked_at > 100 * len(octets)
