# SPDX-License-Identifier: Apache-2.0
"""Where nodes' answers come from, as the active CSs say (NODES): what a target is to look out for,
and whom to ask about a packet from there (wire protocol 14.4)."""

from __future__ import annotations

from typing import Final

from csmb.constants import ErrorCode, Flag
from csmb.messages import NodePlace, Nodes
from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import SetNodes, VirtualServerKey

HELD_S: Final = 60.0
"""How long a data path that began empty waits for a CS to say where nodes are.  Longer, and the
nodes' own connections would end."""

NODES_MAX: Final = 1 << 20
"""Of a list; a target may have room for fewer, and counts the others."""


class NodePlaces:
    """One list for each group; a list that comes replaces that of its group when it is complete."""

    def __init__(self, outbox: Outbox, *, fresh_since: float | None) -> None:
        """`fresh_since`: when the target's table began empty; None if it did not, or if the target
        knows no nodes, so that no CS says where they are."""
        # Until when connections may be older than the table, and nobody has said where nodes are:
        # what the internal side says in mid-session waits.  None: it does not
        self.awaited_until = None if fresh_since is None else fresh_since + HELD_S
        self._outbox = outbox
        self._coming: dict[int, list[NodePlace]] = {}  # by connection, while MORE comes
        self._by_group: dict[int, frozenset[VirtualServerKey]] = {}

    def came(self, connection_id: int, group_id: int, message: Nodes) -> ErrorCode:
        """A part of a list of the group's active CS."""
        coming = self._coming.setdefault(connection_id, [])
        coming += message.nodes
        if len(coming) > NODES_MAX:
            del self._coming[connection_id]
            return ErrorCode.NORESOURCE
        if message.flags & Flag.MORE:
            return ErrorCode.OK
        del self._coming[connection_id]
        self.awaited_until = None
        places = frozenset(VirtualServerKey.from_wire(*place) for place in coming)
        if self._by_group.get(group_id) != places:
            self._by_group[group_id] = places
            everywhere = frozenset[VirtualServerKey]().union(*self._by_group.values())
            self._outbox.commands.append(SetNodes(everywhere))
        return ErrorCode.OK

    def forget(self, connection_id: int) -> None:
        """The connection ended, or its CS is not obeyed: a list that was not complete is none."""
        self._coming.pop(connection_id, None)

    def group_at(self, address: bytes, port: int, protocol: int) -> int | None:
        """Return the group that has a node there."""
        places = [VirtualServerKey(address, each, protocol) for each in (port, None)]
        for group_id, known in self._by_group.items():
            if any(place in known for place in places):
                return group_id
        return None
