# SPDX-License-Identifier: Apache-2.0
"""What monitors have found, and what follows for nodes (docs/design/0011, Monitors).

    monitoring.configure(monitors, pools)   # these are new, other or gone
    monitoring.follow(claims)               # whether this CS is the one that probes
    monitoring.take_order()                 # for whoever probes
    monitoring.came([(target, said)], now)  # from there, or from the CS that probes
    monitoring.handle_timer(now)            # at monitoring.get_timer()

A node takes new sessions if its state allows it and every monitor of its pool finds it up.  What is
decided here is only that; `control_segment.health` decides when a target is up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from admin.happened import Happened
from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Said
from control_segment.health.orders import Order
from control_segment.health.targets import Target, fingerprint
from control_segment.health_news import HealthNews
from control_segment.node_health import RAMP_LEAST, apply, target_of, together
from control_segment.nodes import Node
from control_segment.pools import Pool

AT_ONCE: Final = 500  # nodes: some ms, during which QUERYs wait
RAMP_S: Final = 0.5  # between two steps of slow start
_END: Final = object()
_UNKNOWN: Final = Said()


class _Tracked:
    """A target, and the nodes that depend on it."""

    __slots__ = ("monitor", "nodes")

    def __init__(self, monitor: MonitorConfig) -> None:
        self.monitor = monitor
        self.nodes: dict[Node, Pool] = {}


class Monitoring:
    """Of one CS."""

    def __init__(
        self,
        monitors: Mapping[str, MonitorConfig],
        pools: Callable[[], Mapping[str, Pool]],
        happened: list[Happened],
        nodes_changed: Callable[[float], None],
        now: float,
        *,
        is_shared: bool = False,
    ) -> None:
        """`pools`: those in force; `nodes_changed`: some take sessions now, or no longer;
        `is_shared`: there are other CSs, which are told (`control_segment.group`)."""
        self._pools = pools
        self._news = HealthNews(happened)
        self._nodes_changed = nodes_changed
        self._now = now
        self._monitors: dict[str, MonitorConfig] = {}
        self._targets: dict[Target, _Tracked] = {}
        self._said: dict[Target, Said] = {}  # what is not there is not known
        self.changes = 0  # rises with what is said
        self.is_shared = is_shared
        self.fingerprints: dict[int, Target] = {}  # if it is shared
        self.untold: dict[Target, Said] = {}  # what has changed since it was taken
        self._to_watch: deque[Target] = deque()
        self._to_forget: deque[Target] = deque()
        self._probes = False
        self._ramping: dict[Node, tuple[Pool, float]] = {}
        self._next_ramp = now
        self._steps: Iterator[None] | None = None
        # What each pool's nodes depend on, and the pools that a monitor looks after
        self._of: dict[Pool, list[tuple[Target, Node]]] = {}
        self._named: dict[Pool, tuple[str, ...]] = {}
        self._users: dict[str, dict[Pool, None]] = {}
        self._waiting: dict[Pool, None] = {}  # to be looked at
        self._orphans: dict[Target, None] = {}  # that no node may depend on any more
        self.configure(monitors, pools().values())

    # --- configuration ---------------------------------------------------------------------------

    def configure(
        self, monitors: Mapping[str, MonitorConfig | None], pools: Iterable[Pool]
    ) -> None:
        """Monitors and pools are new, other or gone; what is known of unchanged targets stays."""
        for name, monitor in monitors.items():
            if monitor is None:
                self._monitors.pop(name, None)
            else:
                self._monitors[name] = monitor
            self._waiting.update(self._users.get(name, {}))
        self._waiting.update(dict.fromkeys(pools))
        if self._waiting and self._steps is None:
            self._steps = self._configuring()

    def _configuring(self) -> Iterator[None]:
        size = 0
        while self._waiting or self._orphans:
            while self._waiting:
                pool = next(iter(self._waiting))
                del self._waiting[pool]
                for done in self._follow(pool):
                    size += done
                    if size >= AT_ONCE:
                        size = 0
                        yield
            while self._orphans:
                self._forget(self._orphans.popitem()[0])
                size += 1
                if size >= AT_ONCE:
                    size = 0
                    yield

    def _follow(self, pool: Pool) -> Iterator[int]:
        """Let a pool's nodes depend on what its monitors look at; yields how many nodes were looked
        at."""
        is_there = not pool.removed
        self._name(pool, pool.monitors if is_there else ())
        old, new = self._of.pop(pool, []), list[tuple[Target, Node]]()
        monitors = [self._monitors[name] for name in pool.monitors if name in self._monitors]
        nodes = list(pool.nodes.values()) if is_there else []
        for start in range(0, len(nodes), AT_ONCE):
            some = nodes[start : start + AT_ONCE]
            new += [(self._watch(each, pool, node), node) for each in monitors for node in some]
            yield len(some)
        if new:
            self._of[pool] = new
        for target, node in set(old).difference(new) if old else ():
            members = self._targets[target].nodes
            members.pop(node, None)
            if not members:
                self._orphans[target] = None
        looked_at = [node for node in nodes if pool.monitors or node.health is not None]
        for start in range(0, len(looked_at), AT_ONCE):
            some = looked_at[start : start + AT_ONCE]
            self._judge([(pool, node) for node in some], self._now)
            yield len(some)
        yield 1

    def _name(self, pool: Pool, names: tuple[str, ...]) -> None:
        """A pool names these monitors now."""
        for name in self._named.pop(pool, ()):
            self._users[name].pop(pool, None)
        if names:
            self._named[pool] = names
        for name in names:
            self._users.setdefault(name, {})[pool] = None

    def _watch(self, monitor: MonitorConfig, pool: Pool, node: Node) -> Target:
        """Let a node depend on what a monitor looks at."""
        target = target_of(monitor, node)
        tracked = self._targets.get(target)
        if tracked is None or tracked.monitor != monitor:
            self._to_watch.append(target)
        if tracked is None:
            tracked = self._targets[target] = _Tracked(monitor)
            if self.is_shared:
                self.fingerprints[fingerprint(target)] = target
        tracked.monitor = monitor
        tracked.nodes[node] = pool
        return target

    def restore(self, said: Mapping[int, Said], now: float) -> int:
        """What an earlier process knew of targets, by their fingerprints; return how many of them
        are looked at still.  At the start, when nobody waits: all nodes are judged at once."""
        self._now = now
        while self._steps is not None:
            if next(self._steps, _END) is _END:
                self._steps = None
        news = [
            (target, said[each])
            for target in self._targets
            if (each := fingerprint(target)) in said
        ]
        self.came(news, now)
        return len(news)

    def _forget(self, target: Target) -> None:
        """Unless a node depends on it again."""
        tracked = self._targets.get(target)
        if tracked is not None and not tracked.nodes:
            del self._targets[target]
            self._said.pop(target, None)
            self._to_forget.append(target)
            if self.is_shared:
                self.fingerprints.pop(fingerprint(target), None)

    # --- who probes ------------------------------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to probe."""
        return self._probes and bool(self._targets)

    @property
    def has_order(self) -> bool:
        """Whether `take_order` has one."""
        return self._probes and bool(self._to_watch or self._to_forget)

    @property
    def probes(self) -> bool:
        """Whether this CS does: while it claims to be the active one (wire protocol 11.5)."""
        return self._probes

    def follow(self, *, claims: bool) -> None:
        """The role may have changed."""
        if claims != self._probes:
            self._probes = self._news.is_told = claims
            self.untold.clear()
            self.order_all()

    def order_all(self) -> None:
        """Whoever probes knows nothing yet."""
        self._to_forget.clear()
        self._to_watch = deque(self._targets)

    def known(self) -> list[tuple[Target, Said]]:
        """Return all that is said of targets."""
        return list(self._said.items())

    def take_order(self) -> Order:
        """Return some of what is to be done, once."""
        forget: list[Target] = []
        watch: list[tuple[Target, MonitorConfig, Said]] = []
        while self._to_forget and len(forget) < AT_ONCE:
            target = self._to_forget.popleft()
            if target not in self._targets:
                forget.append(target)
        while self._to_watch and len(watch) < AT_ONCE:
            target = self._to_watch.popleft()
            tracked = self._targets.get(target)
            if tracked is not None:
                watch.append((target, tracked.monitor, self._said.get(target, _UNKNOWN)))
        return Order(forget, watch)

    # --- what is found ---------------------------------------------------------------------------

    def came(self, news: Iterable[tuple[Target, Said]], now: float) -> None:
        """Something else is said of targets; those that are not known are no longer watched."""
        members: dict[Node, Pool] = {}
        for target, said in news:
            tracked = self._targets.get(target)
            before = self._said.get(target, _UNKNOWN)
            if tracked is not None and before != said:
                if said.warning and said.warning != before.warning and tracked.nodes:
                    node, pool = next(iter(tracked.nodes.items()))
                    self._news.warn(target, said.warning, pool, node, now)
                self._said[target] = said
                self.changes += 1
                if self.is_shared and self._probes:
                    self.untold[target] = said
                members |= tracked.nodes
        self._judge([(pool, node) for node, pool in members.items()], now)

    def _judge(self, members: Iterable[tuple[Pool, Node]], now: float) -> None:
        """Let nodes have what follows from their targets."""
        touched: dict[str, Pool] = {}
        for pool, node in members:
            was_dead, was_known = node.is_dead, node.health is not None
            if apply(node, together(self._parts(pool, node)), now):
                touched[pool.name] = pool
            if node.is_dead != was_dead and not node.removed:
                self._news.node_changed(pool, node, now)
                if was_known and not node.is_dead and pool.slow_start_s:
                    self._ramp(pool, node, now, now)
        for pool in touched.values():
            pool.candidates_changed()
            self._news.pool_changed(pool)
        if touched:
            self._nodes_changed(now)

    def _parts(self, pool: Pool, node: Node) -> Iterator[tuple[str, Said]]:
        for name in pool.monitors:
            monitor = self._monitors.get(name)
            if monitor is not None:
                yield name, self._said.get(target_of(monitor, node), _UNKNOWN)

    # --- time ------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do; 0: now."""
        if self._steps is not None:
            return 0.0
        timers = [self._news.get_timer(), self._next_ramp if self._ramping else None]
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do a bounded piece of what is due."""
        self._news.handle_timer(now)
        if self._steps is not None:
            self._now = now
            if next(self._steps, _END) is _END:
                self._steps = None
        if self._ramping and now >= self._next_ramp:
            self._next_ramp = now + RAMP_S
            for node, (pool, began) in tuple(self._ramping.items()):
                self._ramp(pool, node, began, now)

    def _ramp(self, pool: Pool, node: Node, began: float, now: float) -> None:
        """A node that came back gets its share little by little."""
        part = (now - began) / pool.slow_start_s if pool.slow_start_s else 1.0
        if part >= 1 or node.is_dead or node.removed:
            node.rescale(percent=node.percent, ramp=1.0)
            self._ramping.pop(node, None)
            return
        if not self._ramping:
            self._next_ramp = now + RAMP_S
        self._ramping[node] = pool, began
        node.rescale(percent=node.percent, ramp=max(RAMP_LEAST, part))
