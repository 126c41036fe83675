# SPDX-License-Identifier: Apache-2.0
"""The head of an HTTP/1.x request (RFC 9110, RFC 9112): what a client's first octets ask for.

llhttp (`httptools`), which Node.js reads requests with, reads what follows the request line's
method, without any of its leniencies, and says whether that is a request's head.  Of one that is,
each line ends with CR and LF, and has a name and a colon: so whoever wants a header line finds it
in the octets, and what nobody asks for costs nothing.  Where recipients are known to read a request
differently, this module refuses it: otherwise the CS would choose a node for one request, and the
node would answer another.  docs/design/0013-extraction.md lists what is refused that others accept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import httptools
from httptools import HttpRequestParser

from packets.refused import Refusal, Refused
from packets.uri import normal_path, path_parameters, query_parameters

_CRLF: Final = b"\r\n"
_BLANK_LINE: Final = b"\r\n\r\n"
_HOST: Final = b"\r\nhost:"
_BLANKS: Final = b" \t"  # around a header line's value (RFC 9112 5)
_METHOD_MAX: Final = 32  # octets; no registered method has more than 17
# whatever the limit of octets is: what costs more than its octets is bounded by itself
_TARGET_MAX: Final = 8192  # octets
_LINES_MAX: Final = 128  # header lines
_COOKIES_MAX: Final = 512  # more than browsers keep of a site
_METHOD_SEEN: Final = 2 + _METHOD_MAX  # octets, behind which no part of a method can be
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
_BARE_LINE_FEED: Final = Refused(Refusal.NOT_HTTP, "the request line does not end with CR and LF")
_LONG_TARGET: Final = Refused(Refusal.TARGET, f"longer than {_TARGET_MAX} octets")
# The request line of nearly all requests: a path in its normal form, except for dots, and perhaps a
# query.  Any other line is looked at step by step, with the same outcome
_USUAL_LINE: Final = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ((/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*)(?:\?([!-\"$-~]*))?)"
    r" HTTP/(1\.[01])\r\n"
)
_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_HTTP2_LINE: Final = b"PRI * HTTP/2.0"  # RFC 9113 3.4
_STRAY_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]*)(.*)", re.DOTALL)
_AUTHORITY_KEPT_MAX: Final = 261  # octets: the longest name of the DNS, with a port
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~\-]*)(?::[0-9]{0,5})?")


class RequestHead(NamedTuple):
    """A request line and its header lines.

    Text that came from the client has a character for each octet (ISO 8859-1), so that nothing is
    lost.  What is a property is made when it is asked for.
    """

    method: str  # as received: methods have cases (RFC 9110 9.1)
    target: str  # as received: "/a?b", "http://host/a?b", "host:443" of CONNECT, or "*"
    version: str  # "1.0" or "1.1"
    host: str  # of the Host header or the target; lower case, no port, no last dot; "": none
    raw_path: str  # of the target as received; "/" if it has none, "*", or "" of CONNECT
    path: str  # the same in its normal form (`packets.uri.normal_path`), ASCII
    query: str  # of the target as received, without the question mark
    lines: bytes  # the header lines as received, each between CR LF and CR LF
    head_length: int  # octets from the beginning of the connection to the body

    @property
    def path_parameters(self) -> Mapping[str, str]:
        """`;name=value` of the path, decoded; the first of a name."""
        return path_parameters(self.raw_path)

    @property
    def query_parameters(self) -> Mapping[str, str]:
        """`name=value` of the query, decoded; the first of a name."""
        return _latest_query(self.query)

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """Header lines in order: name in lower case, value without blanks around it."""
        parts = [line.partition(b":") for line in self.lines.split(_CRLF) if line]
        return tuple((name.lower(), value.strip(_BLANKS)) for name, _, value in parts)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The same as text."""
        return tuple((name.decode(), value.decode("latin-1")) for name, value in self.fields)

    @property
    def cookies(self) -> Mapping[str, str]:
        """Cookies by their names (RFC 6265 5.4); the first of a name, values as received.  Of more
        than 512 the first ones."""
        return _latest_cookies(self.header("cookie") or "")

    def header(self, name: str) -> str | None:
        """The value of the header *name*, a token in lower case; several are joined (RFC 9110 5.3),
        by a semicolon if they are cookies (RFC 6265 4.2.1).  None: there is no such header."""
        values = _values(self.lines, name.encode("latin-1", errors="replace"))
        if not values:
            return None
        return (b"; " if name == "cookie" else b", ").join(values).decode("latin-1")


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The head's end has not come yet."""

    truncated: bool  # the limit is reached: it will not come
    # if truncated: the request line and the complete header lines; None: not even that line
    head: RequestHead | None = None
    searched: int = 0  # where the search for the head's end goes on
    line_end: int = 0  # where the request line ends; 0: not known yet


