# SPDX-License-Identifier: Apache-2.0
"""Pools: nodes and the method that chooses among them, kept through reloads.

A node is the same node after a reload if its address and port are: then its sessions, counters and
place in the round stay, also if it was away for a while.  Otherwise the old one is removed and a
new one is added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from control_segment.config import NodeConfig, PoolConfig
from control_segment.methods import (
    METHODS,
    BuildsTable,
    ChoosesByTable,
    MeasuresResponse,
    Method,
)
from control_segment.nodes import Node, NodeState, Place
from ssmb.addresses import from_text


class Pool:
    """Nodes that are balanced together."""

    __slots__ = (
        "_by_address",
        "_by_place",
        "_config",
        "_prepared",
        "leaving",
        "measured",
        "method",
        "method_name",
        "name",
        "nodes",
        "reached_directly",
        "tabled",
        "version",
    )

    def __init__(self, config: PoolConfig) -> None:
        self.name = config.name
        self.version = 0  # rises with every change of what new sessions get
        self.nodes: dict[str, Node] = {}
        self._by_place: dict[Place, Node] = {}  # the same nodes
        self._by_address: dict[bytes, Node] = {}  # the first of each address
        # not configured any more, but with living sessions
        self.leaving: dict[Place, Node] = {}
        self._prepared: list[tuple[Node, str, int]] | None = None
        self._config: PoolConfig | None = None  # None: a node was changed since
        self.method_name = ""
        self._use(METHODS[config.method]())
        self.apply(config)

    def apply(self, config: PoolConfig) -> None:
        """Become what a (checked) configuration says; living sessions keep their nodes."""
        self._config = config
        self.reached_directly = config.reached_directly
        before, self.nodes = {node.place: node for node in self.every_node()}, {}
        for entry in config.nodes:
            node = before.pop((from_text(entry.address), entry.port or 0), None)
            if node is None:
                node = _make(self.name, entry)
            else:
                node.name, node.removed = entry.name, False
                node.weight = entry.weight
                node.set_connection_limit(entry.connection_limit)
                node.set_state(NodeState(entry.state))
            node.resets_when_down = config.reset_when_down
            self.nodes[entry.name] = node
        self._by_place = {node.place: node for node in self.nodes.values()}
        self._by_address = {node.address: node for node in reversed(self.nodes.values())}
        self.leaving = before
        for node in self.leaving.values():
            node.removed = True
        self.prune()
        if config.method != self.method_name:
            self.method_name = config.method
            self._use(METHODS[config.method]())
            self._prepared = None
        self.candidates_changed()

    def _use(self, method: Method) -> None:
        self.method = method
        # looked at once: thousands of pools are asked every two seconds, for microseconds each
        self.measured = method if isinstance(method, MeasuresResponse) else None
        self.tabled = method if isinstance(method, ChoosesByTable) else None

    @property
    def is_touched(self) -> bool:
        """Whether a node is not as configured, by `node_changed`."""
        return self._config is None

    def is_as(self, config: PoolConfig) -> bool:
        """Whether `apply` would change nothing."""
        return config == self._config

    def node_changed(self) -> None:
        """A node was given another weight or state than the configuration has."""
        self._config = None
        self.candidates_changed()

    def candidates_changed(self) -> None:
        """Tell the method which nodes may have new sessions."""
        self.version += 1
        nodes = [node for node in self.nodes.values() if node.takes_new_sessions]
        wanted = [(node, node.name, node.weight) for node in nodes]
        if wanted != self._prepared:  # otherwise a reload would restart the round for nothing
            self._prepared = wanted
            self.method.prepare(nodes)

    def remove(self) -> None:
        """The pool has left the configuration; `apply` brings it back."""
        self._config = None
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

    def response_measured(self, node: Node, response_ms: float, now: float) -> None:
        """Give the method one measurement, if it still wants any."""
        if self.measured is not None:
            self.measured.response_measured(node, response_ms, now)

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


def table_of(config: PoolConfig) -> Callable[[], object] | None:
    """What makes what a pool takes long to make when this comes in force, unless the result is kept
    until then; None if nothing does."""
    method = METHODS[config.method]()
    if not isinstance(method, BuildsTable):
        return None
    enabled = NodeState.ENABLED.value
    members = [
        (node.name, node.weight) for node in config.nodes if node.state == enabled and node.weight
    ]
    return partial(method.build, members)


def _make(pool_name: str, entry: NodeConfig) -> Node:
    return Node(
        pool_name,
        entry.name,
        from_text(entry.address),
        entry.port or 0,
        weight=entry.weight,
        connection_limit=entry.connection_limit,
        state=NodeState(entry.state),
    )
