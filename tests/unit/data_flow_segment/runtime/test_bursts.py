# SPDX-License-Identifier: Apache-2.0
"""Datagrams that go with one call, over the loopback."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from data_flow_segment.runtime.bursts import BURST_MAX, bursts, send

ONE, TWO = ("192.0.2.1", 1), ("192.0.2.2", 1)


def octets(size: int, number: int = 0) -> bytes:
    return bytes([number]) * size


def test_what_is_alike_goes_together_and_the_last_may_be_shorter() -> None:
    full, rest = octets(1400), octets(300)
    assert list(bursts([(ONE, full), (ONE, full), (ONE, rest), (ONE, full)])) == [
        (ONE, [full, full, rest]),
        (ONE, [full]),
    ]


def test_a_longer_one_begins_another_burst() -> None:
    assert [len(burst) for _, burst in bursts([(ONE, octets(20)), (ONE, octets(21))])] == [1, 1]


def test_each_destination_has_bursts_of_its_own_in_its_order() -> None:
    """What a CS and its standby get is written in turn."""
    to_one, to_two = ([octets(9, number) for number in range(first, 6, 2)] for first in (0, 1))
    turns = zip(to_one, to_two, strict=True)
    made = [each for one, two in turns for each in ((ONE, one), (TWO, two))]
    assert list(bursts(made)) == [(ONE, to_one), (TWO, to_two)]


def test_a_burst_fits_into_one_datagram_of_ip() -> None:
    found = [burst for _, burst in bursts([(ONE, octets(1456))] * (2 * BURST_MAX + 1))]
    assert [len(burst) for burst in found] == [BURST_MAX, BURST_MAX, 1]
    assert BURST_MAX * 1456 + 28 <= 65535


def test_nothing_is_no_burst() -> None:
    assert list(bursts([])) == []


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with (
        closing(socket.socket(family, socket.SOCK_DGRAM)) as receiver,
        closing(socket.socket(family, socket.SOCK_DGRAM)) as sender,
    ):
        for each in (receiver, sender):
            each.bind((request.param, 0))
            each.settimeout(60)
        yield sender, receiver


def test_they_arrive_one_by_one_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    burst = [*(octets(1400, number) for number in range(20)), octets(100, 20)]
    assert send(sender, receiver.getsockname()[:2], burst) == 0
    assert [receiver.recv(2048) for _ in burst] == burst


class Refusing(socket.socket):
    """A way on which the kernel takes no burst."""

    def sendmsg(self, *_: object) -> int:
        raise OSError(5, "Input/output error")


def test_where_no_burst_may_go_they_go_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    _, receiver = pair
    burst = [octets(1400, 1), octets(1400, 2)]
    with closing(Refusing(receiver.family, socket.SOCK_DGRAM)) as sender:
        assert send(sender, receiver.getsockname()[:2], burst) == 0
    assert [receiver.recv(2048) for _ in burst] == burst


def test_what_the_kernel_does_not_take_is_counted() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        too_long = [octets(65_508)] * 2
        assert send(sender, ("127.0.0.1", 9), too_long) == 2
