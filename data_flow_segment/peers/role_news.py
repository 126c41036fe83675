# SPDX-License-Identifier: Apache-2.0
"""Which CSs hear at once that another one is active in their group, or none (11.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from csmb.constants import ErrorCode, Flag
from csmb.settings import GroupRole
from data_flow_segment.peers.accepted import Accepted
from data_flow_segment.peers.groups import Peers

_ACTIVE: Final = int(Flag.ACTIVE)
_HEARTBEATS: Final = int(Flag.HEARTBEATS)


class News(NamedTuple):
    """What a HELLO out of turn says on a connection."""

    connection_id: int
    role: GroupRole
    error_code: int


class RoleNews:
    """Collects them once for each change."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._told = 0  # of `Peers.role_changes`

    def take(self, accepted: Mapping[int, Accepted]) -> list[News]:
        """For every connection of a CS that acts on it; those that say nothing new are not sent."""
        if self._told == self._peers.role_changes:
            return []
        self._told = self._peers.role_changes
        news = []
        for connection_id, each in accepted.items():
            peer = each.peer
            if peer is None or not peer.hello.flags & _HEARTBEATS:
                continue
            group = self._peers.group_of(peer.group_id)
            claims_in_vain = peer.hello.flags & _ACTIVE and not peer.is_active
            code = ErrorCode.NOTACTIVE if claims_in_vain else ErrorCode.OK
            news.append(News(connection_id, group.role, code))
        return news
