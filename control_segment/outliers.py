# SPDX-License-Identifier: Apache-2.0
"""Nodes over a limit of their pool's `outliers`: which are ejected, and when they are back.

A pool keeps the part of its nodes that `max_ejected_percent` says, and at least one that is able to
take sessions.  A node that is ejected while all others go down takes sessions all the same
(`Pool.candidates_changed`).

Standbys get a copy of what ends at a DFS (wire protocol 11.3), so each CS comes to this by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

from admin.happened import Happened, Severity
from control_segment.nodes import Node
from control_segment.pools import Pool
from control_segment.references import listed

if TYPE_CHECKING:
    from control_segment.ejection import Record


class _Room:
    """What a pool can spare."""

    def __init__(self, pool: Pool) -> None:
        nodes = pool.nodes.values()
        assert pool.outliers is not None, "its nodes have records"
        ejected = sum(node.is_ejected for node in nodes)
        self.most = pool.outliers.most(len(nodes))
        self.left = self.most - ejected
        self.usable = sum(node.is_able and not node.is_ejected for node in nodes)

    def why_not(self, pool: Pool) -> str:
        """Why one more cannot be ejected; empty if it can."""
        assert pool.outliers is not None
        if self.left < 1:
            percent = pool.outliers.max_ejected_percent
            return f"max_ejected_percent {percent} of {len(pool.nodes)} nodes is {self.most}"
        return "no other node takes sessions" if self.usable < 2 else ""


class Outliers:
    """Of one CS."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        happened: list[Happened],
        nodes_changed: Callable[[float], None],
    ) -> None:
        """`pools`: those in force; `nodes_changed`: some take sessions now, or no longer."""
        self._pools = pools
        self._happened = happened
        self._nodes_changed = nodes_changed
        self._suspects: list[Node] = []
        self._suspected_at = 0.0
        self._back: list[tuple[float, int, Node]] = []  # when ejected nodes are, a heap
        self._order = count()
        self._told: dict[str, float] = {}  # when it was said last that a pool can spare nobody
        self._idle: set[str] = set()  # pools of which none can be ejected
        self._unsaid: dict[str, Pool] = {}  # of these it was not said yet

    def configure(self, changed: Iterable[Pool]) -> None:
        """Pools are new, other or gone: see where it can have no effect, for `say`."""
        for pool in changed:
            outliers, count = pool.outliers, len(pool.nodes)
            if pool.removed:
                self._told.pop(pool.name, None)
            if pool.removed or outliers is None or not count or outliers.most(count):
                self._idle.discard(pool.name)
                self._unsaid.pop(pool.name, None)
            elif pool.name not in self._idle:
                self._idle.add(pool.name)
                self._unsaid[pool.name] = pool

    def say(self) -> None:
        """Say where it can have no effect, if that is new."""
        if self._unsaid:
            new, self._unsaid = self._unsaid, {}
            self._happened.append(_idle([pool for _, pool in sorted(new.items())]))

    def suspect(self, node: Node, now: float) -> None:
        """A node is over a limit."""
        self._suspects.append(node)
        self._suspected_at = now

    def pardon(self, pool: Pool, nodes: Iterable[Node], now: float) -> None:
        """An operator has enabled nodes: they are ejected no longer."""
        records = [node.record for node in nodes if node.record is not None]
        if sum(record.pardon(now) for record in records):
            pool.candidates_changed()

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        if self._suspects:
            return self._suspected_at
        return self._back[0][0] if self._back else None

    def handle_timer(self, now: float) -> None:
        """Judge suspects; let nodes come back."""
        touched = self._return(now)
        suspects, self._suspects = self._suspects, []
        rooms: dict[str, _Room] = {}
        for node in suspects:
            pool, record = self._pools().get(node.pool_name), node.record
            if pool is None or record is None or not pool.has(node):
                continue
            if pool.name not in rooms:
                rooms[pool.name] = _Room(pool)
            if self._judge(pool, node, record, rooms[pool.name], now):
                touched.append(pool)
        for pool in dict.fromkeys(touched):
            pool.candidates_changed()
        if touched:
            self._nodes_changed(now)

    def _judge(self, pool: Pool, node: Node, record: Record, room: _Room, now: float) -> bool:
        """Return whether the node is ejected."""
        if not node.is_able:  # it takes no sessions anyway
            record.spare()
            return False
        why_not = room.why_not(pool)
        if why_not:
            record.spare()
            self._say_spared(pool, node, f"{record.reason}, but {why_not}", now)
            return False
        record.eject(now)
        room.left -= 1
        room.usable -= 1
        heapq.heappush(self._back, (record.until, next(self._order), node))
        self._tell(
            "warning", "node_ejected",
            f"gets no new sessions for {record.until - now:.0f} s: {record.reason}", pool, node,
        )  # fmt: skip
        return True

    def _return(self, now: float) -> list[Pool]:
        """Let nodes come back whose time is over; return their pools."""
        pools: list[Pool] = []
        while self._back and self._back[0][0] <= now:
            node = heapq.heappop(self._back)[2]
            pool, record = self._pools().get(node.pool_name), node.record
            # It may have been pardoned, and even ejected anew: then it is in the heap again
            if record is None or not record.look(now):
                continue
            if pool is not None and pool.has(node):
                self._tell("info", "node_returned", "gets new sessions again", pool, node)
                pools.append(pool)
        return pools

    def _say_spared(self, pool: Pool, node: Node, why: str, now: float) -> None:
        """Not more often than a node would be ejected."""
        assert pool.outliers is not None
        told = self._told.get(pool.name)
        if told is None or now - told >= pool.outliers.ejection_s:
            self._told[pool.name] = now
            self._tell("warning", "outlier_spared", f"is not ejected: {why}", pool, node)

    def _tell(self, severity: Severity, kind: str, what: str, pool: Pool, node: Node) -> None:
        subject = {"pool": pool.name, "node": node.name}
        sentence = f"node {node.name} of pool {pool.name} {what}"
        self._happened.append(Happened(severity, kind, sentence, subject))


def _idle(pools: Sequence[Pool]) -> Happened:
    """Of these no node can ever be ejected."""
    if len(pools) > 1:
        names = listed(pool.name for pool in pools)
        what = (
            f"pools {names}: outliers: max_ejected_percent of their nodes is none, so none is ever"
            " ejected; give more"
        )
        return Happened("warning", "outliers_idle", what)
    (pool,) = pools
    assert pool.outliers is not None
    percent, nodes = pool.outliers.max_ejected_percent, len(pool.nodes)
    what = (
        f"pool {pool.name}: outliers: max_ejected_percent {percent} of {nodes} nodes is none, so"
        f" none is ever ejected; give at least {-(-100 // nodes)}"
    )
    return Happened("warning", "outliers_idle", what, {"pool": pool.name})
