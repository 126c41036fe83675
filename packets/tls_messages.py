# SPDX-License-Identifier: Apache-2.0
"""TLS handshake messages out of records (RFC 8446 5.1), and fields out of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from packets.refused import Refusal, Refused

_HANDSHAKE: Final = 22
_MAJOR: Final = 3  # of every version from SSL 3.0 to TLS 1.3, in records
_ALERT: Final = bytes((21, _MAJOR))
_ALERT_BEGINS: Final = _ALERT[:1]
_RECORD_HEADER: Final = 5  # octets: type, version, length
_RECORD_MAX: Final = 1 << 14
_MESSAGE_HEADER: Final = 4  # octets: type, length


class EndOfField(Exception):
    """A field is longer than what it lies in."""


class Cursor:
    """Reads fields one after the other; raises EndOfField, and has not moved then."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    @property
    def left(self) -> int:
        """How many octets there are."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next *count* octets."""
        after = self._at + count
        if after > len(self._data):
            raise EndOfField
        taken = self._data[self._at : after]
        self._at = after
        return taken

    def number(self, size: int) -> int:
        """The next *size* octets as a number."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Octets behind their count, which has *size* octets (RFC 8446 3.4)."""
        begin = self._at + size
        after = begin + int.from_bytes(self._data[self._at : begin], "big")
        if after > len(self._data) or begin > len(self._data):
            raise EndOfField
        self._at = after
        return self._data[begin:after]


@dataclass(frozen=True, slots=True)
class Message:
    """The first handshake message of a connection, or what has come of it."""

    body: bytes  # without its header
    is_whole: bool
    end: int  # if whole: where it ends on the connection
    # octets that have to come before it can be whole, at least; 1 if its length is not known yet
    missing: int


def first_message(octets: bytes | bytearray, end: int, wanted: int) -> Message | Refused:
    """Gather the message of type *wanted* with which a side's octets, up to *end*, begin.

    It may be split over records, and end within one.
    """
    gathered = bytearray()
    at = headers = 0
    missing = _MESSAGE_HEADER
    while missing:
        header = bytes(octets[at : min(at + _RECORD_HEADER, end)])
        refused = _check_record(header, is_first=not at)
        if refused:
            return refused
        if len(header) < _RECORD_HEADER:
            headers = _RECORD_HEADER - len(header)
            break
        length = int.from_bytes(header[3:], "big")
        at += _RECORD_HEADER
        room = min(length, end - at)
        # no more than is missing: behind the message the record may hold others
        while missing and room:
            count = min(missing, room)
            gathered += octets[at : at + count]
            at, room, length = at + count, room - count, length - count
            missing -= count
            if gathered[0] != wanted:
                return Refused(Refusal.HELLO, "another handshake message comes first")
            if not missing and len(gathered) == _MESSAGE_HEADER:
                missing = int.from_bytes(gathered[1:], "big")
        if missing and length:  # the record goes on behind the end
            headers = 0 if missing <= length else _RECORD_HEADER
            break
    has_length = len(gathered) >= _MESSAGE_HEADER
    more = missing + headers if has_length else 1
    return Message(bytes(gathered[_MESSAGE_HEADER:]), not missing, at, more)


def _check_record(header: bytes, *, is_first: bool) -> Refused | None:
    """A record's header, or what has come of it."""
    if not header or header == _ALERT_BEGINS:
        return None
    if header[0] != _HANDSHAKE or (len(header) > 1 and header[1] != _MAJOR):
        if header.startswith(_ALERT):
            return Refused(Refusal.ALERT, "an alert comes first")
        reason = Refusal.NOT_TLS if is_first else Refusal.RECORD
        return Refused(reason, "no record of a handshake")
    if len(header) == _RECORD_HEADER:
        length = int.from_bytes(header[3:], "big")
        if not 1 <= length <= _RECORD_MAX:
            return Refused(Refusal.RECORD, "a record is empty or longer than 16384 octets")
    return None
