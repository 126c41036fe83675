# SPDX-License-Identifier: Apache-2.0
"""What a client has said, as an APP_QUERY brings it: application data, or a whole frame
(wire protocol 15.2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

from control_segment.content.config import APP_LIMIT
from packets.http import Incomplete, RequestHead, read_request
from packets.parse import MalformedPacket, parse
from packets.refused import Refused
from packets.tls import ClientHello, read_client_hello
from ssmb.constants import TCP

_TYPE: Final = 12  # where an untagged frame has its EtherType
_IPV4: Final = b"\x08\x00"
_HEADER_MIN: Final = 20  # of IPv4 and of TCP
_L3: Final = 14
_IP: Final = struct.Struct(">BxHxxHxB")  # IPv4: header length, total length, fragment, protocol
_CLIENT_HELLO: Final = 1  # RFC 8446 4
_HANDSHAKE: Final = 22  # RFC 8446 5.1
_RECORD_HEADER: Final = 5
_SESSION_ID: Final = 38  # in a ClientHello message: type 1, length 3, version 2, random 32
_SESSION_ID_MAX: Final = 32


_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


class Said(NamedTuple):
    """What is known of a client's first octets."""

    head: RequestHead | None = None  # of kind http
    cookie: str | None = None  # the value, of kind cookie; None: it has none
    session_id: bytes = b""  # of kind ssl; empty: it has none
    hello: ClientHello | None = None  # of kind ssl, where rules look at it
    # What a plug-in has read, of kinds raw, assisted and hybrid
    attributes: Mapping[str, str] = _NO_ATTRIBUTES

    @property
    def subject(self) -> RequestHead | ClientHello | Mapping[str, str] | None:
        """What rules look at; None: nothing that they could."""
        if self.head is not None:
            return self.head
        return self.hello or self.attributes or None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It is not what the virtual server is for, and more of it would not change that."""

    why: str


class _More:
    """The frame has not all that decides (15.3)."""


MORE: Final = _More()
Reading: TypeAlias = Said | Unreadable | _More


_NOT_READ: Final = Unreadable("the virtual server is not of a kind that a DFS reads")


class Reader(Protocol):
    """Reads what clients of one kind of virtual server say."""

    def data(self, octets: bytes) -> Said | Unreadable:
        """Application data that a DFS took out of it; perhaps cut."""

    def payload(self, octets: bytes) -> Reading:
        """A client's first octets."""