def read_request(
    octets: bytes | bytearray, limit: int, after: Incomplete | None = None
) -> RequestHead | Incomplete | Refused:
    """Read the head of the request with which *octets*, a connection's first ones, begin.

    At most *limit* octets are looked at.  With *after*, what the call for fewer octets of the same
    connection returned, no octet is looked at again, except for a few at the seam: the work for a
    head in any number of segments is linear in its length.  Raises nothing.
    """
    end = min(len(octets), limit)
    start = len(_CRLF) if octets[:2] == _CRLF else 0  # RFC 9112 2.2: one empty line may precede
    if after is None:
        blank = octets.find(_BLANK_LINE, start, end)
        if blank >= 0:  # most heads come whole
            return _read(bytes(octets[start : blank + len(_BLANK_LINE)]), start)
        searched = line_end = 0
    else:
        searched, line_end = after.searched, after.line_end
    is_new = not line_end
    if is_new:
        line_feed = octets.find(b"\n", max(start, searched), end)
        if line_feed < 0:
            refused = _check_beginning(octets, start, end) if searched <= _METHOD_SEEN else None
            return refused or Incomplete(end >= limit, None, end)
        line_end = searched = line_feed - 1  # the blank line may begin there
        if octets[line_end:line_feed] != b"\r":
            return _BARE_LINE_FEED
    blank = octets.find(_BLANK_LINE, searched, end)
    if blank >= 0:
        return _read(bytes(octets[start : blank + len(_BLANK_LINE)]), start)
    if end < limit:
        line = _read_line(bytes(octets[start:line_end])) if is_new else None
        if isinstance(line, Refused):
            return line
        return Incomplete(False, None, max(line_end, end - 3), line_end)
    cut = octets.rfind(_CRLF, line_end, end) + len(_CRLF)
    head = _read(bytes(octets[start:cut]) + _CRLF, start - len(_CRLF))
    return head if isinstance(head, Refused) else Incomplete(True, head, end, line_end)


def _check_beginning(octets: bytes | bytearray, start: int, end: int) -> Refused | None:
    """What is known of a request line whose end has not come."""
    beginning = bytes(octets[start : min(end, start + _METHOD_MAX + 1)])
    if not beginning or (beginning == b"\r" and not start):
        return None
    method, space, _ = beginning.partition(b" ")
    if not _METHOD.fullmatch(method) or (not space and len(method) > _METHOD_MAX):
        return Refused(Refusal.NOT_HTTP, "does not begin with a method and a space")
    return None


def _read_line(line: bytes) -> tuple[bytes, bytes, str] | Refused:
    """Method, target and version of a request line without its end (RFC 9112 3)."""
    if line == _HTTP2_LINE:
        return Refused(Refusal.HTTP2, "HTTP/2 with prior knowledge")
    parts = line.split(b" ")
    if len(parts) != 3 or len(parts[0]) > _METHOD_MAX or not _METHOD.fullmatch(parts[0]):
        return Refused(
            Refusal.NOT_HTTP, "no method, target and version with one space between each"
        )
    version = _VERSIONS.get(parts[2])
    if version is None:
        return Refused(Refusal.VERSION, "neither HTTP/1.0 nor HTTP/1.1")
    return parts[0], parts[1], version


def _values(lines: bytes, name: bytes) -> list[bytes]:
    """What the header lines with a name (a token in lower case) say, in order."""
    values: list[bytes] = []
    lower, start = lines.lower(), _CRLF + name + b":"
    at = lower.find(start)
    while at >= 0:
        begin = at + len(start)
        at = lines.find(_CRLF, begin)
        values.append(lines[begin:at].strip(_BLANKS))
        at = lower.find(start, at)
    return values


