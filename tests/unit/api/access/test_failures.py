# SPDX-License-Identifier: Apache-2.0
"""The limit on failures: per address, and with bounded memory."""

from __future__ import annotations

import pytest

from api.access.failures import ADDRESSES_MAX, ALLOWED, REFILL_S, Failures


def failed(failures: Failures, address: str, times: int = ALLOWED) -> Failures:
    for _ in range(times):
        failures.add(address, 100.0)
    return failures


def test_an_address_waits_after_so_many_failures() -> None:
    failures = failed(Failures(), "192.0.2.1", ALLOWED - 1)
    assert failures.wait_s("192.0.2.1", 100.0) == 0
    failures.add("192.0.2.1", 100.0)
    assert failures.wait_s("192.0.2.1", 100.0) == REFILL_S
    assert failures.wait_s("192.0.2.2", 100.0) == 0
    assert failures.wait_s("192.0.2.1", 100.0 + REFILL_S) == 0


def test_it_waits_no_longer_however_often_it_fails() -> None:
    failures = failed(Failures(), "192.0.2.1", 1000)
    assert failures.wait_s("192.0.2.1", 100.0) == REFILL_S


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("unix socket", "unix socket", "192.0.2.1"),
    ],
)
def test_a_network_of_one_owner_counts_as_one(address: str, same: str, other: str) -> None:
    failures = failed(Failures(), address)
    assert failures.wait_s(same, 100.0) > 0
    assert failures.wait_s(other, 100.0) == 0


def test_memory_is_bounded_and_who_is_refused_is_not_forgotten_for_newcomers() -> None:
    failures = failed(Failures(), "192.0.2.1")
    for number in range(2 * ADDRESSES_MAX):
        failures.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 100.0)
    assert len(failures) == ADDRESSES_MAX
    assert failures.wait_s("192.0.2.1", 100.0) > 0
