# SPDX-License-Identifier: Apache-2.0
"""One generation of grants of a virtual server at one DFS (wire protocol 13.1, 13.3).

The parts of a generation are carried out in order and repeated until they are confirmed, so the DFS
knows what was sent before, and a node is described once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from control_segment.wire import Answer, head_flags
from csmb.constants import Flag as VsFlag
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import (
    GRANT_DATA_MAX,
    GRANT_NODES_MAX,
    GRANT_RETRY_MS,
    Flag,
    GrantContent,
)
from ssmb.grants import (
    CLIENT_SIZE,
    DECISION_SIZE,
    NODE_SIZE,
    pack_clients,
    pack_decisions,
    pack_nodes,
)
from ssmb.messages import Grant

if TYPE_CHECKING:
    from control_segment.nodes import Node
    from control_segment.virtual_servers import VirtualServer

CLIENTS_IN_PART: Final = GRANT_DATA_MAX // CLIENT_SIZE
_NODES_IN_PART: Final = GRANT_DATA_MAX // NODE_SIZE
_RETRIED_SOON: Final = 10  # times; then the DFS is gone, or the way to it
_RETRY_DOUBLED: Final = 5
_NOBODY: Final = -1


def server_key(server: VirtualServer) -> tuple[bytes, int, int]:
    """Return what names a virtual server in GRANT: address, port, protocol."""
    announced = server.announced
    is_any = announced.flags & VsFlag.WILDCARD_ADDR
    is_any_port = announced.flags & VsFlag.WILDCARD_PORT
    address = UNSPECIFIED if is_any else announced.virt_ipaddr
    return address, 0 if is_any_port else announced.virt_port, announced.protocol


class Ring:
    """A generation."""

    __slots__ = (
        "_index_of",
        "_retry_at",
        "_tries",
        "_unconfirmed",
        "answers",
        "epoch",
        "generation",
        "is_begun",
        "is_ending",
        "is_over",
        "key",
        "kind",
        "lease_id",
        "nodes",
        "outstanding",
        "part",
        "server",
        "table",
        "uses",
        "versions",
    )

    def __init__(
        self, server: VirtualServer, generation: int, kind: int, lease_id: int, epoch: int
    ) -> None:
        self.server = server
        self.generation = generation
        self.kind = kind
        self.lease_id = lease_id
        self.epoch = epoch  # of the DFS's table
        self.key = server_key(server)
        self.versions = server.versions  # what its grants are made under
        self.is_begun = False  # its first part is confirmed: those before it are void
        self.is_over = False  # another generation, or another lease, has taken its place
        self.is_ending = False  # no grants are wanted: it only ends the one before
        self.nodes: list[Node] = []  # by index
        self.answers: list[Answer] = []
        self.uses: list[int] = []  # of an index, by outstanding grants
        self.outstanding = 0
        self.part = 0
        self.table = b""  # kinds HASH and HASH_SOURCE
        self._index_of: dict[Node, int] = {}
        self._unconfirmed: deque[Grant] = deque()
        self._retry_at = 0.0
        self._tries = 0

    # --- nodes -------------------------------------------------------------------------------

    def place_of(self, node: Node, rows: list[tuple[int, int, bytes]]) -> int:
        """Return a node's index, and add it to the *rows* to send if the DFS does not know it; -1:
        there is no room for one more."""
        index = self._index_of.get(node, _NOBODY)
        if index >= 0:
            return index
        head, tail = answer = self.server.answer(node)
        if len(self.nodes) < GRANT_NODES_MAX:
            index = len(self.nodes)
            self.nodes.append(node)
            self.answers.append(answer)
            self.uses.append(0)
        else:
            index = next((at for at, count in enumerate(self.uses) if not count), _NOBODY)
            if index < 0 or any(index == row[0] for row in rows):
                return _NOBODY
            del self._index_of[self.nodes[index]]
            self.nodes[index], self.answers[index] = node, answer
        self._index_of[node] = index
        rows.append((index, head_flags(head), tail))
        return index

    # --- parts -------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Grant]:
        """Return its first part, which makes those before it void."""
        return [self._next(GrantContent.DECISIONS, now)]

    def send_table(
        self, nodes: list[tuple[int, int, bytes]], table: bytes, now: float
    ) -> list[Grant]:
        """Return the parts that say all nodes and the table."""
        parts = [
            self._next(GrantContent.DECISIONS, now, nodes=nodes[start : start + _NODES_IN_PART])
            for start in range(0, len(nodes), _NODES_IN_PART)
        ]
        self.table = table
        for start in range(0, len(table), GRANT_DATA_MAX):
            piece = table[start : start + GRANT_DATA_MAX]
            parts.append(self._next(GrantContent.TABLE, now, content_octets=piece, first=start))
        return parts

    def send_clients(
        self,
        nodes: list[tuple[int, int, bytes]],
        clients: list[tuple[bytes, int, int]],
        now: float,
    ) -> list[Grant]:
        """Return the parts that say which node clients have."""
        parts = [
            self._next(GrantContent.DECISIONS, now, nodes=nodes[start : start + _NODES_IN_PART])
            for start in range(0, len(nodes), _NODES_IN_PART)
        ]
        for start in range(0, len(clients), CLIENTS_IN_PART):
            octets = pack_clients(clients[start : start + CLIENTS_IN_PART])
            parts.append(self._next(GrantContent.CLIENTS, now, content_octets=octets))
        return parts

    @staticmethod
    def decisions_in_part(nodes: int) -> int:
        """How many decisions fit behind so many nodes."""
        return (GRANT_DATA_MAX - nodes * NODE_SIZE) // DECISION_SIZE

    def send_decisions(
        self,
        nodes: list[tuple[int, int, bytes]],
        serial: int,
        decisions: list[tuple[int, int]],
        now: float,
    ) -> Grant:
        """Return one part with as many decisions as fit."""
        octets = pack_decisions(decisions)
        return self._next(
            GrantContent.DECISIONS, now, nodes=nodes, content_octets=octets, serial=serial
        )

    def _next(
        self,
        content: GrantContent,
        now: float,
        *,
        nodes: list[tuple[int, int, bytes]] | None = None,
        content_octets: bytes = b"",
        serial: int = 0,
        first: int = 0,
    ) -> Grant:
        self.part += 1
        grant = Grant(
            0,
            int(Flag.ADDR16 if self.server.serves_its_nodes else Flag.ADDR16 | Flag.INSIDE),
            serial,
            *self.key,
            self.kind,
            self.generation,
            self.lease_id,
            self.part,
            first,
            int(content),
            len(nodes or ()),
            pack_nodes(nodes or ()) + content_octets,
        )
        if not self._unconfirmed:
            self._tries = 0
            self._retry_at = now + GRANT_RETRY_MS / 1000
        self._unconfirmed.append(grant)
        return grant

    @property
    def unconfirmed(self) -> int:
        """How many parts the DFS has not confirmed."""
        return len(self._unconfirmed)

    def confirmed(self, part: int) -> None:
        """The DFS has carried out everything up to this part."""
        while self._unconfirmed and self._unconfirmed[0].part <= part:
            self._unconfirmed.popleft()
            self._tries = 0
        self.is_begun |= part > 0

    def retry_at(self) -> float | None:
        """When to repeat what is not confirmed."""
        return self._retry_at if self._unconfirmed else None

    def repeats(self, now: float) -> list[Grant]:
        """Return what is due again, in order."""
        if not self._unconfirmed or now < self._retry_at:
            return []
        self._tries = min(self._tries + 1, _RETRIED_SOON + _RETRY_DOUBLED)
        doubled = max(0, self._tries - _RETRIED_SOON)
        self._retry_at = now + (GRANT_RETRY_MS << doubled) / 1000
        return [each._replace(flags=each.flags | Flag.RETRY) for each in self._unconfirmed]
