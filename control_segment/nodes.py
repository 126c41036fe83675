# SPDX-License-Identifier: Apache-2.0
"""Nodes: the servers behind virtual servers, with what balancing needs to know about them.

A session holds its node by reference.  A node that is removed from the configuration is no longer
chosen; it exists until its last session has ended.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from ssmb.constants import TCP

if TYPE_CHECKING:
    from control_segment.ejection import Record

# A node's address and port: what it is known by in other pools, after a reload and after a restart
Place: TypeAlias = tuple[bytes, int]


# Connections that failed to open.  Each doubles the load that a node seems to have, one that opened
# takes that back, and time halves it: so a dead node is tried again within half a minute, and one
# that fails now and then is hardly avoided.
FAILING_HALF_LIFE_S: Final = 10.0
FAILING_MAX: Final = 10.0  # more would only keep a node that is back waiting longer
_FAILING_LEAST: Final = 0.1  # less makes no difference


class NodeState(Enum):
    """Which sessions may be there."""

    ENABLED = "enabled"  # all
    DRAINING = "draining"  # living sessions only
    DOWN = "down"  # none: it gives up its sessions (`Node.gives_up`)


class Health(Enum):
    """What monitors have found; beside a node's state, which operators set."""

    UNKNOWN = "unknown"  # nothing yet; it counts as up
    UP = "up"
    DOWN = "down"


