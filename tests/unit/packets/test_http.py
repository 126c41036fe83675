# SPDX-License-Identifier: Apache-2.0
"""The head of an HTTP/1.x request: what is read of it, and what is refused."""

from __future__ import annotations

import pytest

from packets.http import Incomplete, RequestHead, read_request
from packets.refused import Refusal, Refused

LIMIT = 16384
HOST = b"Host: www.example.com\r\n"
BROWSER = (
    b"GET /shop/cart;jsessionid=A1?id=42&sort=price HTTP/1.1\r\n"
    b"Host: WWW.Example.com:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    b"Cookie: SID=node7; theme=dark; SID=second\r\n"
    b"\r\n"
)


def read(octets: bytes) -> RequestHead:
    head = read_request(octets, LIMIT)
    assert isinstance(head, RequestHead)
    return head


def refusal(octets: bytes) -> Refusal:
    refused = read_request(octets, LIMIT)
    assert isinstance(refused, Refused)
    return refused.reason


def with_target(target: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n\r\n"


def with_header(line: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"


def test_a_request_of_a_browser() -> None:
    head = read(BROWSER)
    assert (head.method, head.version, head.head_length) == ("GET", "1.1", len(BROWSER))
    assert head.target == "/shop/cart;jsessionid=A1?id=42&sort=price"
    assert (head.host, head.path) == ("www.example.com", "/shop/cart;jsessionid=A1")
    assert (head.raw_path, head.query) == (head.path, "id=42&sort=price")
    assert head.path_parameters == {"jsessionid": "A1"}
    assert head.query_parameters == {"id": "42", "sort": "price"}
    assert head.cookies == {"SID": "node7", "theme": "dark"}
    assert [name for name, _ in head.headers] == ["host", "user-agent", "accept", "cookie"]
    assert head.header("host") == "WWW.Example.com:8080"
    assert head.header("x-absent") is None


def test_what_follows_the_head_is_left_alone() -> None:
    body = b"POST /next HTTP/1.1\r\n\r\n"
    octets = b"POST / HTTP/1.1\r\nContent-Length: 23\r\n\r\n"
    assert read(octets + body) == read(octets)
    assert read(octets + body).head_length == len(octets)


def test_what_rules_ask_for_is_made_once() -> None:
    head = read(BROWSER)
    assert head.path is head.path
    assert head.cookies is head.cookies
    assert head.query_parameters is head.query_parameters


def test_an_empty_line_may_precede() -> None:
    """RFC 9112 2.2; it counts as part of the head, for whoever counts octets."""
    head = read(b"\r\n" + BROWSER)
    assert head.head_length == len(BROWSER) + 2
    assert refusal(b"\r\n\r\n" + BROWSER) is Refusal.NOT_HTTP


def test_several_headers_of_a_name_are_one() -> None:
    octets = with_header(b"X-A: 1\r\nCookie: a=1\r\nx-a:2\r\nX-A:\r\nCookie: b=2; a=3")
    assert read(octets).header("x-a") == "1, 2, "
    assert read(octets).cookies == {"a": "1", "b": "2"}


def test_a_header_is_not_found_in_another_one() -> None:
    octets = with_header(b"X-Host: 1\r\nHost-X: 2\r\nA: host: b\r\nB:\thost:c\t \r\nHOSTS: 3")
    assert read(octets).header("host") == "www.example.com"
    assert read(octets).header("b") == "host:c"


def test_hosts_of_any_length_are_read() -> None:
    for length in (1, 253, 261, 262, 8000):
        host = "h" * length
        for _ in range(2):
            assert read(f"GET / HTTP/1.1\r\nHost: {host.upper()}.:80\r\n\r\n".encode()).host == host


@pytest.mark.parametrize(
    ("line", "cookies"),
    [
        (b'a="1"; b=x=y', {"a": '"1"', "b": "x=y"}),
        (b";; a = 1 ;c;=d; b=", {"a": "1", "b": ""}),
        (b"A=1; a=2", {"A": "1", "a": "2"}),
        (b"a=\xc3\xbc, {1}", {"a": "\xc3\xbc, {1}"}),
        (b"", {}),
    ],
)
def test_cookies_as_browsers_send_them(line: bytes, cookies: dict[str, str]) -> None:
    assert read(with_header(b"Cookie: " + line)).cookies == cookies


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"/", "/", "", ""),
        (b"/?", "/", "", ""),
        (b"/a?b?c/../d", "/a", "b?c/../d", ""),
        (b"//a/b", "//a/b", "", ""),
        (b"http://A.example:80/x?y", "/x", "y", "a.example"),
        (b"https://a.example.?y", "/", "y", "a.example"),
        (b"http://[2001:DB8::1]:8080", "/", "", "[2001:db8::1]"),
        (b"/%", None, None, None),
        (b"/a%2?b", None, None, None),
        (b"/a?100%", "/a", "100%", ""),
    ],
)
def test_targets(target: bytes, path: str | None, query: str | None, host: str | None) -> None:
    if path is None:
        assert refusal(with_target(target)) is Refusal.TARGET
    else:
        head = read(with_target(target))
        assert (head.path, head.query, head.host) == (path, query, host)
        assert head.target == target.decode()


