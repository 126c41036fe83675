# SPDX-License-Identifier: Apache-2.0
"""Parts of a request's target (RFC 3986, RFC 9112 3.2) in a form in which they can be compared."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

_UNRESERVED: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986 2.3
)
_DIGITS: Final = "0123456789ABCDEFabcdef"
_ENCODED: Final = {  # every encoded octet, and what it is in a normal form
    f"%{high}{low}": (
        character
        if (character := chr(int(high + low, 16))) in _UNRESERVED
        else f"%{high}{low}".upper()
    )
    for high in _DIGITS
    for low in _DIGITS
}
# an encoded octet, or what a path may not have as it is (RFC 3986 3.3)
_UNUSUAL: Final = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/]")
_FIELDS_MAX: Final = 512  # of a query; a target of any length may have thousands


def normal_path(path: str) -> str:
    """The normal form of a path (RFC 3986 6.2.2): two paths that mean the same are the same text.

    Encoded octets are decoded if they are unreserved and have capital digits otherwise, so an
    encoded slash stays one; other characters that a path may not have are encoded, by UTF-8; the
    segments `.` and `..` are gone.  Empty segments and parameters stay.  It is its own normal form.
    """
    if _UNUSUAL.search(path):
        path = _UNUSUAL.sub(_in_normal_form, path)
    return _without_dots(path) if "/." in path else path


def _in_normal_form(found: re.Match[str]) -> str:
    text = found[0]
    normal = _ENCODED.get(text)
    return normal or "".join(f"%{octet:02X}" for octet in text.encode(errors="replace"))


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4, for a path that begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def path_parameters(path: str) -> dict[str, str]:
    """`;name=value` in any segment of a path as it was received (RFC 3986 3.3, J2EE's
    `;jsessionid=`), decoded; the first of a name counts, and one without a name does not."""
    found: dict[str, str] = {}
    for segment in path.split("/"):
        for parameter in segment.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name:
                found.setdefault(unquote(name), unquote(value))
    return found


def query_parameters(query: str) -> dict[str, str]:
    """A query's fields as forms send them (WHATWG URL, application/x-www-form-urlencoded), decoded;
    the first of a name counts.  Of more than 512 the first ones."""
    found: dict[str, str] = {}
    kept = "&".join(query.split("&", _FIELDS_MAX)[:_FIELDS_MAX])
    for name, value in parse_qsl(kept, keep_blank_values=True):
        found.setdefault(name, value)
    return found
