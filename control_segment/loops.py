# SPDX-License-Identifier: Apache-2.0
"""Virtual servers whose packets come back: one whose node is itself, two that are each other's.

A packet of such a flow goes round until its time to live ends.  Addresses `*` are left out: a
virtual server at `*` never catches what another one sends to a node, because that comes from the
inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from control_segment.parts import NodePart, PoolPart, ServerPart

# Where a packet is sent: address, port, protocol.  The port 0 is one that the file does not name.
_Destination: TypeAlias = tuple[str, int, str]
_OTHER_PORT: Final = 0


class Loop(NamedTuple):
    """The virtual servers that a packet comes by before it is where it began, and the node by which
    it leaves the first of them."""

    servers: tuple[ServerPart, ...]
    node: NodePart


class _Step(NamedTuple):
    server: ServerPart
    node: NodePart
    to: _Destination


def find_loop(servers: Sequence[ServerPart], pools: Mapping[str, PoolPart]) -> Loop | None:
    """Return the first there is; every server's pools are in *pools*."""
    return _Search(servers, pools).run()


class _Search:
    def __init__(self, servers: Sequence[ServerPart], pools: Mapping[str, PoolPart]) -> None:
        addresses = {server.address for server in servers}
        # of all pools, the nodes that are virtual servers; as a rule there are none
        self._nodes = {
            name: nodes
            for name, pool in pools.items()
            if (nodes := [node for node in pool.nodes if node.address in addresses])
        }
        self._servers = [
            server for server in servers if not self._nodes.keys().isdisjoint(server.pool_names)
        ]
        self._by_key = {server.key: server for server in servers}
        self._ports = {server.port for server in servers if isinstance(server.port, int)}
        self._without_loop: set[_Destination] = set()

    def run(self) -> Loop | None:
        for server in self._servers:
            if server.address == "*":
                continue
            ports = [server.port] if isinstance(server.port, int) else [*self._ports, _OTHER_PORT]
            for port in ports:
                start = server.address, port, server.protocol
                if self._match(start) is server and (loop := self._from(start)) is not None:
                    return loop
        return None

    def _from(self, start: _Destination) -> Loop | None:
        """Follow every way from here, each place once."""
        way: list[_Step] = []
        waiting = [self._steps(start)]
        on_the_way = {start: 0}
        while waiting:
            step = next(waiting[-1], None)
            if step is None:
                waiting.pop()
                self._without_loop.add(on_the_way.popitem()[0])
                if way:
                    way.pop()
            elif step.to in on_the_way:
                round_ = [*way, step][on_the_way[step.to] :]
                return Loop(tuple(one.server for one in round_), round_[0].node)
            elif step.to not in self._without_loop:
                way.append(step)
                on_the_way[step.to] = len(way)
                waiting.append(self._steps(step.to))
        return None

    def _steps(self, at: _Destination) -> Iterator[_Step]:
        server = self._match(at)
        if server is None:
            return
        for node in chain.from_iterable(self._nodes.get(pool, ()) for pool in server.pool_names):
            if not server.translates_address:
                # by address or link to a node that is this DFS: the packet comes as it went
                if server.forward_mode != "nat":
                    yield _Step(server, node, at)
                continue
            port = node.port if node.port is not None and server.translates_port else at[1]
            yield _Step(server, node, (node.address, port, server.protocol))

    def _match(self, at: _Destination) -> ServerPart | None:
        address, port, protocol = at
        return self._by_key.get((address, port, protocol)) or self._by_key.get(
            (address, "*", protocol)
        )
