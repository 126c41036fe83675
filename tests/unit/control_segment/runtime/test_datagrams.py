# SPDX-License-Identifier: Apache-2.0
"""The SSMB socket of a CS, over the loopback interface."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from control_segment.peers import Datagram
from control_segment.runtime.datagrams import DatagramSocket
from support.ports import free_port
from support.require import require

_UDP = 17


def returned(received: list[Datagram], now: float) -> list[Datagram]:
    return received


@pytest.mark.network  # a raw socket
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_checksum_is_sent_where_udp_must_have_one(family: int, address: str) -> None:
    require("network", None if os.geteuid() == 0 else "a raw socket needs root")
    port = free_port()

    async def exchange() -> bytes:
        udp = DatagramSocket(address, port, returned, None)
        loop = asyncio.get_running_loop()
        with (
            socket.socket(family, socket.SOCK_DGRAM) as peer,
            socket.socket(family, socket.SOCK_RAW, _UDP) as wire,
        ):
            for each in (peer, wire):
                each.bind((address, 0))
                each.setblocking(False)
            peer.connect((address, port))
            peer.send(b"a datagram")
            assert await loop.sock_recv(peer, 100) == b"a datagram"
            while True:
                octets = await loop.sock_recv(wire, 100)
                header = octets[20:] if family == socket.AF_INET else octets  # without IPv6's
                ports = struct.unpack_from(">HH", header)
                if ports == (port, peer.getsockname()[1]):
                    break
        udp.close()
        return header[6:8]

    checksum = asyncio.run(exchange())
    assert (checksum == b"\0\0") == (family == socket.AF_INET)
