# SPDX-License-Identifier: Apache-2.0
"""Until when a certificate is valid, read from its DER (RFC 5280 4.1), and what follows.

Python's `ssl` shows the contents only of certificates that it has verified; a monitor also looks at
those that it does not verify.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from control_segment.health.config import CertificateSection
from control_segment.health.machine import Observed

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_BEFORE_VALIDITY: Final = 3  # serialNumber, signature, issuer
_DAY_S: Final = 86400


def valid_until(certificate: bytes) -> float:
    """Return notAfter as Unix time in seconds; ValueError: this is no certificate."""
    outer = _content(certificate, 0, _SEQUENCE)
    fields = _content(outer, 0, _SEQUENCE)
    at = _end(fields, 0) if fields[:1] == bytes([_VERSION]) else 0
    for _ in range(_BEFORE_VALIDITY):
        at = _end(fields, at)
    validity = _content(fields, at, _SEQUENCE)
    return _time(validity, _end(validity, 0))


def judge(left_s: float, section: CertificateSection) -> Observed:
    """What a certificate means that is valid for so many seconds more."""
    days = int(left_s // _DAY_S)
    said = f"its certificate is valid for {days} more days"
    if left_s < 0:
        said = f"its certificate expired {-days} days ago"
    warning = said if days < section.warn_days else ""
    passed = section.down_days is None or days >= section.down_days
    return Observed(passed, "" if passed else said, certain=True, warning=warning)


def _header(octets: bytes, at: int) -> tuple[int, int, int]:
    """(tag, where the content begins, where it ends) of the value at *at*."""
    if at + 2 > len(octets):
        raise ValueError("the certificate ends early")
    tag, length, begin = octets[at], octets[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(octets[begin : begin + size], "big")
        begin += size
    if begin + length > len(octets):
        raise ValueError("the certificate ends early")
    return tag, begin, begin + length


def _end(octets: bytes, at: int) -> int:
    return _header(octets, at)[2]


def _content(octets: bytes, at: int, wanted: int) -> bytes:
    tag, begin, end = _header(octets, at)
    if tag != wanted:
        raise ValueError(f"the certificate has tag {tag:#x} where {wanted:#x} belongs")
    return octets[begin:end]


def _time(octets: bytes, at: int) -> float:
    tag, begin, end = _header(octets, at)
    text = octets[begin:end].decode("ascii", "replace")
    if tag == _UTC_TIME:  # RFC 5280 4.1.2.5.1: 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"the certificate has tag {tag:#x} where a time belongs")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
