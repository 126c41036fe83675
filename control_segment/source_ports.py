# SPDX-License-Identifier: Apache-2.0
"""Source ports for virtual servers that translate the source.

Two sessions to one node must not share (address, port, protocol) after translation, or the node's
answers could not be distinguished.  The client's own port is kept where it is free.

For LINGER after a connection ended its DFS still translates late packets, and the node may be in
TIME_WAIT for longer.  So a port that was given back is taken again last, the one that has rested
longest first.  A DFS whose entry still lingers replaces it (wire protocol 9.2).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from control_segment.nodes import Node
from control_segment.pools import Pool
from control_segment.virtual_servers import Source, VirtualServer
from control_segment.wire import PROTOCOL, dst_port_of, src_port_of

# Where a translated source must be unique: our address, node address, node port, protocol
Scope: TypeAlias = tuple[bytes, bytes, int, int]


RESTING_MAX: Final = 4096
"""Of one scope; 2,000 connections a second end within LINGER before one is forgotten too soon."""


class _Ports:
    """Of one scope."""

    __slots__ = ("full", "next", "resting", "used")

    def __init__(self) -> None:
        self.used: dict[int, SourcePort] = {}  # whose it is: the latest that had a claim
        self.resting: OrderedDict[int, None] = OrderedDict()  # given back, the first one first
        self.next: int | None = None
        self.full: tuple[int, int] | None = None  # this range, until a port is given back

    def is_full(self, first: int, last: int) -> bool:
        """Whether all ports from first to last are in use; searched once until one is released."""
        if self.full == (first, last):
            return True
        if len(self.used) <= last - first or any(
            port not in self.used for port in range(first, last + 1)
        ):
            return False
        self.full = first, last
        return True

    def mark(self, number: int) -> SourcePort:
        self.resting.pop(number, None)
        port = self.used[number] = SourcePort(number, self)
        return port


class SourcePort:
    """One port in use."""

    __slots__ = ("_ports", "number")

    def __init__(self, number: int, ports: _Ports) -> None:
        self.number = number
        self._ports = ports

    def release(self) -> None:
        """Give it back."""
        used, resting = self._ports.used, self._ports.resting
        if used.get(self.number) is self:  # and not another one's by now
            del used[self.number]
            self._ports.full = None
            if len(resting) >= RESTING_MAX:
                resting.popitem(last=False)
            resting[self.number] = None


class SourcePorts:
    """Which ports are in use, for every scope."""

    def __init__(self) -> None:
        self._scopes: dict[Scope, _Ports] = {}

    def take(self, scope: Scope, wanted: int, first: int, last: int) -> SourcePort | None:
        """Return a port from first to last, *wanted* if it is free; None: all are in use."""
        ports = self._of(scope)
        used, resting = ports.used, ports.resting
        if first <= wanted <= last and wanted not in used and wanted not in resting:
            return ports.mark(wanted)
        if ports.is_full(first, last):
            return None
        size = last - first + 1
        # Each port of the range stands in one of the two at most once, so one that is in neither is
        # soon found, and a full range is known without a search.
        if len(used) + len(resting) < size or not all(
            port in used or port in resting for port in range(first, last + 1)
        ):
            number = first if ports.next is None else ports.next
            for _ in range(size):
                number = number + 1 if first <= number < last else first
                if number not in used and number not in resting:
                    ports.next = number
                    return ports.mark(number)
        for number in resting:
            if first <= number <= last:
                return ports.mark(number)
        return None

    def is_used(self, scope: Scope, number: int) -> bool:
        """Whether a session has this port."""
        return number in self._of(scope).used

    def adopt(self, scope: Scope, number: int) -> SourcePort:
        """Mark a port that a flow from before our start uses."""
        return self._of(scope).mark(number)

    def take_for(
        self, source: Source, server: VirtualServer, node: Node, key: bytes
    ) -> SourcePort | None:
        """Return a port for a session with a node; None: there is none."""
        wanted = int.from_bytes(src_port_of(key), "big")
        ports = source.first_port, source.last_port
        return self.take(_scope(source, server, node, key), wanted, *ports)

    def another_node(
        self, source: Source, server: VirtualServer, pool: Pool, key: bytes, now: float
    ) -> Node | None:
        """Return the node that a pool's method chooses among those that a source port is left
        for."""
        ports = source.first_port, source.last_port
        without = [
            node
            for node in pool.nodes.values()
            if node.has_room and self._of(_scope(source, server, node, key)).is_full(*ports)
        ]
        for node in without:
            node.has_room = False
        try:
            return pool.method.pick(key, now)
        finally:
            for node in without:
                node.has_room = True

    def _of(self, scope: Scope) -> _Ports:
        ports = self._scopes.get(scope)
        if ports is None:
            ports = self._scopes[scope] = _Ports()
        return ports


def _scope(source: Source, server: VirtualServer, node: Node, key: bytes) -> Scope:
    server_port = int.from_bytes(dst_port_of(key), "big")
    node_port = node.port if node.port and server.config.translates_port else server_port
    return source.address, node.address, node_port, key[PROTOCOL]
