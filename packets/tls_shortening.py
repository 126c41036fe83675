# SPDX-License-Identifier: Apache-2.0
"""A ClientHello that is too long for a message, without what nodes are not chosen by.

Key shares that quantum computers cannot break have 1,216 octets and more, and browsers shuffle
their extensions: cut anywhere, a hello may have lost its server name.
"""

from __future__ import annotations

from typing import Final

from packets.tls_extensions import ALPN, SERVER_NAME, SUPPORTED_VERSIONS
from packets.tls_messages import Cursor, EndOfField

_HEADER: Final = 4  # octets: type, length
_RANDOM: Final = 32
_FIRST: Final = (SERVER_NAME, ALPN, SUPPORTED_VERSIONS)


def shortened(message: bytes, limit: int) -> bytes:
    """Return a ClientHello message (RFC 8446 4.1.2, no record headers) of at most *limit* octets:
    server_name, ALPN and supported_versions first, and of the other extensions those that fit, in
    their order; all lengths are right.  What is no whole ClientHello is cut.  Raises nothing."""
    if len(message) <= limit:
        return message
    cursor = Cursor(message[_HEADER:])
    try:
        cursor.take(2 + _RANDOM)
        cursor.vector(1)  # session id
        cursor.vector(2)  # cipher suites
        cursor.vector(1)  # compression methods
        head = message[_HEADER : len(message) - cursor.left]
        extensions = Cursor(cursor.vector(2))
        found: list[tuple[int, bytes]] = []
        while extensions:
            kind = extensions.number(2)
            data = extensions.vector(2)
            found.append((kind, data))
    except EndOfField:
        return message[:limit]
    room = limit - _HEADER - len(head) - 2
    if room < 0:
        return message[:limit]
    wanted = [each for each in found if each[0] in _FIRST]
    kept = b""
    for kind, data in (*wanted, *(each for each in found if each[0] not in _FIRST)):
        if len(kept) + 4 + len(data) <= room:
            kept += kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
    body = head + len(kept).to_bytes(2, "big") + kept
    return message[:1] + len(body).to_bytes(3, "big") + body