def test_targets_of_other_methods() -> None:
    assert read(with_target(b"*", b"OPTIONS")).path == "*"
    connect = read(with_target(b"a.example:443", b"CONNECT"))
    assert (connect.host, connect.path, connect.query) == ("a.example", "", "")
    assert refusal(with_target(b"*")) is Refusal.TARGET
    assert refusal(with_target(b"/", b"CONNECT")) is Refusal.HOST


@pytest.mark.parametrize(
    "method", [b"PROPFIND", b"BASELINE-CONTROL", b"BAN", b"get", b"SOURCE", b"M" * 32]
)
def test_a_method_may_be_any_token(method: bytes) -> None:
    head = read(with_target(b"/x", method))
    assert (head.method, head.path) == (method.decode(), "/x")
    assert head.head_length == len(with_target(b"/x", method))


@pytest.mark.parametrize(
    "target",
    [
        b"x",
        b"*x",
        b"/a#b",
        b"/\xc3\xbc",
        b"/a\x7f",
        b"/a\tb",
        b"/a\0",
        b"mailto:a@b",
        b"/\rx",
        b"?a",
    ],
)
def test_targets_that_are_refused(target: bytes) -> None:
    assert refusal(with_target(target)) is Refusal.TARGET


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\r\n folded",
        b"X:\r\n\tfolded",
        b"X : 1",
        b"X 1: 1",
        b" X: 1",
        b": 1",
        b"X",
        b"X: a\0b",
        b"X: a\x01b",
        b"X: a\rb",
        b"X: a\nY: b",
        b"X\xe4: 1",
        b"X(: 1",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1, 1",
        b"Content-Length: +1",
        b"Content-Length: 99999999999999999999999",
        b"Transfer-Encoding: chunked, gzip",
    ],
)
def test_headers_that_are_refused(line: bytes) -> None:
    assert refusal(with_header(line)) is Refusal.HEADER


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 2001:db8::1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET http://u:p@a/ HTTP/1.1\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
    ],
)
def test_hosts_that_are_refused(octets: bytes) -> None:
    assert refusal(octets) is Refusal.HOST


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"GET /\r\n", Refusal.NOT_HTTP),  # HTTP/0.9
        (b"GET / HTTP/1.1\n", Refusal.NOT_HTTP),
        (b"GET  / HTTP/1.1\r\n", Refusal.NOT_HTTP),
        (b"GET / HTTP/1.1 \r\n", Refusal.NOT_HTTP),
        (b"GET\t/\tHTTP/1.1\r\n", Refusal.NOT_HTTP),
        (b" GET / HTTP/1.1\r\n", Refusal.NOT_HTTP),
        (b"\nGET", Refusal.NOT_HTTP),
        (b"G\0", Refusal.NOT_HTTP),
        (b"\x16\x03\x01", Refusal.NOT_HTTP),  # TLS
        (b"SSH-2.0-OpenSSH_9.2\r\n", Refusal.NOT_HTTP),
        (b"M" * 33, Refusal.NOT_HTTP),
        (b"M" * 33 + b" / HTTP/1.1\r\n", Refusal.NOT_HTTP),
        (b"GET / HTTP/2.0\r\n", Refusal.VERSION),
        (b"GET / HTTP/1.2\r\n", Refusal.VERSION),
        (b"GET / HTTP/0.9\r\n", Refusal.VERSION),
        (b"GET / http/1.1\r\n", Refusal.VERSION),
        (b"GET / RTSP/1.0\r\n", Refusal.VERSION),
        (b"PRI * HTTP/2.0\r\n", Refusal.HTTP2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal.HTTP2),
    ],
)
def test_what_is_refused_before_the_head_is_complete(octets: bytes, reason: Refusal) -> None:
    assert refusal(octets) is reason


