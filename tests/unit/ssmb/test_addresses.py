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


def test_four_octets_of_a_version_1_field() -> None:
    assert addresses.from_ipv4(bytes([10, 0, 0, 1])) == addresses.from_text("10.0.0.1")
    assert addresses.from_ipv4(bytes(4)) == addresses.UNSPECIFIED
