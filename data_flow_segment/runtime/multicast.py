# SPDX-License-Identifier: Apache-2.0
"""The sockets of the CSs' multicast groups (wire protocol 11.2): one for each group and link.

With several interfaces in the file, what comes on one of them is sent on by the others, as a switch
would: the datagram as it is, from this DFS's address there.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from admin import multicast_socket
from data_flow_segment.agent import Agent
from data_flow_segment.outbox import Endpoint

DATAGRAMS_AT_ONCE: Final = 64
RETRY_S: Final = 5.0  # after which a group that could not be joined is tried again
_DATAGRAM_MAX: Final = 2048
_LOG: Final = logging.getLogger("splitplane.dfs")

Came = Callable[[bytes, Endpoint, str | None], None]


class MulticastSockets:
    """Joins what the agent wants joined."""

    def __init__(
        self,
        agent: Agent,
        own: str,
        interfaces: tuple[str, ...],
        ttl: int,
        came: Came,
        settle: Callable[[], None],
    ) -> None:
        """`own`: the SSMB address; `interfaces`: none: that address's; `came`: takes a datagram, of
        which group, and on which interface if it is to be sent on; `settle`: last in a wake-up."""
        self._agent = agent
        self._own = own
        self._interfaces: tuple[str | None, ...] = interfaces or (None,)
        self._ttl = ttl
        self._came = came
        self._settle = settle
        self._sends_on = len(interfaces) > 1
        self._joined: dict[tuple[Endpoint, str | None], socket.socket] = {}
        self._wanted: frozenset[Endpoint] = frozenset()
        self._said: dict[tuple[Endpoint, str | None], str] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False

    def settle(self) -> None:
        """Join and leave groups as the agent wants; send on what it wants sent on."""
        if self._is_closed:
            return
        wanted = self._agent.multicast.memberships()
        if wanted is not self._wanted:
            self._wanted = wanted
            self._arrange()
        if self._agent.outbox.forwards:
            self._send_on(self._agent.outbox.take_forwards())

    def _send_on(self, forwards: list[tuple[Endpoint, str, bytes]]) -> None:
        """Send datagrams to the links on which they did not come."""
        counters = self._agent.outbox.counters
        for group, arrived_on, octets in forwards:
            for (joined, interface), udp in self._joined.items():
                if joined != group or interface == arrived_on:
                    continue
                try:
                    udp.sendto(octets, group)
                    counters["multicast_forwarded"] += 1
                except OSError:  # no room, or the link is down: as if the network had lost it
                    counters["multicast_unsent"] += 1

    def close(self) -> None:
        """Leave all groups, for good."""
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for place in tuple(self._joined):
            self._leave(place)

    def _arrange(self) -> None:
        for place in tuple(self._joined):
            if place[0] not in self._wanted:
                self._leave(place)
        failed = False
        for group in self._wanted:
            for interface in self._interfaces:
                if (group, interface) not in self._joined:
                    failed |= not self._join(group, interface)
        if failed and self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._arrange()

    def _join(self, group: Endpoint, interface: str | None) -> bool:
        place = group, interface
        try:
            udp = multicast_socket.open_member(
                *group, own=self._own, interface=interface, alone=True, log=_LOG
            )
            try:
                multicast_socket.set_sending(udp, own=self._own, interface=interface, ttl=self._ttl)
            except OSError:
                udp.close()
                raise
        except OSError as error:
            if self._said.get(place) != str(error):
                self._said[place] = str(error)
                _LOG.warning(
                    "the CSs' multicast group cannot be joined: %s; they send to this DFS alone,"
                    " and it copies for standbys; trying again every %d s",
                    error,
                    RETRY_S,
                )
            return False
        self._said.pop(place, None)
        self._joined[place] = udp
        loop = asyncio.get_running_loop()
        loop.add_reader(udp.fileno(), partial(self._readable, group, interface, udp))
        _LOG.info("joined the CSs' multicast group %s port %d", *group)
        return True

    def _leave(self, place: tuple[Endpoint, str | None]) -> None:
        udp = self._joined.pop(place)
        asyncio.get_running_loop().remove_reader(udp.fileno())
        udp.close()

    def _readable(self, group: Endpoint, interface: str | None, udp: socket.socket) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                octets = udp.recv(_DATAGRAM_MAX)
            except OSError:  # nothing more
                break
            self._came(octets, group, interface if self._sends_on else None)
        self._settle()
