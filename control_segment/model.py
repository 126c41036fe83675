# SPDX-License-Identifier: Apache-2.0
"""Pools and virtual servers in force, made from a configuration and carried through reloads.

A configuration has passed every check before it comes here, and putting it in force cannot fail
half-way: it only assigns.  Existing sessions keep their node, translation and timers; whatever was
removed accepts no new ones.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from control_segment.announcements import Changes
from control_segment.config import (
    ControlSegmentConfig,
    PoolConfig,
    SettingsConfig,
    VirtualServerConfig,
)
from control_segment.differences import Difference, Outcome, ServerKey, monitors_changed, whole
from control_segment.flows import FlowTable
from control_segment.health.config import MonitorConfig
from control_segment.nodes import Node
from control_segment.persistence_tables import PersistenceTables
from control_segment.pools import Pool, table_of
from control_segment.references import listed
from control_segment.virtual_servers import VirtualServer, VirtualServers
from csmb.messages import AddVs

# Virtual servers, and pools with their nodes: some 4 ms, during which QUERYs wait.  A reload that
# changes more of them is in force some at a time.
SWITCHED_AT_ONCE: Final = 500
# A step, after which datagrams may be handled; or what is to be done first, beside them: a pure
# function, whose result is wanted back
Step: TypeAlias = Callable[[], object] | None

# Takes the flows that SYNC reports of virtual servers that are no longer configured
_STRANGERS = "(not configured)"
ResultT = TypeVar("ResultT")


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
        self._unfinished: Outcome | None = None
        self.settings = config.settings
        self.monitors: dict[str, MonitorConfig] = {}
        self.pools: dict[str, Pool] = {}
        self.touched: dict[str, Pool] = {}  # with nodes that are not as configured
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
        finish(self.applying(whole(config)))
        self.announced()

    def applying(self, new: Difference) -> Generator[Step, object, Outcome]:
        """Put a (checked) configuration in force, step by step: between two, QUERYs are answered.

        What takes long (new pools and virtual servers, tables) is made first, and changes nothing.
        Then all comes in force in one step; where more than SWITCHED_AT_ONCE pools and virtual
        servers differ, in several, of which each changes some of them whole.
        """
        outcome = self._unfinished or Outcome(Changes([], [], []))
        removed = {pool.name: pool for pool in self.removed_pools}
        entering: dict[str, Pool] = {}  # pools that are new, or come back
        differing: dict[str, PoolConfig] = {}
        tables: list[object] = []  # that pools will want: kept until they are looked up
        for entry in new.pools:
            pool = self.pools.get(entry.name) or removed.get(entry.name)
            if pool is None or not pool.is_as(entry):
                tables.append((yield table_of(entry)))
            if pool is None:
                entering[entry.name] = Pool(entry)
            elif not pool.is_as(entry):
                differing[entry.name] = entry
                if entry.name not in self.pools:
                    entering[entry.name] = pool
            yield None
        arriving: dict[ServerKey, VirtualServer] = {}  # likewise
        different: list[tuple[VirtualServer, VirtualServerConfig]] = []
        pools = ChainMap(entering, self.pools)
        for each in self._looked_at(new):
            parts = _parts(each, pools, new.settings)
            server = self.virtual_servers.get(each.key) or self.removed_servers.get(each.key)
            if server is None:
                server = VirtualServer(each, *parts)
            elif server.removed or not server.is_as(each, *parts):
                different.append((server, each))
            if each.key not in self.virtual_servers:
                arriving[each.key] = server
            yield None
        self._unfinished, outcome.is_torn = outcome, self.is_torn
        yield from self._switch(new, entering, differing, different, outcome)
        yield from self._change_servers(new, arriving, outcome)
        yield from self._retire(new, outcome)
        return outcome

    @property
    def is_torn(self) -> bool:
        """Whether putting a configuration in force has begun and not ended (by `announced`).  If it
        never does, by a mistake of this program, the next one must be a whole one; its outcome has
        both."""
        return self._unfinished is not None

    def announced(self) -> None:
        """Everybody knows the outcome."""
        self._unfinished = None

    def _looked_at(self, new: Difference) -> Iterator[VirtualServerConfig]:
        """The virtual servers that may be other: all, if their idle timeout may be."""
        yield from new.virtual_servers
        old = self.settings
        times = old.tcp_idle_timeout_s, old.udp_idle_timeout_s
        if new.is_whole or times == (
            new.settings.tcp_idle_timeout_s,
            new.settings.udp_idle_timeout_s,
        ):
            return
        named = {each.key for each in new.virtual_servers}.union(new.gone_servers)
        for key, server in tuple(self.virtual_servers.items()):
            if key not in named:
                yield server.config

    def _switch(
        self,
        new: Difference,
        entering: dict[str, Pool],
        differing: dict[str, PoolConfig],
        different: list[tuple[VirtualServer, VirtualServerConfig]],
        outcome: Outcome,
    ) -> Generator[None]:
        """Let pools and virtual servers be what they are to be, and note which were other."""
        settings, table = new.settings, self._table
        outcome.has_settings |= settings != self.settings
        self.settings = settings
        table.capacity = settings.flow_capacity
        table.stats_interval_s = settings.stats_interval_s
        table.session_timeout_s = settings.session_timeout_s
        self.strangers.idle_s = settings.tcp_idle_timeout_s
        for name, each in monitors_changed(self.monitors, new).items():
            outcome.monitors[name] = each
            if each is None:
                self.monitors.pop(name, None)
            else:
                self.monitors[name] = each
        self.pools.update(entering)
        outcome.pools.update(dict.fromkeys(entering.values()))
        outcome.moved.update(dict.fromkeys(entering.values()))
        switched = 0
        # as configured again: nodes that were set, until this moment
        others = {name: pool.config for name, pool in self.touched.items()} | differing
        for name, entry in others.items():
            pool = self.pools[name]
            before = pool.places
            pool.apply(entry)
            self.touched.pop(name, None)
            outcome.pools[pool] = None
            if pool.places != before:
                outcome.moved[pool] = None
            switched += 1 + len(entry.nodes)
            if switched >= SWITCHED_AT_ONCE:
                switched = 0
                yield
        for server, config in different:
            announced = server.announced
            server.apply(config, *_parts(config, self.pools, settings))
            self.persistence.assign(server)
            outcome.servers[server] = None
            if server.announced != announced and not server.removed:
                outcome.announced.changed.append((announced, server.announced))
            switched += 1
            if switched >= SWITCHED_AT_ONCE:
                switched = 0
                yield

    def _change_servers(
        self, new: Difference, arriving: dict[ServerKey, VirtualServer], outcome: Outcome
    ) -> Generator[None]:
        """Let virtual servers leave, arrive and come back."""
        order, leaving = new.server_order, new.gone_servers
        if new.is_whole:
            stay = set(order or ())
            leaving = [key for key in self.virtual_servers if key not in stay]
        switched = 0
        for key in leaving:
            server = self.virtual_servers.pop(key)
            self.matching.remove(server)
            server.removed = True
            self.removed_servers[key] = server
            outcome.announced.gone.append(server.announced)
            outcome.servers[server] = None
            switched += 1
            if switched % SWITCHED_AT_ONCE == 0:
                yield
        for key, server in arriving.items():
            self.removed_servers.pop(key, None)
            self.virtual_servers[key] = server
            server.removed = False
            self.matching.add(server)
            self.persistence.assign(server)
            outcome.announced.added.append(server.announced)
            outcome.servers[server] = None
            switched += 1
            if switched % SWITCHED_AT_ONCE == 0:
                yield
        if order is not None and list(self.virtual_servers) != order:
            self.virtual_servers = {key: self.virtual_servers[key] for key in order}
        self.persistence.settle()

    def _retire(self, new: Difference, outcome: Outcome) -> Generator[None]:
        """Pools that are gone only have living sessions."""
        names = [pool.name for pool in new.pools] if new.is_whole else []
        stay, gone = set(names), new.gone_pools
        if new.is_whole:
            gone = [name for name in self.pools if name not in stay]
        removed = 0
        for name in gone:
            pool = self.pools.pop(name)
            self.touched.pop(name, None)
            removed += 1 + len(pool.nodes)
            pool.remove()
            pool.prune()
            self.removed_pools.append(pool)
            outcome.pools[pool] = outcome.moved[pool] = None
            if removed >= SWITCHED_AT_ONCE:
                removed = 0
                yield
        if new.is_whole and list(self.pools) != names:
            self.pools = {name: self.pools[name] for name in names}
        self.removed_pools = [
            pool for pool in self.removed_pools if pool.leaving and pool.name not in self.pools
        ]
        self._forget_servers(outcome)

    def announcements(self) -> list[AddVs]:
        """Return what DFSs must know of the virtual servers."""
        return [server.announced for server in self.virtual_servers.values()]

    def prune(self) -> Outcome:
        """Forget removed virtual servers, pools and nodes whose last session has ended."""
        outcome = Outcome(Changes([], [], []))
        for pool in self.every_pool():
            before = len(pool.leaving)
            if before:
                pool.prune()
                if len(pool.leaving) < before:
                    outcome.moved[pool] = None
        self.removed_pools = [pool for pool in self.removed_pools if pool.leaving]
        self._forget_servers(outcome)
        return outcome

    def _forget_servers(self, outcome: Outcome) -> None:
        for key, server in tuple(self.removed_servers.items()):
            if not server.has_sessions:
                del self.removed_servers[key]
                self.persistence.release(server)
                outcome.servers[server] = None

    def every_server(self) -> list[VirtualServer]:
        """All virtual servers, also those that only have living sessions."""
        return [*self.virtual_servers.values(), *self.removed_servers.values()]

    def has(self, server: VirtualServer) -> bool:
        """Whether it is one of them."""
        found = self.removed_servers if server.removed else self.virtual_servers
        return found.get(server.config.key) is server

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
        nodes = pool.set_nodes(names, weight=weight, state=state)
        self.touched[pool_name] = pool
        return nodes


def _parts(
    entry: VirtualServerConfig, pools: Mapping[str, Pool], settings: SettingsConfig
) -> tuple[Pool, int, Pool | None, list[Pool]]:
    """What a virtual server is made of beside its own entry: pool, idle timeout, fallback pool,
    its rules' pools."""
    tcp = entry.protocol == "tcp"
    idle_s = settings.tcp_idle_timeout_s if tcp else settings.udp_idle_timeout_s
    fallback = None if entry.fallback_pool is None else pools[entry.fallback_pool]
    named = (name for rule in entry.rules for name in (rule.pool, rule.fallback_pool))
    of_rules = [pools[name] for name in dict.fromkeys(named) if name is not None]
    return pools[entry.pool], idle_s, fallback, of_rules
