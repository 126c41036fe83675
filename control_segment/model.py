# SPDX-License-Identifier: Apache-2.0
"""Pools and virtual servers in force, made from a configuration and carried through reloads.

A configuration has passed every check before it comes here, and `apply` cannot fail half-way: it
only assigns.  Existing sessions keep their node, translation and timers; whatever was removed
accepts no new ones.
"""

from __future__ import annotations

from control_segment.config import (
    ControlSegmentConfig,
    PoolConfig,
    SettingsConfig,
    VirtualServerConfig,
)
from control_segment.flows import FlowTable
from control_segment.nodes import Node, NodeState
from control_segment.pools import Pool
from control_segment.references import listed
from control_segment.virtual_servers import VirtualServer, VirtualServers
from csmb.messages import AddVs

# Takes the flows that SYNC reports of virtual servers that are no longer configured
_STRANGERS = "(not configured)"


class Model:
    """Everything that a reload replaces."""

    def __init__(self, config: ControlSegmentConfig, table: FlowTable) -> None:
        self._table = table
        self.pools: dict[str, Pool] = {}
        self.removed_pools: list[Pool] = []
        self.virtual_servers: dict[tuple[str, int | str, str], VirtualServer] = {}
        self.matching = VirtualServers([])
        strangers = VirtualServerConfig(
            name="strangers", address="*", port="*", protocol="tcp", pool="strangers"
        )
        pool = Pool(PoolConfig(name="strangers"))
        idle_s = config.settings.tcp_idle_timeout_s
        self.strangers = VirtualServer(strangers, pool, idle_s)
        self.strangers.name = pool.name = _STRANGERS
        self.apply(config)

    def apply(self, config: ControlSegmentConfig) -> None:
        """Put a configuration in force."""
        self.config = config
        table, settings = self._table, config.settings
        table.capacity = settings.flow_capacity
        table.stats_interval_s = settings.stats_interval_s
        table.session_timeout_s = settings.session_timeout_s
        self.strangers.idle_s = settings.tcp_idle_timeout_s
        self._apply_pools(config)
        before, self.virtual_servers = dict(self.virtual_servers), {}
        for entry in config.virtual_servers:
            pool, idle_s = self.pools[entry.pool], _idle_s(entry, settings)
            server = before.pop(entry.key, None)
            if server is None:
                server = VirtualServer(entry, pool, idle_s)
            else:
                server.apply(entry, pool, idle_s)
            self.virtual_servers[entry.key] = server
        for server in before.values():
            server.removed = True
        self.matching = VirtualServers(list(self.virtual_servers.values()))

    def _apply_pools(self, config: ControlSegmentConfig) -> None:
        before, self.pools = self.pools, {}
        for entry in config.pools:
            pool = before.pop(entry.name, None)
            if pool is None:
                pool = Pool(entry)
            else:
                pool.apply(entry)
            self.pools[entry.name] = pool
        for pool in before.values():
            pool.remove()
            self.removed_pools.append(pool)
        self.prune()

    def announcements(self) -> list[AddVs]:
        """Return what DFSs must know of the virtual servers."""
        return [server.announcement() for server in self.virtual_servers.values()]

    def prune(self) -> None:
        """Forget removed pools and nodes whose last session has ended."""
        for pool in self.every_pool():
            if pool.leaving:
                pool.prune()
        self.removed_pools = [pool for pool in self.removed_pools if pool.leaving]

    def every_pool(self) -> list[Pool]:
        """All pools, also those that only have living sessions."""
        return [*self.pools.values(), *self.removed_pools, self.strangers.pool]

    def every_node(self) -> list[Node]:
        """All nodes of all pools."""
        return [node for pool in self.every_pool() for node in pool.every_node()]

    def set_node(
        self, pool_name: str, node_name: str, *, weight: int | None, state: str | None
    ) -> Node:
        """Change a node until the next reload; the reaper ends what one that is down gives up."""
        pool = self.pools.get(pool_name)
        if pool is None:
            raise ValueError(f"there is no pool {pool_name!r}; there are: {listed(self.pools)}")
        node = pool.nodes.get(node_name)
        if node is None:
            raise ValueError(
                f"pool {pool_name} has no node {node_name!r}; it has: {listed(pool.nodes)}"
            )
        if weight is not None and not 0 <= weight <= 1000:
            raise ValueError(f"weight must be 0 to 1000, not {weight}")
        if state is not None and state not in (known.value for known in NodeState):
            raise ValueError(f"state must be enabled, draining or down, not {state!r}")
        if weight is not None:
            node.weight = weight
        if state is not None:
            node.set_state(NodeState(state))
        pool.candidates_changed()
        return node


def _idle_s(entry: VirtualServerConfig, settings: SettingsConfig) -> int:
    tcp = entry.protocol == "tcp"
    return settings.tcp_idle_timeout_s if tcp else settings.udp_idle_timeout_s
