# SPDX-License-Identifier: Apache-2.0
"""Until when a certificate is valid: read from whatever a node shows (RFC 5280 4.1)."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_segment.health.certificates import judge, valid_until
from control_segment.health.config import CertificateSection
from support.certificates import self_signed

DAY_S = 86400.0


def value(tag: int, content: bytes) -> bytes:
    """DER (X.690 8.1)."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def certificate(until: bytes, *, tag: int = 0x17, version: bool = True) -> bytes:
    """As much of one as is looked at."""
    validity = value(0x30, value(0x17, b"200101000000Z") + value(tag, until))
    head = value(0xA0, value(2, b"\x02")) if version else b""
    fields = head + value(2, b"\x01") + value(0x30, b"") + value(0x30, bytes(200)) + validity
    return value(0x30, value(0x30, fields))


def at(*fields: int) -> float:
    return datetime(*fields, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    self_signed(path, tmp_path / "key.pem", days=9)
    until = valid_until(ssl.PEM_cert_to_DER_cert(path.read_text()))
    left = datetime.fromtimestamp(until, UTC) - datetime.now(UTC)
    assert timedelta(days=8) < left <= timedelta(days=9)


@pytest.mark.parametrize("version", [True, False])
@pytest.mark.parametrize(
    ("until", "tag", "expected"),
    [
        (b"300203040506Z", 0x17, (2030, 2, 3, 4, 5, 6)),
        (b"500203040506Z", 0x17, (1950, 2, 3, 4, 5, 6)),
        (b"490203040506Z", 0x17, (2049, 2, 3, 4, 5, 6)),
        (b"20510203040506Z", 0x18, (2051, 2, 3, 4, 5, 6)),
    ],
)
def test_each_form_of_a_time(
    until: bytes, tag: int, expected: tuple[int, ...], version: bool
) -> None:
    assert valid_until(certificate(until, tag=tag, version=version)) == at(*expected)


def test_whatever_is_cut_off_is_no_certificate() -> None:
    octets = certificate(b"300203040506Z")
    for cut in range(len(octets)):
        with pytest.raises(ValueError, match="the certificate ends early"):
            valid_until(octets[:cut])


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (value(0x31, b""), "has tag 0x31 where 0x30 belongs"),
        (certificate(b"300203040506Z", tag=0x0C), "has tag 0xc where a time belongs"),
        (certificate(b"no time"), "does not match format"),
    ],
)
def test_what_is_none_is_an_error_with_the_reason(octets: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        valid_until(octets)


@pytest.mark.parametrize(
    ("days", "passed", "reason", "warning"),
    [
        (40.0, True, "", ""),
        (20.0, True, "", "its certificate is valid for 20 more days"),
        (2.5, False, "its certificate is valid for 2 more days", "its certificate is valid for 2"),
        (-3.0, False, "its certificate expired 3 days ago", "its certificate expired 3 days ago"),
    ],
)
def test_what_the_days_that_are_left_mean(
    days: float, passed: bool, reason: str, warning: str
) -> None:
    section = CertificateSection(warn_days=30, down_days=7)
    said = judge(days * DAY_S, section)
    assert (said.passed, said.reason) == (passed, reason)
    assert said.warning.startswith(warning)
    assert bool(said.warning) is bool(warning)
    assert said.certain
