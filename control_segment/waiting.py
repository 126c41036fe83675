# SPDX-License-Identifier: Apache-2.0
"""Flows that wait for a place: their virtual server or all its nodes are at a limit (9.9).

The DFS holds a waiting flow's packets, so that who waits is bounded.  A place that is freed goes to
whoever of its virtual server has waited longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from control_segment.content.said import Said
    from control_segment.peers import Peer
    from control_segment.virtual_servers import VirtualServer
    from control_segment.wire import Answer

WAITING_MAX: Final = 8192
"""Of all virtual servers; a DFS has room for 65,536 flows that wait for an answer, new ones too."""

PER_SERVER_MAX: Final = 1024
SERVED_AT_ONCE: Final = 200  # about 2 ms: a QUERY that comes behind them is still quick


class Waiter(NamedTuple):
    """A flow that waits."""

    peer: Peer
    epoch: int  # of the peer: an older one has forgotten it
    serial: int
    until: float
    said: Said | None = None  # by its client, where that decides


class Served(NamedTuple):
    """A place was found: what the DFS is to hear."""

    peer: Peer
    key: bytes
    serial: int
    answer: Answer


class Waiting:
    """Who waits, by virtual server, the first one first."""

    def __init__(self) -> None:
        self._by_server: dict[VirtualServer, OrderedDict[bytes, Waiter]] = {}
        self._count = 0
        self.freed = False  # a place, since `serve` was called last

    def __len__(self) -> int:
        return self._count

    def waits_for(self, server: VirtualServer) -> bool:
        """Whether flows wait for a place of this virtual server."""
        return server in self._by_server

    def until(
        self,
        server: VirtualServer,
        peer: Peer,
        key: bytes,
        serial: int,
        now: float,
        said: Said | None = None,
    ) -> float | None:
        """Until when a flow may wait; None: not any longer, or too many wait already."""
        queue = self._by_server.get(server)
        waiter = None if queue is None else queue.get(key)
        if waiter is not None and waiter.serial == serial and waiter.peer is peer:
            return waiter.until if now < waiter.until else None
        if waiter is not None:
            self.forget(server, key)  # another connection from the same port
        if self._count >= WAITING_MAX or (queue is not None and len(queue) >= PER_SERVER_MAX):
            return None
        until = now + server.config.limit_wait_s
        self._by_server.setdefault(server, OrderedDict())[key] = Waiter(
            peer, peer.epoch, serial, until, said
        )
        self._count += 1
        return until

    def forget(self, server: VirtualServer, key: bytes) -> None:
        """A flow waits no longer."""
        queue = self._by_server.get(server)
        if queue is not None and queue.pop(key, None) is not None:
            self._count -= 1
            if not queue:
                del self._by_server[server]

    def expire(self, now: float) -> list[tuple[VirtualServer, bytes]]:
        """Forget those who have waited for too long, or whose DFS has forgotten them."""
        over = []
        for server, queue in tuple(self._by_server.items()):
            for key, waiter in tuple(queue.items()):
                if waiter.until > now and waiter.epoch == waiter.peer.epoch:
                    break  # those behind it came later
                self.forget(server, key)
                over.append((server, key))
        return over

    def serve(
        self, begin: Callable[[VirtualServer, Waiter, bytes], Answer | None], now: float
    ) -> list[Served]:
        """Give what is free to those who wait; `begin` answers None where there is no place."""
        self.freed = False
        served: list[Served] = []
        for server, queue in tuple(self._by_server.items()):
            for key, waiter in tuple(queue.items()):
                if len(served) >= SERVED_AT_ONCE:
                    self.freed = True  # go on the next time
                    return served
                answer = begin(server, waiter, key)
                if answer is None:
                    break
                self.forget(server, key)
                served.append(Served(waiter.peer, key, waiter.serial, answer))
        return served
