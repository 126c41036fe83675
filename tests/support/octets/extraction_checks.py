# SPDX-License-Identifier: Apache-2.0
"""What must hold for any octets that a client or a server begins with: the fuzz targets' checks.

An input is three octets that choose, then what came from the network.  The first two are the limit,
modulo 16384; the third says how long the segments are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import h11
import httptools

from packets import http, tls
from packets.http import RequestHead, read_request
from packets.refused import Refused
from packets.tls import ClientHello, ServerHello, read_client_hello, read_server_hello

CHOICE_SIZE: Final = 3
LIMIT_MAX: Final = 16384
INCOMPLETE: Final = (http.Incomplete, tls.Incomplete)
Reader: TypeAlias = Callable[[bytes, int, Any], Any]  # any of the three


class Counted(bytes):
    """Octets that count how many of them were looked at."""

    looked_at = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(sub, start, end)
        Counted.looked_at += (
            (len(self) if end is None else end) - start if found < 0 else found - start
        )
        return found

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        Counted.looked_at += len(part) if isinstance(part, bytes) else 1
        return part


def check_http(data: bytes) -> None:
    """Read at once and by segments, and compare with h11 what both accept."""
    if len(data) < CHOICE_SIZE:
        return
    limit, size, octets = _choose(data)
    result = read_request(octets, limit)
    check_segments(read_request, octets, limit, size)
    head = result.head if isinstance(result, http.Incomplete) else result
    if isinstance(head, RequestHead):
        check_head(head)
    if isinstance(result, RequestHead):
        assert result.head_length <= min(len(octets), limit)
        check_against_h11(result, octets[: result.head_length])


def check_tls(data: bytes) -> None:
    """Read as what a client and as what a server says, at once and by segments."""
    if len(data) < CHOICE_SIZE:
        return
    limit, size, octets = _choose(data)
    for read in (read_client_hello, read_server_hello):
        check_segments(read, octets, limit, size)
    result = read_client_hello(octets, limit)
    hello = result.hello if isinstance(result, tls.Incomplete) else result
    if isinstance(hello, ClientHello):
        assert hello.length <= min(len(octets), limit)
        assert len(hello.session_id) <= 32
        assert hello.server_name.isascii()
        assert hello.server_name == hello.server_name.lower()
        assert 0 <= hello.highest_version <= 0xFFFF
    answer = read_server_hello(octets, limit)
    if isinstance(answer, ServerHello):
        assert len(answer.session_id) <= 32


def check_segments(read: Reader, octets: bytes, limit: int, size: int) -> None:
    """By segments, the result is what it is at once, and nothing before it is one."""
    at_once = read(octets, limit, None)
    result = None
    for end in (*range(0, len(octets), size), len(octets)):
        result = read(octets[:end], limit, result)
        if not isinstance(result, INCOMPLETE):
            break
        assert result.truncated == (end >= limit)
    if isinstance(result, tls.Incomplete) and min(len(octets), limit) < result.needed:
        assert not isinstance(at_once, (ClientHello, ServerHello))
    elif isinstance(at_once, Refused):
        assert isinstance(result, Refused)
        assert result.reason is at_once.reason
    elif isinstance(at_once, http.Incomplete):
        assert isinstance(result, http.Incomplete)
        assert (result.truncated, result.head) == (at_once.truncated, at_once.head)
    elif isinstance(at_once, tls.Incomplete):
        assert isinstance(result, tls.Incomplete)
        assert (result.truncated, result.hello) == (at_once.truncated, at_once.hello)
    else:
        assert result == at_once


def check_head(head: RequestHead) -> None:
    """Every property can be had, and what was read is read again the same."""
    assert head.path.isascii()
    assert head.host == head.host.lower()
    assert all(0x21 <= octet <= 0x7E for octet in head.target.encode("latin-1"))
    assert all(isinstance(each, dict) for each in (head.path_parameters, head.query_parameters))
    lines = [f"{head.method} {head.target} HTTP/{head.version}"]
    lines += [f"{name}: {value}" for name, value in head.headers]
    again = read_request("\r\n".join([*lines, "", ""]).encode("latin-1"), 2 * LIMIT_MAX)
    assert isinstance(again, RequestHead)
    assert (again.fields, again.host, again.path) == (head.fields, head.host, head.path)
    assert (again.query, again.cookies) == (head.query, head.cookies)
    check_against_llhttp(head)


class _Told(list[tuple[bytes, bytes]]):
    """The header lines that llhttp finds; it leaves blanks behind some values."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value.strip(b" \t")))


def check_against_llhttp(head: RequestHead) -> None:
    """The header lines are those that llhttp finds, which has said that they are right."""
    told = _Told()
    method = "CONNECT" if head.method == "CONNECT" else "GET"
    line = f"{method} {head.target} HTTP/{head.version}".encode("latin-1")
    with contextlib.suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(told).feed_data(line + head.lines + b"\r\n")
    assert list(head.fields) == told
    for name in {name for name, _ in told} | {b"host", b"a"}:
        values = [value for other, value in told if other == name]
        joined = (b"; " if name == b"cookie" else b", ").join(values).decode("latin-1")
        assert head.header(name.decode()) == (joined if values else None)


def check_against_h11(head: RequestHead, octets: bytes) -> None:
    """What h11 accepts, too, it reads the same."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * LIMIT_MAX)
    with contextlib.suppress(h11.RemoteProtocolError):
        server.receive_data(octets)
        request = server.next_event()
        assert isinstance(request, h11.Request), "h11 wants more"
        assert request.method.decode() == head.method
        assert request.target.decode() == head.target
        assert request.http_version.decode() == head.version
        assert list(request.headers) == list(head.fields)


def _choose(data: bytes) -> tuple[int, int, bytes]:
    limit = int.from_bytes(data[:2], "big") % LIMIT_MAX + 1
    octets = data[CHOICE_SIZE:]
    # no more than a few dozen segments: the checks copy what has come so far for each
    return limit, max(1 + data[2], len(octets) // 64), octets
