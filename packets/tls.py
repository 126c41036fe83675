# SPDX-License-Identifier: Apache-2.0
"""The first message of each side of a TLS connection: SSL 3.0 to TLS 1.3 (RFC 8446), and the hello
of SSL 2.0 that older clients send for later versions (RFC 5246 E.2).

Nothing is decrypted and nothing verified: what a ClientHello says is a claim.  Parsing ends at the
message's end, wherever records begin and end.  docs/design/0013-extraction.md says what is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from packets.refused import Refusal, Refused
from packets.tls_extensions import SUPPORTED_VERSIONS, read_extensions
from packets.tls_messages import Cursor, EndOfField, first_message

SSL2, SSL3, TLS1, TLS1_1, TLS1_2, TLS1_3 = 0x0002, 0x0300, 0x0301, 0x0302, 0x0303, 0x0304

_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_RANDOM: Final = 32  # octets
_SESSION_ID_MAX: Final = 32
_CIPHER, _COMPRESSION = 2, 1  # octets
# length, type, version, then the lengths of cipher specifications, session id and challenge
_SSL2: Final = struct.Struct("!HBHHHH")
_SSL2_LENGTH: Final = 2  # octets that the length does not count
_SSL2_BIT: Final = 0x8000  # of the length: it has two octets
_SSL2_CIPHER: Final = 3  # octets
_SSL2_SESSION_IDS: Final = (0, 16)  # octets
_SSL2_CHALLENGE: Final = (16, 32)  # octets, from and to


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers.  Values that only probe tolerance (GREASE, RFC 8701) are left out.

    `session_id` names a session of TLS 1.2 or earlier that the client wants to resume.  A client
    that offers TLS 1.3 and has no such session sends random octets there, new ones each time
    (RFC 8446 D.4), which nobody has seen before.

    With `has_ech`, `server_name` is the public name of whoever decrypts the inner hello (RFC 9849),
    or the client only pretends: both look the same on purpose.
    """

    legacy_version: int = 0  # at most TLS 1.2 (0x0303)
    session_id: bytes = b""  # at most 32 octets
    server_name: str = ""  # lower case, no last dot; "": none
    alpn: tuple[str, ...] = ()  # protocols by the client's preference, as "h2"
    supported_versions: tuple[int, ...] = ()  # by preference; (): the client has no such extension
    has_ech: bool = False
    is_ssl2: bool = False  # SSL 2.0's form, whatever versions it offers
    length: int = 0  # octets from the beginning of the connection to the message's end

    @property
    def highest_version(self) -> int:
        """The highest version that the client offers."""
        return max(self.supported_versions, default=self.legacy_version)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What a server chose.

    `session_id` is what a client may offer later to resume this session; empty if there will be
    none.  TLS 1.3 has none: its `legacy_session_id_echo` is what the client sent, names nothing,
    and is left out; its tickets are encrypted.  So persistence by session id has nothing to learn
    from TLS 1.3, nor from a server of TLS 1.2 that gives out tickets alone (RFC 5077 3.4).
    """

    version: int
    session_id: bytes  # at most 32 octets


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The message's end has not come yet."""

    truncated: bool  # the limit is reached: it will not come
    needed: int  # with fewer octets than these the message is not whole, and nobody looks
    # if truncated: the fields that came whole; None: not even the session id
    hello: ClientHello | None = None


def read_client_hello(
    octets: bytes | bytearray, limit: int, after: Incomplete | None = None
) -> ClientHello | Incomplete | Refused:
    """Read the ClientHello with which *octets*, a connection's first ones, begin.

    At most *limit* octets are looked at.  With *after*, what the call for fewer octets of the same
    connection returned, octets are only looked at again when a sixth of what was missing can have
    come: the work for any segments and records is linear, times the logarithm of the message's
    length at worst.  Raises nothing.
    """
    end = min(len(octets), limit)
    if after and end < after.needed:
        return after
    if end and octets[0] & _SSL2_BIT >> 8:
        return _read_ssl2(bytes(octets[:end]), limit)
    message = first_message(octets, end, _CLIENT_HELLO)
    if isinstance(message, Refused):
        return message
    if not message.is_whole and end < limit:
        return Incomplete(False, min(end + message.missing, limit))
    found = _client_fields(message.body, whole=message.is_whole)
    if isinstance(found, Refused):
        return found
    hello = ClientHello(**found, length=message.end)
    if message.is_whole:
        return hello
    return Incomplete(True, limit, hello if "session_id" in found else None)


