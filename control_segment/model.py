# SPDX-License-Identifier: Apache-2.0
"""Pools and virtual servers in force, made from a configuration and carried through reloads.

A configuration has passed every check before it comes here, and putting it in force cannot fail
half-way: it only assigns.  Existing sessions keep their node, translation and timers; whatever was
removed accepts no new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import chain
from typing import Final, TypeAlias, TypeVar

from admin.answers import WEIGHT_MAX
from control_segment.announcements import Changes
from control_segment.config import (
    ControlSegmentConfig,
    PoolConfig,
    SettingsConfig,
    VirtualServerConfig,
)
from control_segment.flows import FlowTable
from control_segment.nodes import Node, NodeState
from control_segment.persistence_tables import PersistenceTables
from control_segment.pools import Pool, table_of
from control_segment.references import listed
from control_segment.virtual_servers import VirtualServer, VirtualServers
from csmb.messages import AddVs

# Virtual servers, and pools with their nodes: some 5 ms, during which QUERYs wait.  A reload that
# changes more of them is in force some at a time.
SWITCHED_AT_ONCE: Final = 1000
# A step, after which datagrams may be handled; or what is to be done first, beside them: a pure
# function, whose result is wanted back
Step: TypeAlias = Callable[[], object] | None

# Takes the flows that SYNC reports of virtual servers that are no longer configured
_STRANGERS = "(not configured)"
ResultT = TypeVar("ResultT")


ServerKey: TypeAlias = tuple[str, int | str, str]


def finish(steps: Generator[Step, object, ResultT]) -> ResultT:
    """Do all steps at once; return what they return."""
    made: object = None
    while True:
        try:
            step = steps.send(made)
            made = None if step is None else step()
        except StopIteration as end:
            result: ResultT = end.value
            return result


class Model:
    """Everything that a reload replaces."""

    def __init__(self, config: ControlSegmentConfig, table: FlowTable) -> None:
        self._table = table
        self.pools: dict[str, Pool] = {}
        self.removed_pools: list[Pool] = []
        self.virtual_servers: dict[ServerKey, VirtualServer] = {}
        # Those that left with living sessions, which count when it comes back
        self.removed_servers: dict[ServerKey, VirtualServer] = {}
        self.matching = VirtualServers([])
        self.persistence = PersistenceTables()
        strangers = VirtualServerConfig(
            name="strangers", address="*", port="*", protocol="tcp", pool="strangers"
        )
        pool = Pool(PoolConfig(name="strangers"))
        idle_s = config.settings.tcp_idle_timeout_s
        self.strangers = VirtualServer(strangers, pool, idle_s)
        self.strangers.name = pool.name = _STRANGERS
        finish(self.applying(config))

    def applying(self, config: ControlSegmentConfig) -> Generator[Step, object, Changes]:
        """Put a (checked) configuration in force, step by step: between two, QUERYs are answered.

        What takes long (new pools and virtual servers, tables) is made first, and changes nothing.
        Then all comes in force in one step; where more than SWITCHED_AT_ONCE pools and virtual
        servers differ, in several, of which each changes some of them whole.
        """
        known_pools = {pool.name: pool for pool in self.removed_pools} | self.pools
        pools: dict[str, Pool] = {}
        differing: dict[str, object] = {}  # pools by name, with the tables that they will want
        for entry in config.pools:
            pool = known_pools.get(entry.name)
            if pool is None or not pool.is_as(entry):
                differing[entry.name] = yield table_of(entry)
            pools[entry.name] = pool or Pool(entry)
            if pool is None:
                del differing[entry.name]  # it is as it is to be
            yield None
        known = self.removed_servers | self.virtual_servers
        servers: dict[ServerKey, VirtualServer] = {}
        different: list[tuple[VirtualServer, VirtualServerConfig]] = []
        added: list[AddVs] = []
        matching = VirtualServers([])
        for each in config.virtual_servers:
            pool, idle_s = pools[each.pool], _idle_s(each, config.settings)
            server = known.get(each.key)
            if server is None:
                server = VirtualServer(each, pool, idle_s)
                added.append(server.announced)
            elif server.removed or not server.is_as(each, pool, idle_s):
                different.append((server, each))
            servers[each.key] = server
            matching.add(server)
            yield None
        changed = yield from self._switch(config, pools, differing, different)
        back = [server for server in servers.values() if server.removed]
        gone = {key: server for key, server in self.virtual_servers.items() if key not in servers}
        self.virtual_servers = servers
        left = chain(self.removed_servers.values(), gone.values())
        self.persistence.assign(chain(left, servers.values()))
        self.matching.become(matching)
        for server in back:
            server.removed = False
            added.append(server.announced)
        for server in gone.values():
            server.removed = True
        removed = {key: it for key, it in self.removed_servers.items() if it.removed}
        self.removed_servers = removed | gone
        yield from self._retire(pools)
        return Changes([server.announced for server in gone.values()], added, changed)

    def _switch(
        self,
        config: ControlSegmentConfig,
        pools: dict[str, Pool],
        differing: dict[str, object],
        different: list[tuple[VirtualServer, VirtualServerConfig]],
    ) -> Generator[None, object, list[tuple[AddVs, AddVs]]]:
        """Return the announcements that are other ones, each with the one before."""
        self.config, settings, table = config, config.settings, self._table
        table.capacity = settings.flow_capacity
        table.stats_interval_s = settings.stats_interval_s
        table.session_timeout_s = settings.session_timeout_s
        self.strangers.idle_s = settings.tcp_idle_timeout_s
        switched = 0
        for entry in config.pools:
            pool = pools[entry.name]
            if entry.name in differing or pool.is_touched:
                pool.apply(entry)
                switched += 1 + len(entry.nodes)
                if switched >= SWITCHED_AT_ONCE:
                    switched = 0
                    yield
        changed = []
        for server, each in different:
            before = server.announced
            server.apply(each, pools[each.pool], _idle_s(each, settings))
            if server.announced != before and not server.removed:
                changed.append((before, server.announced))
            switched += 1
            if switched >= SWITCHED_AT_ONCE:
                switched = 0
                yield
        return changed

    def _retire(self, pools: dict[str, Pool]) -> Generator[None, object, None]:
        """These are the pools now; others only have living sessions."""
        gone = [pool for name, pool in self.pools.items() if name not in pools]
        self.removed_pools = [pool for pool in self.removed_pools if pool.name not in pools]
        self.pools = pools
        removed = 0
        for pool in gone:
            removed += 1 + len(pool.nodes)
            pool.remove()
            self.removed_pools.append(pool)
            if removed >= SWITCHED_AT_ONCE:
                removed = 0
                yield
        self.prune()

    def announcements(self) -> list[AddVs]:
        """Return what DFSs must know of the virtual servers."""
        return [server.announced for server in self.virtual_servers.values()]

    def prune(self) -> None:
        """Forget removed virtual servers, pools and nodes whose last session has ended."""
        for pool in self.every_pool():
            if pool.leaving:
                pool.prune()
        self.removed_pools = [pool for pool in self.removed_pools if pool.leaving]
        if self.removed_servers:
            left = self.removed_servers.items()
            self.removed_servers = {key: server for key, server in left if server.has_sessions}

    def every_pool(self) -> list[Pool]:
        """All pools, also those that only have living sessions."""
        return [*self.pools.values(), *self.removed_pools, self.strangers.pool]

    def every_node(self) -> list[Node]:
        """All nodes of all pools."""
        return [node for pool in self.every_pool() for node in pool.every_node()]

    def set_nodes(
        self, pool_name: str, names: Sequence[str], *, weight: int | None, state: str | None
    ) -> list[Node]:
        """Change nodes until the next reload, all or none; the reaper ends what one that is down
        gives up."""
        pool = self.pools.get(pool_name)
        if pool is None:
            raise ValueError(f"there is no pool {pool_name!r}; there are: {listed(self.pools)}")
        for name in names:
            if name not in pool.nodes:
                raise ValueError(
                    f"pool {pool_name} has no node {name!r}; it has: {listed(pool.nodes)}"
                )
        if weight is not None and not 0 <= weight <= WEIGHT_MAX:
            raise ValueError(f"weight must be 0 to {WEIGHT_MAX}, not {weight}")
        if state is not None and state not in (known.value for known in NodeState):
            raise ValueError(f"state must be enabled, draining or down, not {state!r}")
        nodes = [pool.nodes[name] for name in names]
        for node in nodes:
            if weight is not None:
                node.weight = weight
            if state is not None:
                node.set_state(NodeState(state))
        pool.node_changed()
        return nodes


def _idle_s(entry: VirtualServerConfig, settings: SettingsConfig) -> int:
    tcp = entry.protocol == "tcp"
    return settings.tcp_idle_timeout_s if tcp else settings.udp_idle_timeout_s
