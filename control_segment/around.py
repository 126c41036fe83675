# SPDX-License-Identifier: Apache-2.0
"""What a change of some resources touches: all that a rule across them can find wrong (pure).

The state before kept every rule.  So a rule that the state after breaks is broken by something
that changed, together with what that touches: virtual servers that have the pool, the ones with the
same address, and so on.  These, and not all, are given to the rules (`control_segment.references`),
which say what they would say of the whole configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from enum import Enum, auto
from typing import Any, Protocol

from pydantic import BaseModel

from control_segment.config import PoolConfig, VirtualServerConfig


class Of(Enum):
    """By what resources are found that others may touch."""

    POOL = auto()  # virtual servers, by their pools
    KEY = auto()  # virtual servers, by address, port and protocol
    ADDRESS = auto()  # virtual servers
    PERSISTENCE = auto()  # virtual servers, by their persistence group
    MONITOR = auto()  # pools, by a monitor's name
    NODE = auto()  # pools, by a node's address


def values_of(model: BaseModel) -> Iterator[tuple[Of, Hashable]]:
    """By what a resource is to be found."""
    if isinstance(model, VirtualServerConfig):
        for pool in model.pool_names:
            yield Of.POOL, pool
        yield Of.KEY, model.key
        yield Of.ADDRESS, model.address
        if model.persistence is not None and model.persistence.group is not None:
            yield Of.PERSISTENCE, model.persistence.group
    elif isinstance(model, PoolConfig):
        for monitor in model.monitors:
            yield Of.MONITOR, monitor
        for address in {node.address for node in model.nodes}:
            yield Of.NODE, address


class View(Protocol):
    """The resources of one group, at one time."""

    def server(self, name: str) -> VirtualServerConfig | None:
        """None: there is none."""

    def pool(self, name: str) -> PoolConfig | None:
        """None: there is none."""

    def names(self, of: Of, value: Any) -> Collection[str]:
        """Of the resources that have the value."""

    def first_server(self, names: Collection[str]) -> str | None:
        """The one that a message names."""


class Around:
    """Grows with everything that is looked at."""

    def __init__(
        self,
        before: View,
        after: View,
        edited: Collection[str],
    ) -> None:
        """*edited*: the virtual servers that changed."""
        self._before, self._after = before, after
        self._edited = edited
        self.servers: set[str] = set()
        self.pools: set[str] = set()
        self.monitors: set[str] = set()
        self._addresses: set[str] = set()  # that were looked at for loops
        self._waiting: list[str] = []  # virtual servers that were not

    def look_at_server(self, name: str) -> None:
        """Add what a changed virtual server touches."""
        for state in (self._before, self._after):
            server = state.server(name)
            if server is None:
                continue
            self._follow_address(server.address)
            if state is self._before:
                continue
            self._add_server(name)
            for other in self._after.names(Of.KEY, server.key):
                self._add_server(other)
            if server.persistence is not None and server.persistence.group is not None:
                self._add_first_of(server.persistence.group)
        self._follow_all()

    def look_at_pool(self, name: str) -> None:
        """Add what a changed pool touches."""
        before, after = self._before.pool(name), self._after.pool(name)
        self._add_pool(name)
        if before is None or after is None or _places(before) != _places(after):
            for server in self._after.names(Of.POOL, name):
                self._add_server(server)
        self._follow_all()

    def look_at_monitor(self, name: str) -> None:
        """Add what a changed monitor touches."""
        self.monitors.add(name)
        for pool in self._after.names(Of.MONITOR, name):
            self._add_pool(pool)

    def _add_first_of(self, persistence_group: str) -> None:
        """Of the others, who all have the same time, the one that a message names."""
        names = self._after.names(Of.PERSISTENCE, persistence_group)
        first = self._after.first_server([name for name in names if name not in self._edited])
        if first is not None:
            self._add_server(first)

    def _add_server(self, name: str) -> None:
        if name not in self.servers:
            self.servers.add(name)
            self._waiting.append(name)
            server = self._after.server(name)
            if server is not None:
                for pool in server.pool_names:
                    self._add_pool(pool)

    def _add_pool(self, name: str) -> None:
        if name not in self.pools:
            self.pools.add(name)
            pool = self._after.pool(name)
            if pool is not None:
                self.monitors.update(pool.monitors)

    # --- virtual servers that are nodes of virtual servers ------------------------------------

    def _follow_all(self) -> None:
        while self._waiting:
            self._follow(self._waiting.pop())

    def _follow(self, name: str) -> None:
        server = self._after.server(name)
        if server is not None:
            self._follow_address(server.address)
            for pool in server.pool_names:
                self._follow_pool(pool)

    def _follow_pool(self, name: str) -> None:
        pool = self._after.pool(name)
        if pool is not None:
            for address in {node.address for node in pool.nodes}:
                self._follow_address(address)

    def _follow_address(self, address: str) -> None:
        """Add what a packet may come by before and after it is sent to here."""
        if address in self._addresses:
            return
        self._addresses.add(address)
        servers = self._after.names(Of.ADDRESS, address)
        pools = self._after.names(Of.NODE, address)
        if servers and pools:
            for server in servers:
                self._add_server(server)
            for pool in pools:
                for server in self._after.names(Of.POOL, pool):
                    self._add_server(server)


def _places(pool: PoolConfig) -> list[tuple[str, str, int | None]]:
    """What rules of virtual servers know of its nodes."""
    return [(node.name, node.address, node.port) for node in pool.nodes]
