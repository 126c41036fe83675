# SPDX-License-Identifier: Apache-2.0
"""The SSMB socket: many datagrams per wake-up, since a wake-up costs as much as ten of them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from admin import receive_buffer, send_buffer
from control_segment.peers import Address, Datagram
from ssmb.constants import DSCP_HIGH

DATAGRAMS_AT_ONCE: Final = 64
ROUNDS: Final = 4  # in a wake-up: what came while the others were answered costs no other one
RECEIVE_SIZE: Final = 2048  # more than SSMB_DGRAM_MAX, so that an oversized one is seen as such
BUFFER_SIZE: Final = 4 << 20  # 20,000 QUERYs that wait while a second is missed

_log: Final = logging.getLogger("control_segment")

Direction: TypeAlias = Literal["in", "out"]
# Tests lose, double and delay datagrams with it: (direction, octets) -> [(delay in seconds,
# octets)]
DatagramFilter: TypeAlias = Callable[[Direction, bytes], Sequence[tuple[float, bytes]]]
Handler: TypeAlias = Callable[[list[Datagram], float], list[Datagram]]


class DatagramSocket:
    """A bound UDP socket, read by the event loop."""

    def __init__(
        self,
        address: str,
        port: int,
        handler: Handler,
        datagram_filter: DatagramFilter | None,
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._loop = asyncio.get_running_loop()
        self._handler = handler
        self._filter = datagram_filter
        self.not_sent = 0
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            _configure(self._socket, family)
            self._socket.bind((address, port))
            receive_buffer.enlarge(self._socket, BUFFER_SIZE, _log)
        except OSError as error:
            self._socket.close()
            error.filename = f"SSMB, {address} port {port}"
            raise
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading; let the port go."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def send(self, datagrams: list[Datagram]) -> None:
        """Send; what the kernel does not take now is lost, as datagrams may be (6.8)."""
        if self._filter is not None:
            for octets, address in datagrams:
                for delay_s, kept in self._filter("out", octets):
                    self._loop.call_later(delay_s, self._send_one, kept, address)
            return
        sendto = self._socket.sendto
        for octets, address in datagrams:
            try:
                sendto(octets, address)
            except OSError:  # full, or the path is down: the DFS repeats its QUERY
                self.not_sent += 1

    def _send_one(self, octets: bytes, address: Address) -> None:
        try:
            self._socket.sendto(octets, address)
        except OSError:
            self.not_sent += 1

    def _readable(self) -> None:
        """Read and answer until nothing is left, but let others run now and then."""
        for _ in range(ROUNDS):
            if self._round() < 2:  # where one came alone, there is hardly another one
                return

    def _round(self) -> int:
        """Read and answer a batch; return how many there were."""
        received = self._receive()
        if not received:
            return 0
        if self._filter is None:
            self.send(self._handler(received, self._loop.time()))
            return len(received)
        for octets, address in received:
            for delay_s, kept in self._filter("in", octets):
                self._loop.call_later(delay_s, self._handle_one, (kept, address))
        return len(received)

    def _receive(self) -> list[Datagram]:
        received: list[Datagram] = []
        receive, size = self._socket.recvfrom, RECEIVE_SIZE
        try:
            for _ in range(DATAGRAMS_AT_ONCE):
                received.append(receive(size))
        except BlockingIOError:
            pass
        except OSError:  # an ICMP error of an earlier datagram: the next read goes on
            pass
        return received

    def _handle_one(self, datagram: Datagram) -> None:
        self.send(self._handler([datagram], self._loop.time()))


def _configure(udp: socket.socket, family: socket.AddressFamily) -> None:
    send_buffer.enlarge(udp, BUFFER_SIZE)
    # Optional in 6.8; one socket sends both priorities, so all get the higher
    if family == socket.AF_INET:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_HIGH << 2)
        udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        # The seal protects more than a checksum does.  A data path that takes a datagram apart
        # would have to undo one that a virtual link left unfinished.  Over IPv6 it is mandatory.
        udp.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_HIGH << 2)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


_SO_NO_CHECK: Final = 11  # asm-generic/socket.h; Python 3.11 has no names for these
_IP_MTU_DISCOVER: Final = 10  # linux/in.h
_IP_PMTUDISC_DO: Final = 2  # DF, never fragments (6.8)
