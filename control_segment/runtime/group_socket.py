# SPDX-License-Identifier: Apache-2.0
"""The SSMB sockets of a CS that shares its state by multicast (wire protocol 11.2).

One socket is as everywhere, and sends to the group too.  The other one gets what others send to the
group, which is handled before what came to the first: a REPLY of the active CS goes before the
DELETE of the DFS, by another way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from admin import multicast_socket
from control_segment.config import MulticastConfig
from control_segment.peers import Datagram
from control_segment.runtime.datagrams import (
    RECEIVE_SIZE,
    DatagramFilter,
    DatagramSocket,
    Handler,
)

SHARED_AT_ONCE: Final = 1024  # then the others get their turn, whatever a flood of these does

_log: Final = logging.getLogger("control_segment")

SharedHandler = Callable[[list[bytes], float], list[Datagram]]


class GroupSocket(DatagramSocket):
    """Two bound UDP sockets, read by the event loop."""

    def __init__(
        self,
        address: str,
        port: int,
        multicast: MulticastConfig,
        handler: Handler,
        shared_handler: SharedHandler,
        datagram_filter: DatagramFilter | None,
    ) -> None:
        """`shared_handler` takes what came to the group; `datagram_filter` sees none of that."""
        self._shared_handler = shared_handler
        self._group = multicast_socket.open_member(
            multicast.address,
            multicast.port,
            own=address,
            interface=multicast.interface,
            alone=False,
            log=_log,
        )
        try:
            super().__init__(address, port, handler, datagram_filter)
        except OSError:
            self._group.close()
            raise
        try:
            multicast_socket.set_sending(
                self._socket, own=address, interface=multicast.interface, ttl=multicast.ttl
            )
        except OSError:
            self.close()
            raise
        self._loop.add_reader(self._group.fileno(), self._take_shared)

    def close(self) -> None:
        """Stop reading; leave the group."""
        self._loop.remove_reader(self._group.fileno())
        self._group.close()
        super().close()

    def _receive(self) -> list[Datagram]:
        received = super()._receive()
        if received:
            self._take_shared()
        return received

    def _take_shared(self) -> None:
        shared: list[bytes] = []
        receive, size = self._group.recv, RECEIVE_SIZE
        try:
            for _ in range(SHARED_AT_ONCE):
                shared.append(receive(size))
        except OSError:  # nothing more
            pass
        if shared:
            self.send(self._shared_handler(shared, self._loop.time()))