def _read(head: bytes, skipped: int) -> RequestHead | Refused:
    """Read a whole head, before which there are *skipped* octets of the connection."""
    usual = _USUAL_LINE.match(head.decode("latin-1"))
    authority: bytes | None = None
    if usual is None or usual[1] == "CONNECT":
        line = _unusual_line(head)
        if isinstance(line, Refused):
            return line
        line_end, authority, (method, target, version, raw_path, query) = line
        path = normal_path(raw_path)
    else:
        line_end = usual.end() - len(_CRLF)
        method, target, raw_path, query, version = usual.groups("")
        if len(target) > _TARGET_MAX:
            return _LONG_TARGET
        path = normal_path(raw_path) if "/." in raw_path else raw_path
    if head.count(_CRLF) > _LINES_MAX + 2:
        return Refused(Refusal.HEADER, f"more than {_LINES_MAX} header lines")
    # llhttp has a list of methods, HTTP has none (RFC 9110 9.1); only CONNECT's target differs
    is_known = method in ("GET", "CONNECT")
    try:
        HttpRequestParser(None).feed_data(head if is_known else b"GET" + head[len(method) :])
    except httptools.HttpParserUpgrade:
        pass  # the head was complete; what follows is another protocol's
    except httptools.HttpParserInvalidURLError as error:
        return Refused(Refusal.TARGET, str(error))
    except httptools.HttpParserError as error:
        return Refused(Refusal.HEADER, str(error))
    lines = head[line_end:-2]
    host = _find_host(authority, lines)
    if isinstance(host, Refused):
        return host
    length = skipped + len(head)
    return RequestHead(method, target, version, host, raw_path, path, query, lines, length)


# Where a request line ends, its target's authority; method, target, version, path and query
_Line: TypeAlias = tuple[int, bytes | None, tuple[str, str, str, str, str]]


def _unusual_line(head: bytes) -> _Line | Refused:
    line_end = head.index(b"\n") - 1
    if head[line_end : line_end + 1] != b"\r":
        return _BARE_LINE_FEED
    line = _read_line(head[:line_end])
    if isinstance(line, Refused):
        return line
    method, target, version = line
    if len(target) > _TARGET_MAX:
        return _LONG_TARGET
    parts = _split_target(method, target)
    if isinstance(parts, Refused):
        return parts
    authority, path, query = parts
    texts = [part.decode("latin-1") for part in (method, target, path, query)]
    return line_end, authority, (texts[0], texts[1], version, texts[2], texts[3])


def _split_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes, bytes] | Refused:
    """Authority, path and query of a target (RFC 9112 3.2)."""
    authority, path, query = None, target, b""
    if target[:1] != b"/" or method == b"CONNECT":
        if method == b"CONNECT":
            return target, b"", b""
        if target == b"*":
            if method != b"OPTIONS":
                return Refused(Refusal.TARGET, "an asterisk, which is for OPTIONS alone")
            return None, target, b""
        absolute = _ABSOLUTE.fullmatch(target)
        if not absolute:
            return Refused(Refusal.TARGET, "neither a path nor a URL")
        authority, path = absolute[1], absolute[2]
    if b"#" in target:
        return Refused(Refusal.TARGET, "a fragment, which is not for servers")
    if b"?" in path:
        path, _, query = path.partition(b"?")
    if b"%" in path and _STRAY_PERCENT.search(path):
        return Refused(Refusal.TARGET, "a percent sign without two digits in the path")
    return authority, path or b"/", query


def _find_host(authority: bytes | None, lines: bytes) -> str | Refused:
    """The host that is asked for (RFC 9112 3.2, 3.3); a target's and the header's must agree."""
    lower = lines.lower()
    at, host = lower.find(_HOST), ""
    if at >= 0:
        begin = at + len(_HOST)
        if lower.find(_HOST, begin) >= 0:
            return Refused(Refusal.HOST, "several Host headers")
        found = _host_of(lower[begin : lower.find(_CRLF, begin)].strip(_BLANKS))
        if found is None:
            return Refused(Refusal.HOST, "characters that a host's name does not have")
        host = found
    if authority is None:
        return host
    target_host = _host_of(authority)
    if not target_host:
        return Refused(Refusal.HOST, "the target has no host, or more than a host and a port")
    if at >= 0 and host != target_host:
        return Refused(Refusal.HOST, "the target's host is not that of the Host header")
    return target_host


def _host_of(authority: bytes) -> str | None:
    """The host of `host:port` in a form in which hosts can be compared; None if malformed."""
    if len(authority) > _AUTHORITY_KEPT_MAX:
        return _read_authority(authority)
    return _known_authority(authority)


def _read_authority(authority: bytes) -> str | None:
    found = _AUTHORITY.fullmatch(authority)
    return found[1].decode().lower().removesuffix(".") if found else None


_known_authority: Final = lru_cache(maxsize=1024)(_read_authority)  # clients ask for the same few


def _cookies(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in text.split(";", _COOKIES_MAX)[:_COOKIES_MAX]:
        name, equals, value = pair.partition("=")
        if equals and name:
            found.setdefault(name.strip(" \t"), value.strip(" \t"))
    return found


# Rules ask for those of one request again and again
_latest_cookies: Final = lru_cache(maxsize=4)(_cookies)
_latest_query: Final = lru_cache(maxsize=4)(query_parameters)
