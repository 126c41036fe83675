# SPDX-License-Identifier: Apache-2.0
"""How long does it take to read what a client says first: a request's head, a TLS hello?

    python bench/extraction.py [--rounds 500] [--json FILE]

The time of one thread, the least of all rounds: what others do on the machine only adds to it.
h11 reads the same requests for comparison.  Hellos are those that tests/vectors/hellos.json has of
real clients.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h11

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from packets.http import Incomplete, RequestHead, read_request
from packets.tls import ClientHello, ServerHello, read_client_hello, read_server_hello

HELLOS = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "hellos.json"
LIMIT = 16384
CALLS = 50  # in a round: few, so that some rounds are not interrupted
COMMAND = (
    b"GET /api/v1/items?id=42 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\n"
    b"Accept: */*\r\n\r\n"
)
BROWSER = (
    b"GET /shop/cart/items?id=42&sort=price HTTP/1.1\r\nHost: www.example.com\r\n"
    b"Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n"
    b'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\n'
    b'sec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)'
    b" AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
    b"\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n"
    b"Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: SID=node7; theme=dark; _ga=GA1.2.1234567890.1234567890\r\n\r\n"
)
SEGMENT = 1448


def head_of(octets: bytes) -> RequestHead:
    """The request, which is a right one."""
    head = read_request(octets, LIMIT)
    assert isinstance(head, RequestHead)
    return head


def by_rules(octets: bytes) -> None:
    """What a rule and persistence by cookie ask for."""
    head = head_of(octets)
    assert head.path
    assert head.header("x-beta") is None
    assert head.cookies["SID"] == "node7"


def in_segments(octets: bytes) -> None:
    """The head in three segments, each read as it comes."""
    cut = None
    for end in (len(octets) // 3, len(octets) * 2 // 3):
        read = read_request(octets[:end], LIMIT, cut)
        assert isinstance(read, Incomplete)
        cut = read
    assert isinstance(read_request(octets, LIMIT, cut), RequestHead)


def by_h11(octets: bytes) -> None:
    """The same with h11."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(octets)
    assert isinstance(server.next_event(), h11.Request)


def client_hello(octets: bytes) -> None:
    """A hello that came whole."""
    assert isinstance(read_client_hello(octets, LIMIT), ClientHello)


def hello_in_segments(octets: bytes) -> None:
    """A hello that is longer than a segment."""
    cut = read_client_hello(octets[:SEGMENT], LIMIT)
    assert not isinstance(cut, ClientHello)
    assert isinstance(read_client_hello(octets, LIMIT, cut), ClientHello)  # type: ignore[arg-type]


def server_hello(octets: bytes) -> None:
    """The first segment of a server."""
    assert isinstance(read_server_hello(octets, LIMIT), ServerHello)


def measure(call: Callable[[bytes], object], octets: bytes, rounds: int) -> float:
    """Time of a call, in microseconds."""
    least = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(CALLS):
            call(octets)
        least = min(least, time.perf_counter() - begin)
    return least / CALLS * 1e6


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    hellos = json.loads(HELLOS.read_text())["hellos"]
    chromium, openssl = (
        bytes.fromhex(hellos[name]["client"]) for name in ("chromium", "openssl, TLS 1.2, resumes")
    )
    server = bytes.fromhex(hellos["openssl, TLS 1.2"]["server"])
    cases: dict[str, tuple[Callable[[bytes], object], bytes]] = {
        "request, 3 headers": (head_of, COMMAND),
        "request, 15 headers": (head_of, BROWSER),
        "the same, path, a header and cookies asked for": (by_rules, BROWSER),
        "the same in three segments": (in_segments, BROWSER),
        "3 headers, h11": (by_h11, COMMAND),
        "15 headers, h11": (by_h11, BROWSER),
        "ClientHello, OpenSSL, TLS 1.2": (client_hello, openssl),
        "ClientHello, Chromium": (client_hello, chromium),
        "the same in two segments": (hello_in_segments, chromium),
        "ServerHello, OpenSSL, TLS 1.2": (server_hello, server),
    }
    results = []
    print(f"{'what':48} {'octets':>6} {'us':>7} {'per second':>11}")
    for name, (call, octets) in cases.items():
        took = measure(call, octets, options.rounds)
        results.append({"what": name, "octets": len(octets), "us": took})
        print(f"{name:48} {len(octets):>6} {took:>7.1f} {1e6 / took:>11,.0f}", flush=True)
    if options.json:
        machine = {"kernel": platform.release(), "python": platform.python_version()}
        text = json.dumps({"machine": machine, "results": results}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
