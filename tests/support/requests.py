# SPDX-License-Identifier: Apache-2.0
"""Requests and the frames that carry them, as clients of content-aware virtual servers send."""

from __future__ import annotations

import struct
from typing import Final

from packets.http import RequestHead, read_request
from ssmb.addresses import IPV4_PREFIX
from ssmb.constants import TCP

MACS: Final = bytes.fromhex("02000000000a02000000000b")


def request(
    path: str = "/", host: str = "www.example.com", method: str = "GET", **headers: str
) -> bytes:
    """The octets of a request; of headers, `x_beta` is x-beta."""
    lines = [f"{method} {path} HTTP/1.1"]
    if host:
        lines.append(f"Host: {host}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def head(
    path: str = "/", host: str = "www.example.com", method: str = "GET", **headers: str
) -> RequestHead:
    """The same, read."""
    octets = request(path, host, method, **headers)
    read = read_request(octets, len(octets))
    assert isinstance(read, RequestHead), read
    return read


def frame(payload: bytes, source: bytes, destination: bytes, ports: tuple[int, int]) -> bytes:
    """An Ethernet frame with a TCP segment (without checksums, which the data path has seen)."""
    tcp = struct.pack("!HHIIBBHHH", *ports, 1001, 5000, 5 << 4, 0x18, 502, 0, 0) + payload
    if source.startswith(IPV4_PREFIX):
        addresses = source[12:] + destination[12:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 63, TCP, 0) + addresses
        return MACS + b"\x08\x00" + ip + tcp
    ip = struct.pack("!IHBB", 6 << 28, len(tcp), TCP, 63) + source + destination
    return MACS + b"\x86\xdd" + ip + tcp


def client_hello(session_id: bytes = b"", extensions: bytes = bytes(200)) -> bytes:
    """A ClientHello message, without a record's header."""
    body = b"\x03\x03" + bytes(range(32)) + bytes([len(session_id)]) + session_id
    body += b"\x00\x02\x13\x01\x01\x00" + len(extensions).to_bytes(2, "big") + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(message: bytes) -> bytes:
    """A TLS record with a handshake message."""
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
