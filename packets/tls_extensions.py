# SPDX-License-Identifier: Apache-2.0
"""Extensions of a ClientHello (RFC 8446 4.2), as far as nodes are chosen by them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from packets.refused import Refusal, Refused
from packets.tls_messages import Cursor, EndOfField

SERVER_NAME: Final = 0
ALPN: Final = 16
SUPPORTED_VERSIONS: Final = 43
_HEADER: Final = struct.Struct("!HH")  # type, length
_HOST_NAME: Final = 0  # RFC 6066 3
_ECH_OUTER: Final = 0  # RFC 9849 5
# IPv6 addresses are not allowed in this place (RFC 6066 3), but some clients send them
_NAME: Final = re.compile(rb"[A-Za-z0-9._\-]{1,255}|[0-9A-Fa-f:.]{2,45}")


def read_extensions(data: bytes, found: dict[str, Any]) -> dict[str, Any] | Refused:
    """Add what extensions say to *found*.  Raises EndOfField behind the last that is whole."""
    seen = set()
    at = 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise EndOfField
        kind, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size + length
        if at > len(data):
            raise EndOfField
        if kind in seen:
            return Refused(Refusal.HELLO, "an extension is there twice")
        seen.add(kind)
        if kind in _EXTENSIONS:
            name, read = _EXTENSIONS[kind]
            try:
                value = read(Cursor(data[at - length : at]))
            except EndOfField:
                return Refused(Refusal.HELLO, f"{name}: a field is longer than the extension")
            if isinstance(value, Refused):
                return value
            found[name] = value
    return found


def _read_server_name(cursor: Cursor) -> str | Refused:
    """RFC 6066 3: one name of each type; only host names are defined."""
    names = Cursor(cursor.vector(2))
    found = []
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            found.append(name)
    if cursor or len(found) != 1:
        return Refused(Refusal.SERVER_NAME, "not exactly one host name")
    if not _NAME.fullmatch(found[0]):
        return Refused(Refusal.SERVER_NAME, "characters that a host's name does not have")
    return found[0].decode().lower().removesuffix(".")


def _read_alpn(cursor: Cursor) -> tuple[str, ...] | Refused:
    """RFC 7301 3.1."""
    names = Cursor(cursor.vector(2))
    found = []
    while names:
        name = names.vector(1)
        if not _is_grease(name):
            found.append(name.decode("latin-1"))
    if cursor or "" in found:
        return Refused(Refusal.HELLO, "alpn: a protocol without a name, or more than protocols")
    return tuple(found)


def _read_versions(cursor: Cursor) -> tuple[int, ...] | Refused:
    """RFC 8446 4.2.1."""
    versions = cursor.vector(1)
    if cursor or not versions or len(versions) % 2:
        return Refused(Refusal.HELLO, "supported_versions: not a list of versions")
    pairs = [versions[at : at + 2] for at in range(0, len(versions), 2)]
    return tuple(int.from_bytes(pair, "big") for pair in pairs if not _is_grease(pair))


def _read_ech(cursor: Cursor) -> bool:
    """RFC 9849 5; the inner hello's own mark is of no interest here."""
    return cursor.number(1) == _ECH_OUTER


def _is_grease(octets: bytes) -> bool:
    """RFC 8701 2: 0A0A, 1A1A ... FAFA."""
    return len(octets) == 2 and octets[0] == octets[1] and octets[0] & 0x0F == 0x0A


_EXTENSIONS: Final[dict[int, tuple[str, Callable[[Cursor], Any]]]] = {
    SERVER_NAME: ("server_name", _read_server_name),
    ALPN: ("alpn", _read_alpn),
    SUPPORTED_VERSIONS: ("supported_versions", _read_versions),
    0xFE0D: ("has_ech", _read_ech),
}
