# SPDX-License-Identifier: Apache-2.0
"""What a balancing method is: a way to pick one of a pool's nodes for a new session.

`prepare` gets the nodes that may have new sessions at all (enabled, weight above 0), whenever that
set or a weight changes; `pick` is on the hot path and returns one of them that has room, or None. A
method never sees existing sessions: it chooses only for new ones, so no method can move one.
What a method must remember of a node it stores itself; `Node` has what every method may need.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from control_segment.nodes import Node


class Method(Protocol):
    """One balancing method of one pool."""

    consistent: bool  # the same key gets the same node without any memory of the session

    def prepare(self, nodes: Sequence[Node]) -> None:
        """Take the nodes to pick from, in the order of the configuration."""

    def pick(self, key: bytes, now: float) -> Node | None:
        """Return a node with room for the session *key*, or None if all are full."""


@runtime_checkable
class BuildsTable(Protocol):
    """A method for which `prepare` takes long, unless what `build` returned for the same nodes is
    still kept: a reload builds before it puts anything in force."""

    def build(self, members: Sequence[tuple[str, int]]) -> object:
        """Return what follows from the names and weights of nodes."""


@runtime_checkable
class ChoosesByTable(Protocol):
    """A consistent method whose choice, while no node is full, is one look-up by
    `control_segment.methods.hashing`: a DFS can do that (wire protocol 13.3)."""

    by_source: bool  # the hash is of the client's address, otherwise of the session's key

    @property
    def nodes(self) -> Sequence[Node]:
        """What the table's entries are indexes of."""

    @property
    def table(self) -> array[int]:
        """The entry of a hash is the one at hash modulo length."""


@runtime_checkable
class MeasuresResponse(Protocol):
    """A method that wants to know how fast nodes answer; the runtime measures for it."""

    def response_measured(self, node: Node, response_ms: float, now: float) -> None:
        """Take one measurement."""

    def response_failed(self, node: Node, now: float, *, refused: bool) -> None:
        """A connect failed: the node refused it, or there was no answer."""

    def response_ms(self, node: Node, now: float) -> float | None:
        """Return the smoothed response time, None if there is no fresh one."""
