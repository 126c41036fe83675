# SPDX-License-Identifier: Apache-2.0
"""The DFS's sockets: one UDP for SSMB, one TCP listener for CSMB."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Final

from admin import receive_buffer, send_buffer

RECEIVE_BUFFER: Final = 4 << 20
"""A second of REPLYs at 25,000 per second, in case the agent is ever stopped for that long."""

UNREAD_MAX: Final = 1 << 20
"""Octets that a CS may leave unread in addition to what the kernel keeps: thousands of ACKs."""

SEND_BUFFER: Final = 4 << 20
"""Octets: what waits for twenty CSs whose machines do not answer."""

READ_AT_ONCE: Final = 8192
"""Octets of a CS's that are taken in one turn of the event loop: some 120 messages, 3 ms."""

_IP_MTU_DISCOVER: Final = 10  # linux/in.h; Python names it only since 3.14
_IP_PMTUDISC_DO: Final = 2
_LOG: Final = logging.getLogger("splitplane.dfs")


def open_udp(address: str, port: int) -> socket.socket:
    """The SSMB socket: never blocks, never fragments (6.8)."""
    is_ipv4 = ipaddress.ip_address(address).version == 4
    udp = socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        if is_ipv4:
            udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        udp.bind((address, port))
        receive_buffer.enlarge(udp, RECEIVE_BUFFER, _LOG)
        send_buffer.enlarge(udp, SEND_BUFFER)
    except OSError as error:
        udp.close()
        error.filename = f"SSMB, {address} port {port}"
        raise
    return udp


class CsmbProtocol(asyncio.BufferedProtocol):
    """One accepted TCP connection; hands octets on, and decides nothing."""

    def __init__(
        self,
        made: Callable[[CsmbProtocol], None],
        received: Callable[[CsmbProtocol, bytes], None],
    ) -> None:
        self._made = made
        self._received = received
        self.transport: asyncio.Transport | None = None
        self.connection_id: int | None = None
        self._buffer = bytearray(READ_AT_ONCE)
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=UNREAD_MAX)
        self._made(self)

    def pause_writing(self) -> None:
        """More than UNREAD_MAX waits: the other end does not read.  It may connect again."""
        if self.transport is not None:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received(self, bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._received(self, b"")