def read_server_hello(
    octets: bytes | bytearray, limit: int, after: Incomplete | None = None
) -> ServerHello | Incomplete | Refused:
    """Read the ServerHello with which a server's *octets*, the first of a connection, begin.

    Arguments, bounds and effort are those of `read_client_hello`.
    """
    end = min(len(octets), limit)
    if after and end < after.needed:
        return after
    message = first_message(octets, end, _SERVER_HELLO)
    if isinstance(message, Refused):
        return message
    if not message.is_whole:
        return Incomplete(end >= limit, min(end + message.missing, limit))
    return _server_fields(message.body)


def _client_fields(body: bytes, *, whole: bool) -> dict[str, Any] | Refused:
    """The fields of a ClientHello by their names (RFC 8446 4.1.2), those that came whole."""
    found: dict[str, Any] = {}
    cursor = Cursor(body)
    try:
        found["legacy_version"] = version = cursor.number(2)
        if version >> 8 != SSL3 >> 8:
            return Refused(Refusal.HELLO, "no version of TLS")
        cursor.take(_RANDOM)
        session_id = cursor.vector(1)
        if len(session_id) > _SESSION_ID_MAX:
            return Refused(Refusal.HELLO, "a session id of more than 32 octets")
        found["session_id"] = session_id
        cursor.vector(2)  # cipher suites
        cursor.vector(1)  # compression methods
        if cursor and cursor.number(2) != cursor.left and whole:  # before TLS 1.2 there may be none
            return Refused(Refusal.HELLO, "extensions do not end where the message does")
        return read_extensions(cursor.take(cursor.left), found)
    except EndOfField:
        if whole:
            return Refused(Refusal.HELLO, "a field is longer than the message")
        return found


def _server_fields(body: bytes) -> ServerHello | Refused:
    """RFC 8446 4.1.3, RFC 5246 7.4.1.3."""
    cursor = Cursor(body)
    try:
        version = cursor.number(2)
        cursor.take(_RANDOM)
        session_id = cursor.vector(1)
        cursor.take(_CIPHER + _COMPRESSION)
        extensions = Cursor(cursor.vector(2) if cursor else b"")
        while extensions:
            kind, data = extensions.number(2), extensions.vector(2)
            if kind == SUPPORTED_VERSIONS:
                version = int.from_bytes(data, "big")
    except EndOfField:
        return Refused(Refusal.HELLO, "a field is longer than the message")
    if cursor or version >> 8 != SSL3 >> 8 or len(session_id) > _SESSION_ID_MAX:
        return Refused(Refusal.HELLO, "not the fields of a ServerHello")
    return ServerHello(version, session_id if version < TLS1_3 else b"")


def _read_ssl2(octets: bytes, limit: int) -> ClientHello | Incomplete | Refused:
    """RFC 5246 E.2: two octets of length, then a message of SSL 2.0."""
    if octets[2:3] not in (b"", b"\1") or octets[3:4] not in (b"", b"\0", b"\3"):
        return Refused(Refusal.NOT_TLS, "neither TLS nor a hello of SSL 2.0")
    if len(octets) < _SSL2.size:
        return Incomplete(len(octets) >= limit, min(len(octets) + 1, limit))
    length, _, version, ciphers, size, challenge = _SSL2.unpack_from(octets)
    end = _SSL2.size + ciphers + size + challenge
    if (
        end - _SSL2_LENGTH != length & ~_SSL2_BIT
        or (version != SSL2 and version >> 8 != SSL3 >> 8)
        or (not ciphers or ciphers % _SSL2_CIPHER)
        or size not in _SSL2_SESSION_IDS
        or not _SSL2_CHALLENGE[0] <= challenge <= _SSL2_CHALLENGE[1]
    ):
        return Refused(Refusal.HELLO, "SSL 2.0: version or lengths")
    at = _SSL2.size + ciphers
    session_id = octets[at : at + size]
    hello = ClientHello(version, session_id, is_ssl2=True, length=min(end, len(octets)))
    if len(octets) >= end:
        return hello
    truncated = len(octets) >= limit
    readable = truncated and len(octets) >= at + size
    return Incomplete(truncated, min(end, limit), hello if readable else None)
