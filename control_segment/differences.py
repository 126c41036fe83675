# SPDX-License-Identifier: Apache-2.0
"""What another configuration has other than the one in force, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from control_segment.announcements import Changes
from control_segment.config import GroupConfig, PoolConfig, SettingsConfig, VirtualServerConfig
from control_segment.health.config import MonitorConfig
from control_segment.pools import Pool
from control_segment.virtual_servers import VirtualServer

ServerKey: TypeAlias = tuple[str, int | str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Resources that may be new or other, in their order, and those that are gone.

    Whoever takes it does work for what is named here only.
    """

    settings: SettingsConfig
    monitors: Sequence[MonitorConfig] = ()
    pools: Sequence[PoolConfig] = ()
    virtual_servers: Sequence[VirtualServerConfig] = ()
    gone_monitors: Collection[str] = ()
    gone_pools: Collection[str] = ()
    gone_servers: Collection[ServerKey] = ()
    # All, where one has another key or name and its place; None: those that are new come last
    server_order: Sequence[ServerKey] | None = None
    is_whole: bool = False  # these are all that there are: whatever is not named is gone


def whole(config: GroupConfig) -> Difference:
    """All of a configuration, of which most may be as it was."""
    return Difference(
        settings=config.settings,
        monitors=config.monitors,
        pools=config.pools,
        virtual_servers=config.virtual_servers,
        server_order=[each.key for each in config.virtual_servers],
        is_whole=True,
    )


def between(old: GroupConfig, new: GroupConfig) -> Difference:
    """What is other in a configuration, of which pools and virtual servers that are as they were
    are the same objects, as a rule: those that are not are looked at."""
    pools_before = {pool.name: pool for pool in old.pools}
    pools = {pool.name: pool for pool in new.pools}
    before = {server.name: server for server in old.virtual_servers}
    servers = {server.name: server for server in new.virtual_servers}
    if not (_keep_places(pools_before, pools) and _keep_places(before, servers)):
        return whole(new)
    changed = [server for name, server in servers.items() if before.get(name) is not server]
    left = [server for name, server in before.items() if servers.get(name) is not server]
    keys = {server.key for server in changed}
    gone = [server.key for server in left if server.key not in keys]
    names = {monitor.name for monitor in new.monitors}
    return Difference(
        settings=new.settings,
        monitors=new.monitors,
        pools=[pool for name, pool in pools.items() if pools_before.get(name) is not pool],
        virtual_servers=changed,
        gone_monitors=[each.name for each in old.monitors if each.name not in names],
        gone_pools=[name for name in pools_before if name not in pools],
        gone_servers=gone,
        server_order=order_of(left, changed, new),
    )


def order_of(
    left: Iterable[VirtualServerConfig], changed: Iterable[VirtualServerConfig], now: GroupConfig
) -> list[ServerKey] | None:
    """`server_order`: *left* were there and are gone or other, *changed* are new or other."""
    pairs = {(each.name, each.key) for each in left}
    names, keys = dict(pairs), {key: name for name, key in pairs}
    for each in changed:
        if names.get(each.name, each.key) != each.key or keys.get(each.key, each.name) != each.name:
            return [server.key for server in now.virtual_servers]
    return None


def _keep_places(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether what stays has its place, and what is new comes last."""
    stay = [name for name in before if name in after]
    return [*stay, *(name for name in after if name not in before)] == list(after)


@dataclass(slots=True)
class Outcome:
    """What is other in the model now."""

    announced: Changes  # what DFSs are to be told
    is_torn: bool = (
        False  # an earlier one has not been carried to its end: they need the whole list
    )
    has_settings: bool = False  # other ones
    monitors: dict[str, MonitorConfig | None] = field(default_factory=dict)  # None: gone
    pools: dict[Pool, None] = field(default_factory=dict)  # also those that are new or gone
    servers: dict[VirtualServer, None] = field(default_factory=dict)  # likewise
    moved: dict[Pool, None] = field(default_factory=dict)  # whose nodes are at other places
    _nodes_give_up: bool = False  # some do, as far as `look_at` has seen

    @property
    def ends_flows(self) -> bool:
        """Whether some of the flows that there are may have to end."""
        return self.has_settings or bool(self.servers) or self._nodes_give_up

    def look_at(self, pools: Iterable[Pool]) -> None:
        """See whether nodes of these, which are among `pools`, give up their flows."""
        self._nodes_give_up = self._nodes_give_up or any(
            node.removed or node.is_down or node.is_dead or node.drained
            for pool in pools
            for node in pool.every_node()
        )


def monitors_changed(
    known: Mapping[str, MonitorConfig], new: Difference
) -> dict[str, MonitorConfig | None]:
    """Which monitors are new, other or gone."""
    named = {each.name: each for each in new.monitors}
    gone = known.keys() - named.keys() if new.is_whole else set(new.gone_monitors)
    changed: dict[str, MonitorConfig | None] = dict.fromkeys(sorted(gone))
    changed.update((name, each) for name, each in named.items() if known.get(name) != each)
    return changed