class HttpReader:
    """Kind http: a request."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        self._limit = limit or APP_LIMIT

    def data(self, octets: bytes) -> Said | Unreadable:
        """The request line and headers, or as many of them as fit."""
        read = read_request(octets, len(octets))
        head = read.head if isinstance(read, Incomplete) else read
        if isinstance(head, RequestHead):
            return Said(head)
        return Unreadable("no whole request line" if head is None else head.detail)

    def payload(self, octets: bytes) -> Reading:
        """The request with its headers, if they are all there."""
        read = read_request(octets, self._limit)
        if isinstance(read, RequestHead):
            return Said(read)
        if isinstance(read, Refused):
            return Unreadable(read.detail)
        if not read.truncated:
            return MORE
        return Unreadable("no whole request line") if read.head is None else Said(read.head)


class CookieReader:
    """Kind cookie: `name=value` of one cookie; in a frame the whole request."""

    __slots__ = ("_name", "_requests")

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._requests = HttpReader(limit)

    def data(self, octets: bytes) -> Said | Unreadable:
        """`name=value`, or nothing."""
        name, equals, value = octets.partition(b"=")
        if not octets:
            return Said()
        if not equals or name != self._name.encode():
            return Unreadable("the data is not the cookie that was asked for")
        return Said(cookie=value.decode("latin-1"))

    def payload(self, octets: bytes) -> Reading:
        """The request with its headers, if they are all there."""
        read = self._requests.payload(octets)
        if isinstance(read, Said) and read.head is not None:
            return Said(cookie=read.head.cookies.get(self._name))
        return read


class SslReader:
    """Kind ssl: the session id of a ClientHello (RFC 5246 7.4.1.2; in TLS 1.3 it is legacy), and
    all that it offers, if rules look at it."""

    __slots__ = ("_limit", "_reads_all")

    def __init__(self, limit: int, *, reads_all: bool) -> None:
        self._limit = limit or APP_LIMIT
        self._reads_all = reads_all

    def data(self, octets: bytes) -> Said | Unreadable:
        """A ClientHello without record headers; of a cut one, what comes first is enough."""
        if octets[:1] != bytes([_CLIENT_HELLO]) or len(octets) <= _SESSION_ID:
            return Unreadable("no ClientHello")
        length = octets[_SESSION_ID]
        session_id = octets[_SESSION_ID + 1 : _SESSION_ID + 1 + length]
        if length > _SESSION_ID_MAX or len(session_id) < length:
            return Unreadable("no ClientHello: its session id is longer than it may be")
        if not self._reads_all:
            return Said(session_id=session_id)
        record = bytes((_HANDSHAKE, 3, 1)) + len(octets).to_bytes(2, "big") + octets
        hello = read_client_hello(record, len(record))
        if isinstance(hello, Refused):
            return Unreadable(f"no ClientHello: {hello.detail}")
        whole = hello if isinstance(hello, ClientHello) else hello.hello
        return Said(session_id=session_id, hello=whole)

    def payload(self, octets: bytes) -> Reading:
        """Records with the beginning of the ClientHello; cut into several it is the DFS's."""
        record, message = octets[:_RECORD_HEADER], octets[_RECORD_HEADER:]
        if record[:2] not in (bytes([_HANDSHAKE, 3]), bytes([_HANDSHAKE]), b""):
            return Unreadable("no TLS handshake")
        if message[:1] not in (bytes([_CLIENT_HELLO]), b""):
            return Unreadable("no ClientHello")
        if self._reads_all:
            return self._whole(octets)
        here = min(len(message), int.from_bytes(record[3:], "big"))
        if here <= _SESSION_ID or here < _SESSION_ID + 1 + min(
            message[_SESSION_ID], _SESSION_ID_MAX
        ):
            return MORE
        return self.data(message[:here])

    def _whole(self, octets: bytes) -> Reading:
        hello = read_client_hello(octets, self._limit)
        if isinstance(hello, Refused):
            return Unreadable(f"no ClientHello: {hello.detail}")
        if isinstance(hello, ClientHello):
            return Said(session_id=hello.session_id, hello=hello)
        return MORE


class NoReader:
    """Kinds of which no DFS reads anything: a question about one is of before a change."""

    __slots__ = ()

    def data(self, octets: bytes) -> Said | Unreadable:
        return _NOT_READ

    def payload(self, octets: bytes) -> Reading:
        return _NOT_READ


def tcp_payload(frame: bytes) -> bytes | None:
    """Return what a frame's TCP segment carries; None: it is none, or is cut."""
    if frame[_TYPE:_L3] == _IPV4 and len(frame) >= _L3 + 2 * _HEADER_MIN:
        length, total, fragment, protocol = _IP.unpack_from(frame, _L3)
        l4, end = _L3 + (length & 0x0F) * 4, _L3 + total
        is_whole = not fragment & 0x3FFF
        if protocol == TCP and is_whole and l4 + _HEADER_MIN <= end <= len(frame):
            start = l4 + (frame[l4 + 12] >> 4) * 4
            return frame[start:end] if l4 + _HEADER_MIN <= start <= end else None
        return None
    try:
        packet = parse(frame)
    except MalformedPacket:
        return None
    if packet.protocol != TCP or packet.first_fragment or packet.later_fragment or not packet.l4:
        return None
    start = packet.l4 + (packet.data[packet.l4 + 12] >> 4) * 4
    return bytes(packet.data[min(start, packet.end) : packet.end])