def test_a_head_without_headers_in_two_segments() -> None:
    """The blank line begins where the request line ends, which came with the segment before."""
    octets = b"GET / HTTP/1.0\r\n\r\n\r\n"
    for end in range(len(octets) - 2):
        cut = read_request(octets[:end], LIMIT)
        assert isinstance(cut, Incomplete)
        assert read_request(octets, LIMIT, cut) == read(octets)
    assert read(octets).head_length == len(octets) - 2


def test_the_limit_cuts() -> None:
    head_ends = len(BROWSER)
    assert isinstance(read_request(BROWSER, head_ends), RequestHead)
    cut = read_request(BROWSER, head_ends - 1)
    assert isinstance(cut, Incomplete)
    assert cut.truncated
    assert cut.head is not None
    assert cut.head.cookies == {"SID": "node7", "theme": "dark"}
    assert cut.head.head_length == head_ends - 2
    cut = read_request(BROWSER, BROWSER.index(b"Cookie") + 9)
    assert isinstance(cut, Incomplete)
    assert cut.head is not None
    assert (cut.head.host, cut.head.cookies) == ("www.example.com", {})
    assert cut.head.head_length == BROWSER.index(b"Cookie")


def test_the_limit_cuts_a_request_line() -> None:
    assert read_request(BROWSER, 20) == Incomplete(True, None, 20)
    assert read_request(BROWSER, 0) == Incomplete(True)
    cut = read_request(BROWSER, BROWSER.index(b"\r\n") + 2)
    assert isinstance(cut, Incomplete)
    assert cut.head is not None
    assert cut.head.fields == ()


def test_what_costs_more_than_its_octets_is_bounded() -> None:
    lines = HOST + b"X:\r\n" * 127
    assert len(read(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").fields) == 128
    assert refusal(b"GET / HTTP/1.1\r\n" + lines + b"X:\r\n\r\n") is Refusal.HEADER
    assert len(read(with_target(b"/" + b"a" * 8191)).path) == 8192
    assert refusal(with_target(b"/" + b"a" * 8192)) is Refusal.TARGET
    cookies = b";".join(b"a%d=" % number for number in range(600))
    assert len(read(with_header(b"Cookie: " + cookies)).cookies) == 512


def test_octets_may_be_changeable() -> None:
    """As whoever collects them keeps them; nothing of the result changes with them."""
    octets = bytearray(BROWSER)
    head = read_request(octets, LIMIT)
    octets[:] = bytes(len(octets))
    assert head == read(BROWSER)


def test_what_is_wrong_before_the_limit_is_refused() -> None:
    octets = with_header(b"X: a\r\n folded\r\nY: " + b"y" * 1000)
    refused = read_request(octets, 500)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.HEADER
