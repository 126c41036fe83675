# SPDX-License-Identifier: Apache-2.0
"""The sockets of a CS that shares by multicast, on this machine's loopback (11.2).

What it sends there comes back by the device; tests/network has the links on which it does not."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from admin import multicast_socket
from control_segment.config import MulticastConfig
from control_segment.peers import Datagram
from control_segment.runtime.group_socket import GroupSocket
from support.ports import free_port

OWN: Final = "127.0.0.1"
GROUP: Final = "239.191.0.19"
LOG: Final = logging.getLogger(__name__)


class Heard:
    """What came, in order."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.all_came = asyncio.Event()
        self.wanted = 0

    def handle(self, datagrams: list[Datagram], now: float) -> list[Datagram]:
        return self._add([octets for octets, _ in datagrams])

    def handle_shared(self, datagrams: list[bytes], now: float) -> list[Datagram]:
        return self._add(datagrams)

    def _add(self, datagrams: list[bytes]) -> list[Datagram]:
        self.datagrams += datagrams
        if len(self.datagrams) >= self.wanted:
            self.all_came.set()
        return []


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    """Another CS's, as far as the socket under test can tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(OWN))
        yield udp


def opened(port: int, heard: Heard) -> GroupSocket:
    multicast = MulticastConfig(address=GROUP, port=port)
    return GroupSocket(OWN, port, multicast, heard.handle, heard.handle_shared, None)


def test_what_came_to_the_group_is_handled_before_what_came_by_the_other_way(
    sender: socket.socket,
) -> None:
    port = free_port()

    async def run() -> list[bytes]:
        heard = Heard()
        heard.wanted = 4
        both = opened(port, heard)
        try:
            sender.sendto(b"DELETE 1", (OWN, port))
            sender.sendto(b"REPLY 1", (GROUP, port))
            sender.sendto(b"DELETE 2", (OWN, port))
            sender.sendto(b"REPLY 2", (GROUP, port))
            await asyncio.wait_for(heard.all_came.wait(), 20)
        finally:
            both.close()
        return heard.datagrams

    assert asyncio.run(run()) == [b"REPLY 1", b"REPLY 2", b"DELETE 1", b"DELETE 2"]


@pytest.mark.parametrize(
    ("own", "interface", "says"),
    [
        (OWN, "absent0", "there is no interface absent0"),
        ("2001:db8::99", None, "no interface has the address 2001:db8::99"),
    ],
)
def test_a_group_that_cannot_be_joined_is_named(own: str, interface: str | None, says: str) -> None:
    group = "ff12::191:19" if ":" in own else GROUP
    with pytest.raises(OSError, match=says) as caught:
        multicast_socket.open_member(
            group, 61019, own=own, interface=interface, alone=False, log=LOG
        )
    assert group in str(caught.value)
