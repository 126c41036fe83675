# SPDX-License-Identifier: Apache-2.0
"""Whether a node answers an ICMP echo request (RFC 792, RFC 4443 4.1).

One socket for all nodes of an address family.  Linux lets a process have one without privileges if
its group is in net.ipv4.ping_group_range; otherwise it needs CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from typing import Final

from control_segment.health.machine import Observed
from control_segment.health.targets import Target

NOT_PERMITTED: Final = (
    "this CS may not send ICMP: put its group into net.ipv4.ping_group_range, or give it"
    " CAP_NET_RAW"
)
_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL: Final = {
    socket.AF_INET: socket.IPPROTO_ICMP,
    socket.AF_INET6: socket.IPPROTO_ICMPV6,
}
_HEADER: Final = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence
_TOKEN_SIZE: Final = 8
_READ_AT_ONCE: Final = 64


class Echoes:
    """Requests of one address family that wait for their replies."""

    def __init__(self, family: socket.AddressFamily) -> None:
        """PermissionError: neither kind of socket may be had."""
        self._family = family
        self._loop = asyncio.get_running_loop()
        protocol = _PROTOCOL[family]
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM, protocol)
        except PermissionError:
            self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        # A raw socket of IPv4 gives the IP header too
        is_raw = self._socket.type == socket.SOCK_RAW
        self._has_header = is_raw and family == socket.AF_INET
        self._socket.setblocking(False)
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._sequence = 0
        self._identifier = secrets.randbits(16)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Let the socket go."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    async def ask(self, address: str) -> None:
        """Return when the node has answered; OSError: the request cannot be sent."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        token = secrets.token_bytes(_TOKEN_SIZE)
        replied = self._waiting[token] = self._loop.create_future()
        head = _HEADER.pack(_REQUEST[self._family], 0, 0, self._identifier, self._sequence)
        message = head + token
        if self._family == socket.AF_INET:  # for IPv6 the kernel computes it
            message = message[:2] + _checksum(message).to_bytes(2, "big") + message[4:]
        try:
            self._socket.sendto(message, (address, 0))
            await replied
        finally:
            del self._waiting[token]

    def _readable(self) -> None:
        try:
            for _ in range(_READ_AT_ONCE):
                self._take(self._socket.recv(2048))
        except OSError:  # there is no more, or an error of an earlier request
            return

    def _take(self, octets: bytes) -> None:
        if self._has_header and octets:
            octets = octets[(octets[0] & 0xF) * 4 :]
        if len(octets) < _HEADER.size + _TOKEN_SIZE or octets[0] != _REPLY[self._family]:
            return
        replied = self._waiting.get(octets[_HEADER.size : _HEADER.size + _TOKEN_SIZE])
        if replied is not None and not replied.done():
            replied.set_result(None)


class Icmp:
    """Both families, each with its socket once it is needed."""

    def __init__(self) -> None:
        self._echoes: dict[socket.AddressFamily, Echoes] = {}

    def close(self) -> None:
        """Let the sockets go."""
        for each in self._echoes.values():
            each.close()
        self._echoes.clear()

    async def probe(self, target: Target) -> Observed:
        """Ask once; OSError says why there is no answer."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        echoes = self._echoes.get(family)
        if echoes is None:
            try:
                echoes = self._echoes[family] = Echoes(family)
            except PermissionError:
                return Observed(None, NOT_PERMITTED, warning=NOT_PERMITTED)
        await echoes.ask(target.address)
        return Observed(True, "")


def _checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
