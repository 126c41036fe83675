# SPDX-License-Identifier: Apache-2.0
"""What of a client's first octets an APP_QUERY has (wire protocol 15.2): where they end, and which
of them fit.  What they mean is the CS's to say.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from data_flow_segment.peers.virtual_servers import VirtualServer
from packets import tls
from packets.http import Incomplete, RequestHead, read_request
from packets.refused import Refused
from packets.tls_shortening import shortened
from splicing.instructions import Verdict
from ssmb.constants import APP_DATA_MAX, AppType

APP_LIMIT: Final = 16384
"""Octets of a request's head, or of a ClientHello, where the CS gives no limit."""

APP_LIMIT_MAX: Final = 65536
_SSL2: Final = b"\x80"
_RECORD_HEADER: Final = 5
_LINE_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"


class Reading(NamedTuple):
    """What an APP_QUERY has."""

    app_data: bytes
    truncated: bool  # something is missing


def limit_of(server: VirtualServer, buffer_max: int) -> int:
    """How many of a client's octets are kept at most; `buffer_max`: CONFIG's `flow_buffer_max`."""
    return min(server.app_limit or (buffer_max if server.is_raw else APP_LIMIT), APP_LIMIT_MAX)


class Reader:
    """Of one connection; `app_data` is the virtual server's (15.1)."""

    __slots__ = ("_after", "_app_data", "_app_type", "_limit")

    def __init__(self, app_type: AppType, app_data: bytes, limit: int) -> None:
        self._app_type = app_type
        self._app_data = app_data
        self._limit = limit
        self._after: Incomplete | tls.Incomplete | None = None

    def look(self, octets: bytes) -> Verdict:
        """Whether what a decision needs is there; called with ever more of the same octets."""
        if self._app_type is AppType.SSL_SESSION_ID:
            return self._look_at_hello(octets)
        after = self._after if isinstance(self._after, Incomplete) else None
        searched = 0 if after is None else after.searched
        if 0 <= octets.find(_HEAD_END, searched) <= self._limit - len(_HEAD_END):
            return Verdict.COMPLETE
        head = read_request(octets, self._limit, after)
        if isinstance(head, Incomplete):
            self._after = head
            return Verdict.MORE
        return Verdict.REFUSED if isinstance(head, Refused) else Verdict.COMPLETE

    def _look_at_hello(self, octets: bytes) -> Verdict:
        after = self._after if isinstance(self._after, tls.Incomplete) else None
        hello = tls.read_client_hello(octets, self._limit, after)
        if isinstance(hello, tls.Incomplete):
            self._after = hello
            return Verdict.MORE
        return Verdict.REFUSED if isinstance(hello, Refused) else Verdict.COMPLETE

    def says_nothing(self, octets: bytes) -> bool:
        """Whether what is not whole has not even a whole request line: no CS could decide by it."""
        return self._app_type is AppType.HTTP_REQUEST and b"\n" not in octets.lstrip(b"\r\n")

    def read(self, octets: bytes, *, truncated: bool) -> Reading:
        """What is asked about a connection that began with these."""
        octets = octets[: self._limit]
        if self._app_type is AppType.SSL_SESSION_ID:
            hello = _without_records(octets)
            short = shortened(hello, APP_DATA_MAX)
            return Reading(short, truncated or short != hello)
        if self._app_type is AppType.COOKIE:
            return self._cookie(octets)
        end = octets.find(_HEAD_END)
        head = octets if end < 0 else octets[: end + len(_HEAD_END)]
        reading = _fitted(head, self._app_data)
        return reading._replace(truncated=True) if end < 0 or truncated else reading

    def _cookie(self, octets: bytes) -> Reading:
        head = read_request(octets, len(octets))
        whole = isinstance(head, RequestHead)
        known = head.head if isinstance(head, Incomplete) else head
        name = self._app_data.decode("latin-1")
        value = known.cookies.get(name) if isinstance(known, RequestHead) else None
        if value is None:
            return Reading(b"", not whole)
        pair = f"{name}={value}".encode("latin-1")
        return Reading(pair[:APP_DATA_MAX], not whole or len(pair) > APP_DATA_MAX)


def _without_records(octets: bytes) -> bytes:
    """The handshake message that TLS records carry, with its own header; SSL 2.0's has none."""
    if octets[:1] >= _SSL2:
        return octets[: 2 + (int.from_bytes(octets[:2], "big") & 0x7FFF)]
    message, at = b"", 0
    while at < len(octets):
        length = int.from_bytes(octets[at + 3 : at + _RECORD_HEADER], "big")
        message += octets[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        at += _RECORD_HEADER + length
    return message[: 4 + int.from_bytes(message[1:4], "big")]


def _fitted(head: bytes, names: bytes) -> Reading:
    """A request's head, or of one that is too long what has to be there and what fits."""
    if len(head) <= APP_DATA_MAX:
        return Reading(head, False)
    line, *fields = head.lstrip(_LINE_END).split(_LINE_END)
    first = {b"host"} | {name.strip().lower() for name in names.split(b",")}
    wanted = [each for each in fields if each and _name_of(each) in first]
    others = [each for each in fields if each and _name_of(each) not in first]
    room = APP_DATA_MAX - len(_LINE_END)
    kept = b""
    for each in (line, *wanted, *others):
        if len(kept) + len(each) + len(_LINE_END) <= room:
            kept += each + _LINE_END
        elif not kept:
            return Reading(line[:APP_DATA_MAX], True)
    return Reading(kept + _LINE_END, True)


def _name_of(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()