class Node:
    """One server of one pool.  Plain attributes: the hot path reads and writes them."""

    __slots__ = (
        "active",
        "address",
        "bytes_in",
        "bytes_out",
        "connection_limit",
        "decayed_at",
        "drained",
        "drains_until",
        "failed",
        "failed_at",
        "failing",
        "granted",
        "has_room",
        "health",
        "health_reason",
        "health_since",
        "in_reserve",
        "is_closed",
        "is_dead",
        "is_down",
        "last_active",
        "name",
        "percent",
        "pkts_in",
        "pkts_out",
        "place",
        "pool_name",
        "port",
        "priority",
        "ramp",
        "rate",
        "rated_total",
        "record",
        "removed",
        "resets_when_dead",
        "resets_when_down",
        "scale",
        "state",
        "total",
        "turn",
        "weight",
        "without_flow",
    )

    def __init__(
        self,
        pool_name: str,
        name: str,
        address: bytes,
        port: int,
        *,
        weight: int = 1,
        connection_limit: int = 0,
        state: NodeState = NodeState.ENABLED,
        priority: int = 0,
    ) -> None:
        self.pool_name = pool_name
        self.name = name
        self.address = address
        self.port = port  # 0: the client's port is kept
        self.place: Place = address, port
        self.weight = weight
        self.connection_limit = connection_limit  # of `active`; 0: no limit
        self.priority = priority  # higher is preferred
        self.in_reserve = False  # others of its pool take its sessions: by priority, or ejection
        self.removed = False  # gone from the configuration
        self.resets_when_down = False  # of its pool: TCP connections end when it is set down
        self.resets_when_dead = False  # of its pool: they end when a monitor finds it down
        self.health: Health | None = None  # None: no monitor looks at it
        self.health_reason = ""
        self.health_since = 0.0
        self.is_dead = False  # by its health, or its agent's word: no session may be here
        self.is_closed = False  # by its agent's word: living sessions only
        self.percent = 100  # of its weight, by its agent's word
        self.ramp = 1.0  # of that: below 1 in slow start
        self.scale = 1.0  # what its weight is multiplied by: both
        self.turn = 0.0  # of methods without weights, while `scale` is below 1
        self.drains_until: float | None = None  # None: it does not drain, or nobody looked yet
        self.drained = False  # it drains, and its time for that is over
        self.active = 0  # sessions that a DFS carries, and outstanding grants
        self.granted = 0  # of these, the grants
        self.without_flow = 0  # sessions that none carries now, and that may come back
        self.total = 0  # sessions ever
        self.record: Record | None = None  # what counts against it; None: its pool ejects nobody
        self.failed = 0  # connections that failed to open, ever
        self.failed_at = 0.0  # the latest of them
        self.failing = 0.0  # the recent ones, as of `decayed_at`
        self.decayed_at = 0.0
        self.has_room = True
        self.last_active = 0.0  # the latest session begun or seen moving
        self.rate = 0.0  # sessions a second, smoothed
        self.rated_total = 0
        self.pkts_in = self.bytes_in = self.pkts_out = self.bytes_out = 0
        self.set_state(state)

    def set_state(self, state: NodeState) -> None:
        """Change which sessions may be here."""
        self.state = state
        self.is_down = state is NodeState.DOWN
        if state is not NodeState.DRAINING:
            self.drains_until = None
            self.drained = False

    def drain(self, timeout_s: int, now: float) -> bool:
        """Look at the time for draining (0: no end); return whether it has just run out."""
        if self.state is not NodeState.DRAINING or self.drained or not timeout_s:
            return False
        if self.drains_until is None:
            self.drains_until = now + timeout_s
        self.drained = now >= self.drains_until
        return self.drained

    def gives_up(self, protocol: int) -> bool:
        """Whether sessions of this protocol that are here are to end now, busy or not.

        UDP knows no end of its own, and a sender that goes on would hold its node for ever.  A TCP
        connection is lost when it ends, so that is done by choice only.
        """
        if protocol == TCP:
            return self.resets_its_sessions
        return self.is_down or self.is_dead or self.removed or self.drained

    @property
    def resets_its_sessions(self) -> bool:
        """Whether TCP connections that are here are to end now."""
        if self.is_down:
            return self.resets_when_down
        return self.is_dead and self.resets_when_dead

    @property
    def refuses_its_sessions(self) -> bool:
        """Whether a session from before that comes back is refused.  A node that a monitor finds
        down may live all the same, so its sessions are left to it unless they are reset."""
        return self.is_down or (self.is_dead and self.resets_when_dead)

    def set_connection_limit(self, limit: int) -> None:
        """Change how many sessions fit; those there are stay."""
        self.connection_limit = limit
        self.has_room = not limit or self.active < limit

    @property
    def is_able(self) -> bool:
        """Whether it could have new sessions, if it was not in reserve."""
        return (
            self.state is NodeState.ENABLED
            and self.weight > 0
            and not (self.removed or self.is_dead or self.is_closed)
            and self.scale > 0
        )

    @property
    def is_ejected(self) -> bool:
        """Whether others take its new sessions for a while, by what the data path sees of it."""
        return self.record is not None and self.record.is_ejected

    @property
    def takes_new_sessions(self) -> bool:
        """Whether a method may be given this node."""
        return self.is_able and not self.in_reserve

    @property
    def effective_weight(self) -> float:
        """Its weight as methods count it now; 0: it gets no new sessions."""
        return self.weight * self.scale if self.takes_new_sessions else 0.0

    def rescale(self, *, percent: int, ramp: float) -> None:
        """Change the part of its weight that counts."""
        self.percent, self.ramp = percent, ramp
        self.scale = percent / 100 * ramp

    def takes_turn(self) -> bool:
        """Whether a method without weights may pick it now: as often as `scale` says."""
        if self.scale >= 1:
            return True
        self.turn += self.scale
        if self.turn < 1:
            return False
        self.turn -= 1
        return True

    def session_started(self, now: float) -> None:
        """Count a session."""
        self.active += 1
        self.total += 1
        self.last_active = now
        if self.connection_limit:
            self.has_room = self.active < self.connection_limit

    def session_granted(self, now: float) -> None:
        """A session was decided that has not begun yet; it counts as one already."""
        self.session_started(now)
        self.granted += 1

    def grant_returned(self) -> None:
        """It will not begin."""
        self.granted -= 1
        self.total -= 1
        self.session_ended()

    def session_ended(self) -> None:
        """Count it no longer."""
        self.active -= 1
        if self.connection_limit:
            self.has_room = self.active < self.connection_limit

    def session_lost_its_flow(self) -> None:
        """It cannot send without being asked about, so it counts as no load."""
        self.session_ended()
        self.without_flow += 1

    def session_came_back(self) -> None:
        """A DFS carries it again; if the node is full, it is over its limit by one."""
        self.without_flow -= 1
        self.active += 1
        if self.connection_limit:
            self.has_room = self.active < self.connection_limit

    @property
    def has_sessions(self) -> bool:
        """Whether any is left that may send, now or later."""
        return self.active > 0 or self.without_flow > 0

    def connection_failed(self, serial: int, began: float, now: float) -> bool:
        """A connection was refused by this node, or not answered; return whether that makes it
        suspect (`control_segment.outliers`)."""
        self.failed += 1
        return self.connection_waits(serial, began, now)

    def connection_waits(self, serial: int, began: float, now: float) -> bool:
        """A client tries again, for this node has not answered it yet; it may still do.  Return
        whether that makes the node suspect."""
        self.failing = min(FAILING_MAX, self.failing_now(now) + 1)
        self.failed_at = self.decayed_at = now
        return self.record is not None and self.record.failed(serial, began, now)

    def connection_opened(self, began: float, now: float) -> None:
        """A connection was accepted; what began before the latest failure says nothing."""
        if self.record is not None:
            self.record.opened(began)
        if self.failing and began >= self.failed_at:
            self.failing = max(0.0, self.failing_now(now) - 1)

    def failing_now(self, now: float) -> float:
        """Return how many connections failed lately; old ones count less."""
        if self.failing:
            self.failing *= 0.5 ** ((now - self.decayed_at) / FAILING_HALF_LIFE_S)
            self.decayed_at = now
            if self.failing < _FAILING_LEAST:
                self.failing = 0.0
        return self.failing

    def reluctance(self, now: float) -> float:
        """Return what the load of this node is to be multiplied by, when nodes are compared."""
        return float(2 ** self.failing_now(now))
