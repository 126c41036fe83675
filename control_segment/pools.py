# SPDX-License-Identifier: Apache-2.0
"""Pools: nodes and the method that chooses among them, kept through reloads.

A node is the same node after a reload if its address and port are: then its sessions, counters and
place in the round stay, also if it was away for a while.  Otherwise the old one is removed and a
new one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from admin.limits import WEIGHT_MAX
from control_segment.config import NodeConfig, PoolConfig
from control_segment.ejection import Record
from control_segment.methods import (
    METHODS,
    BuildsTable,
    ChoosesByTable,
    MeasuresResponse,
    Method,
)
from control_segment.methods.maglev import Maglev
from control_segment.nodes import Node, NodeState, Place
from control_segment.priorities import active_of
from control_segment.references import listed
from ssmb.addresses import from_text


class Pool:
    """Nodes that are balanced together."""

    __slots__ = (
        "_by_address",
        "_by_place",
        "_prepared",
        "_usable",
        "config",
        "hashing",
        "is_touched",
        "leaving",
        "measured",
        "method",
        "method_name",
        "minimum_active",
        "monitors",
        "name",
        "nodes",
        "outliers",
        "reached_directly",
        "removed",
        "slow_start_s",
        "tabled",
        "takes_sessions",
        "version",
    )

    def __init__(self, config: PoolConfig) -> None:
        self.name = config.name
        self.takes_sessions = False  # some node does, unless it is full
        self.version = 0  # rises with every change of what new sessions get
        self.nodes: dict[str, Node] = {}
        self._by_place: dict[Place, Node] = {}  # the same nodes
        self._by_address: dict[bytes, Node] = {}  # the first of each address
        # not configured any more, but with living sessions
        self.leaving: dict[Place, Node] = {}
        self._prepared: list[tuple[Node, str, int, int]] | None = None
        self.config = config  # that was applied last
        self.is_touched = False  # a node is not as it says, by `set_nodes`
        self.removed = False  # gone from the configuration
        self._usable: Sequence[Node] = ()  # that new sessions may go to
        # Chooses by what a client says, beside the method; None: nobody wants that
        self.hashing: Maglev | None = None
        self.method_name = ""
        self._use(METHODS[config.method]())
        self.apply(config)

    def apply(self, config: PoolConfig) -> None:
        """Become what a (checked) configuration says; living sessions keep their nodes."""
        self.config, self.is_touched, self.removed = config, False, False
        self.reached_directly = config.reached_directly
        self.minimum_active = config.minimum_active
        self.monitors, self.slow_start_s = config.monitors, config.slow_start_s
        self.outliers = config.outliers
        before, self.nodes = {node.place: node for node in self.every_node()}, {}
        for entry in config.nodes:
            node = before.pop((from_text(entry.address), entry.port or 0), None)
            if node is None:
                node = _make(self.name, entry)
            else:
                node.name, node.removed = entry.name, False
                node.weight, node.priority = entry.weight, entry.priority
                node.set_connection_limit(entry.connection_limit)
                node.set_state(NodeState(entry.state))
            node.resets_when_down = config.reset_when_down
            node.resets_when_dead = config.reset_when_dead
            self._keep_record(node)
            self.nodes[entry.name] = node
        self._by_place = {node.place: node for node in self.nodes.values()}
        self._by_address = {node.address: node for node in reversed(self.nodes.values())}
        self.leaving = before
        for node in self.leaving.values():
            node.removed, node.record = True, None
        self.prune()
        if config.method != self.method_name:
            self.method_name = config.method
            self._use(METHODS[config.method]())
            self._prepared = None
        self.candidates_changed()

    def _keep_record(self, node: Node) -> None:
        """Of what counts against a node, if anything is to."""
        if self.outliers is None:
            node.record = None
        elif node.record is None:
            node.record = Record(self.outliers)
        else:
            node.record.limits = self.outliers

    def _use(self, method: Method) -> None:
        self.method = method
        # looked at once: thousands of pools are asked every two seconds, for microseconds each
        self.measured = method if isinstance(method, MeasuresResponse) else None
        self.tabled = method if isinstance(method, ChoosesByTable) else None

    def is_as(self, config: PoolConfig) -> bool:
        """Whether `apply` would change nothing."""
        return not self.is_touched and (config is self.config or config == self.config)

    @property
    def places(self) -> tuple[bool, frozenset[Place]]:
        """Where its nodes are, those that leave too, and whether clients reach them directly."""
        return self.reached_directly, frozenset((*self._by_place, *self.leaving))

    def set_nodes(
        self, names: Sequence[str], *, weight: int | None, state: str | None
    ) -> list[Node]:
        """Change nodes until `apply`, all or none; ValueError says what is wrong."""
        for name in names:
            if name not in self.nodes:
                raise ValueError(
                    f"pool {self.name} has no node {name!r}; it has: {listed(self.nodes)}"
                )
        if weight is not None and not 0 <= weight <= WEIGHT_MAX:
            raise ValueError(f"weight must be 0 to {WEIGHT_MAX}, not {weight}")
        if state is not None and state not in (known.value for known in NodeState):
            raise ValueError(f"state must be enabled, draining or down, not {state!r}")
        nodes = [self.nodes[name] for name in names]
        for node in nodes:
            if weight is not None:
                node.weight = weight
            if state is not None:
                node.set_state(NodeState(state))
        self.is_touched = True
        self.candidates_changed()
        return nodes

    def candidates_changed(self) -> None:
        """Tell the method which nodes may have new sessions."""
        self.version += 1
        able = [node for node in self.nodes.values() if node.is_able]
        # If all others are gone, one that is ejected is better than none
        usable = [node for node in able if not node.is_ejected] or able
        nodes = active_of(usable, self.minimum_active)
        for node in self.nodes.values():  # one that is not able waits for nobody
            node.in_reserve = False
        for node in able:
            node.in_reserve = True
        for node in nodes:
            node.in_reserve = False
        self.takes_sessions = bool(nodes)
        wanted = [(node, node.name, node.weight, node.percent) for node in nodes]
        if wanted != self._prepared:  # otherwise a reload would restart the round for nothing
            self._prepared, self._usable = wanted, nodes
            self.method.prepare(nodes)
            if self.hashing is not None:
                self.hashing.prepare(nodes)

    def hashed(self, value: bytes, now: float) -> Node | None:
        """Return the node that follows from a value, whatever the method; None: all are full."""
        if self.hashing is None:
            self.hashing = Maglev()
            self.hashing.prepare(self._usable)
        return self.hashing.pick(value, now)

    def remove(self) -> None:
        """The pool has left the configuration; `apply` brings it back."""
        self.is_touched = self.removed = True
        for node in self.nodes.values():
            node.removed = True
        self.leaving |= self._by_place
        self.nodes, self._by_place, self._by_address = {}, {}, {}
        self.candidates_changed()

    def prune(self) -> None:
        """Forget leaving nodes whose last session has ended."""
        self.leaving = {at: node for at, node in self.leaving.items() if node.has_sessions}

    def every_node(self) -> list[Node]:
        """All nodes, those that leave last."""
        return [*self.nodes.values(), *self.leaving.values()]

    def response_measured(self, node: Node, response_ms: float, now: float) -> bool:
        """Give the method one measurement, if it still wants any; return whether that makes the
        node suspect (`control_segment.outliers`)."""
        if self.measured is None:
            return False
        self.measured.response_measured(node, response_ms, now)
        smoothed_ms = self.measured.response_ms(node, now)
        if node.record is None or smoothed_ms is None:
            return False
        return node.record.responded(smoothed_ms)

    def response_failed(self, node: Node, now: float, *, refused: bool) -> None:
        """A node was to be measured and refused, or did not answer."""
        if self.measured is not None:
            self.measured.response_failed(node, now, refused=refused)

    def response_ms(self, node: Node, now: float) -> float | None:
        """Return how fast a node answers, None if the method does not want to know, or not yet."""
        return None if self.measured is None else self.measured.response_ms(node, now)

    def find(self, address: bytes, port: int) -> Node | None:
        """Return the node of a translation that an earlier CS made."""
        for nodes in (self._by_place, self.leaving):
            for place in ((address, port), (address, 0)):
                node = nodes.get(place)
                if node is not None:
                    return node
        return None

    def at(self, place: Place) -> Node | None:
        """Return the configured node at an address and port, None if there is none."""
        return self._by_place.get(place)

    def at_address(self, address: bytes) -> Node | None:
        """Return the first configured node at an address, at whatever port."""
        return self._by_address.get(address)

    def has(self, node: Node) -> bool:
        """Whether a node is configured in this pool."""
        return self._by_place.get(node.place) is node


def serving(own: Pool, fallback: Pool | None) -> Pool:
    """The one that new sessions go to: its own, unless only the fallback pool takes any."""
    if fallback is None or own.takes_sessions or not fallback.takes_sessions:
        return own
    return fallback


def table_of(config: PoolConfig) -> Callable[[], object] | None:
    """What makes what a pool takes long to make when this comes in force, unless the result is kept
    until then; None if nothing does."""
    method = METHODS[config.method]()
    if not isinstance(method, BuildsTable):
        return None
    enabled = NodeState.ENABLED.value
    able = [node for node in config.nodes if node.state == enabled and node.weight]
    active = active_of(able, config.minimum_active)
    return partial(method.build, [(node.name, node.weight) for node in active])


def _make(pool_name: str, entry: NodeConfig) -> Node:
    return Node(
        pool_name,
        entry.name,
        from_text(entry.address),
        entry.port or 0,
        weight=entry.weight,
        connection_limit=entry.connection_limit,
        state=NodeState(entry.state),
        priority=entry.priority,
    )
