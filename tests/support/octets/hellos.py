# SPDX-License-Identifier: Apache-2.0
"""TLS hellos: those that real clients and a server sent, and such as tests make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GREASE: Final = 0x5A5A
SSL2_CHALLENGE: Final = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Sample:
    """What a client and Python's server said first, and what that server took from it."""

    client: bytes
    server: bytes  # cut
    server_name: str
    session_id: bytes  # that the server gave the session, whatever its version
    version: str


def samples() -> dict[str, Sample]:
    """Those that tests/vectors/capture_hellos.py has written, by client."""
    path = Path(__file__).parents[2] / "vectors" / "hellos.json"
    return {
        name: Sample(
            bytes.fromhex(found["client"]),
            bytes.fromhex(found["server"]),
            found["server_name"],
            bytes.fromhex(found["session_id"]),
            found["version"],
        )
        for name, found in json.loads(path.read_text())["hellos"].items()
    }


def vector(size: int, octets: bytes) -> bytes:
    """Octets behind their count."""
    return len(octets).to_bytes(size, "big") + octets


def extension(kind: int, data: bytes) -> bytes:
    """One extension of a hello."""
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    """The extension with these names, of one type."""
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def alpn(*names: bytes) -> bytes:
    """The extension with these protocols."""
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


def versions(*numbers: int) -> bytes:
    """The extension with these versions."""
    return extension(43, vector(1, b"".join(number.to_bytes(2, "big") for number in numbers)))


def client_body(
    *extensions: bytes, session_id: bytes = b"", version: int = 0x0303, ciphers: bytes = b"\x13\x01"
) -> bytes:
    """The fields of a ClientHello; without extensions it has none of their octets either."""
    fields = version.to_bytes(2, "big") + bytes(32) + vector(1, session_id)
    fields += vector(2, ciphers) + vector(1, b"\0")
    return fields + (vector(2, b"".join(extensions)) if extensions else b"")


def message(body: bytes, kind: int = 1) -> bytes:
    """A handshake message."""
    return bytes((kind,)) + vector(3, body)


def records(octets: bytes, *lengths: int) -> bytes:
    """Handshake octets in records: as long as *lengths* say, then one with what is left."""
    made, at = b"", 0
    for length in (*lengths, len(octets)):
        part = octets[at : at + length]
        at += length
        if part:
            made += b"\x16\x03\x01" + vector(2, part)
    return made


def client_hello(*extensions: bytes, session_id: bytes = b"", version: int = 0x0303) -> bytes:
    """A ClientHello in one record."""
    return records(message(client_body(*extensions, session_id=session_id, version=version)))


def server_hello(*extensions: bytes, session_id: bytes = b"", version: int = 0x0303) -> bytes:
    """A ServerHello in one record."""
    fields = version.to_bytes(2, "big") + bytes(32) + vector(1, session_id) + b"\x13\x01\0"
    fields += vector(2, b"".join(extensions)) if extensions else b""
    return records(message(fields, 2))


def ssl2_hello(
    session_id: bytes = b"",
    *,
    version: int = 0x0301,
    ciphers: bytes = b"\0\0\x2f\1\0\x80",
    challenge: bytes = SSL2_CHALLENGE,
) -> bytes:
    """A hello of SSL 2.0 (RFC 5246 E.2)."""
    lengths = b"".join(len(each).to_bytes(2, "big") for each in (ciphers, session_id, challenge))
    fields = b"\1" + version.to_bytes(2, "big") + lengths + ciphers + session_id + challenge
    return (0x8000 | len(fields)).to_bytes(2, "big") + fields
