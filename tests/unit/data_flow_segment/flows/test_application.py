# SPDX-License-Identifier: Apache-2.0
"""What of a client's first octets an APP_QUERY has (15.2)."""

from __future__ import annotations

import pytest

from csmb.constants import Flag
from data_flow_segment.flows.application import APP_LIMIT, APP_LIMIT_MAX, Reader, limit_of
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import VirtualServerKey
from splicing.instructions import Verdict
from ssmb.constants import APP_DATA_MAX, AppType

REQUEST = b"GET /a HTTP/1.1\r\nHost: a.example\r\nCookie: a=1; SID=abc; b=2\r\n\r\n"
BODY = b"SID=in-the-body\r\n\r\n"


def http(limit: int = APP_LIMIT, names: bytes = b"") -> Reader:
    return Reader(AppType.HTTP_REQUEST, names, limit)


def cookie(name: bytes = b"SID") -> Reader:
    return Reader(AppType.COOKIE, name, APP_LIMIT)


def client_hello(session_id: bytes = b"s" * 32, padding: int = 0) -> bytes:
    """A handshake message, without a record."""
    body = b"\x03\x03" + bytes(32) + bytes([len(session_id)]) + session_id
    body += b"\x00\x02\x13\x01" + b"\x01\x00"
    extension = b"\x00\x15" + padding.to_bytes(2, "big") + bytes(padding) if padding else b""
    body += len(extension).to_bytes(2, "big") + extension
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message: bytes, size: int) -> bytes:
    found = b""
    for at in range(0, len(message), size):
        piece = message[at : at + size]
        found += b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
    return found


def look_by_pieces(reader: Reader, octets: bytes, size: int) -> list[Verdict]:
    return [reader.look(octets[:end]) for end in range(size, len(octets) + size, size)]


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_a_request_ends_with_its_empty_line_and_its_body_is_left_out(size: int) -> None:
    reader = http()
    verdicts = look_by_pieces(reader, REQUEST, size)
    assert set(verdicts[:-1]) <= {Verdict.MORE}
    assert verdicts[-1] is Verdict.COMPLETE
    assert reader.read(REQUEST + BODY, truncated=False) == (REQUEST, False)


def test_a_request_that_is_cut_off_is_told_as_far_as_it_came() -> None:
    reader = http()
    assert reader.read(REQUEST[:-9], truncated=True) == (REQUEST[:-9], True)


def test_what_can_never_be_a_request_is_refused() -> None:
    assert http().look(b"\x16\x03\x01\x02\x00\x01") is Verdict.REFUSED
    assert http().look(b"SSH-2.0-OpenSSH_9.6\r\n") is Verdict.REFUSED


def test_of_a_long_request_the_first_and_the_named_lines_come_first() -> None:
    lines = [b"X-%03d: %s" % (number, b"x" * 90) for number in range(40)]
    head = b"\r\n".join([b"GET /long HTTP/1.1", *lines, b"X-Pool: blue", b"HOST: h", b"", b""])
    reader = http(names=b"x-pool, x-other")
    assert reader.look(head) is Verdict.COMPLETE
    app_data, truncated = reader.read(head, truncated=False)
    assert truncated
    assert len(app_data) <= APP_DATA_MAX
    assert app_data.startswith(b"GET /long HTTP/1.1\r\nX-Pool: blue\r\nHOST: h\r\nX-000: ")
    assert app_data.endswith(b"\r\n\r\n")
    assert app_data.count(b"\r\n\r\n") == 1


def test_a_request_line_that_does_not_fit_is_cut() -> None:
    head = b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    app_data, truncated = http().read(head, truncated=False)
    assert (app_data, truncated) == (head[:APP_DATA_MAX], True)


def test_the_limit_counts() -> None:
    reader = http(limit=20)
    assert reader.look(REQUEST[:19]) is Verdict.MORE
    assert reader.read(REQUEST, truncated=True) == (REQUEST[:20], True)


def test_a_cookie_is_sent_with_its_name_and_nothing_else() -> None:
    reader = cookie()
    assert reader.look(REQUEST[:-1]) is Verdict.MORE
    assert reader.look(REQUEST) is Verdict.COMPLETE
    assert reader.read(REQUEST + BODY, truncated=False) == (b"SID=abc", False)
    assert cookie(b"sid").read(REQUEST, truncated=False) == (b"", False)
    assert cookie(b"x").read(REQUEST[:-2], truncated=True) == (b"", True)


def test_a_cookie_in_a_head_that_is_cut_off_is_found_all_the_same() -> None:
    assert cookie().read(REQUEST[:-2], truncated=True) == (b"SID=abc", True)


def test_a_long_cookie_is_cut() -> None:
    head = b"GET / HTTP/1.1\r\nCookie: SID=" + b"v" * 3000 + b"\r\n\r\n"
    app_data, truncated = cookie().read(head, truncated=False)
    assert (len(app_data), truncated) == (APP_DATA_MAX, True)


@pytest.mark.parametrize("size", [5, 40, 16384])
def test_a_client_hello_is_sent_without_its_records(size: int) -> None:
    message = client_hello()
    octets = records(message, size) + b"\x14\x03\x01\x00\x01\x01"
    reader = Reader(AppType.SSL_SESSION_ID, b"", APP_LIMIT)
    assert reader.look(octets[:30]) is Verdict.MORE
    assert reader.look(octets) is Verdict.COMPLETE
    assert reader.read(octets, truncated=False) == (message, False)


def test_a_long_client_hello_goes_without_long_extensions_and_keeps_its_session_id() -> None:
    message = client_hello(padding=3000)
    octets = records(message, 16384)
    reader = Reader(AppType.SSL_SESSION_ID, b"", APP_LIMIT)
    assert reader.look(octets) is Verdict.COMPLETE
    app_data, truncated = reader.read(octets, truncated=False)
    assert truncated
    end = 4 + 2 + 32 + 1 + message[38]
    assert app_data[4:end] == message[4:end]
    assert len(app_data) == 4 + int.from_bytes(app_data[1:4], "big") < APP_DATA_MAX


def test_what_has_no_lengths_that_fit_is_cut() -> None:
    message = client_hello(padding=3000)
    damaged = message[:-2000] + b"\xff" * 2000
    reader = Reader(AppType.SSL_SESSION_ID, b"", APP_LIMIT)
    app_data, truncated = reader.read(records(damaged, 16384), truncated=False)
    assert truncated
    assert app_data[4:70] == message[4:70]
    assert len(app_data) <= APP_DATA_MAX


def test_what_is_no_client_hello_is_refused() -> None:
    assert Reader(AppType.SSL_SESSION_ID, b"", APP_LIMIT).look(REQUEST) is Verdict.REFUSED


def test_limits_follow_from_the_virtual_server_and_are_bounded() -> None:
    key = VirtualServerKey(bytes(16), 80, 6)

    def server(flag: Flag, app_limit: int) -> VirtualServer:
        return VirtualServer(key, 1, int(flag), bytes(16), 0, 0, app_limit)

    assert limit_of(server(Flag.HTTP_PROXY, 0), 9000) == APP_LIMIT
    assert limit_of(server(Flag.RAW_PROXY, 0), 9000) == 9000
    assert limit_of(server(Flag.RAW_PROXY, 500), 9000) == 500
    assert limit_of(server(Flag.SSL_PROXY, 1 << 31), 9000) == APP_LIMIT_MAX
