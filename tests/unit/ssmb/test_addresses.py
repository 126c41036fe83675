# SPDX-License-Identifier: Apache-2.0
"""One shape of address for both families."""

from __future__ import annotations

import pytest

from ssmb import addresses


def test_ipv4_is_mapped() -> None:
    assert addresses.from_text("10.0.0.1") == bytes(10) + b"\xff\xff\x0a\0\0\1"
    assert addresses.is_ipv4(addresses.from_text("10.0.0.1"))
    assert not addresses.is_ipv4(addresses.from_text("fd00::1"))


@pytest.mark.parametrize("text", ["10.0.0.1", "255.255.255.255", "fd00::1", "2001:db8::7", "::"])
def test_text_comes_back(text: str) -> None:
    address = addresses.from_text(text)
    assert len(address) == 16
    assert addresses.to_text(address) == text


def test_both_spellings_of_ipv4_are_one_address() -> None:
    assert addresses.from_text("::ffff:10.0.0.1") == addresses.from_text("10.0.0.1")


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "node1", "fd00::1/64", "fd00:::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        addresses.from_text(text)


def test_unset_in_either_familys_spelling() -> None:
    assert addresses.is_unset(addresses.UNSPECIFIED)
    assert addresses.is_unset(addresses.from_text("0.0.0.0"))
    assert addresses.is_unset(addresses.from_text("::"))
    assert not addresses.is_unset(addresses.from_text("::1"))
    assert not addresses.is_unset(addresses.from_text("0.0.0.1"))


NOBODYS = ["0.0.0.0", "0.255.255.255", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "ff02::1"]
ANYBODYS = ["1.0.0.1", "126.9.9.9", "128.0.0.1", "169.254.1.1", "223.9.9.9", "::2", "fd00::1"]


@pytest.mark.parametrize(
    ("texts", "verdicts"),
    [
        (NOBODYS, (False, False, True)),
        (["127.0.0.1", "127.255.255.255", "::1"], (True, False, True)),
        (["fe80::1", "febf:ffff::1"], (True, True, True)),
        (ANYBODYS, (True, True, False)),
    ],
    ids=["nobody", "loopback", "link-local", "any host"],
)
def test_what_an_address_can_be_used_for(
    texts: list[str], verdicts: tuple[bool, bool, bool]
) -> None:
    for text in texts:
        octets = addresses.from_text(text)
        found = addresses.names_a_host(octets), addresses.is_next_hop(octets)
        assert (*found, addresses.is_martian(octets)) == verdicts, text


def test_four_octets_of_a_version_1_field() -> None:
    assert addresses.from_ipv4(bytes([10, 0, 0, 1])) == addresses.from_text("10.0.0.1")
    assert addresses.from_ipv4(bytes(4)) == addresses.UNSPECIFIED
