# SPDX-License-Identifier: Apache-2.0
"""What an operator is told of roles and connections: what is other than at the last look."""

from __future__ import annotations

from collections.abc import Sequence

from admin.happened import Happened
from control_segment.config import DataFlowSegmentAddress
from control_segment.group.views import Role
from control_segment.links import Link


class Watch:
    """Of one CS; it is cheap to look often."""

    def __init__(self, segment_id: int) -> None:
        self._name = f"cs-{segment_id}"
        self._role: tuple[Role, int] | None = None
        self._ready: list[int | None] = []  # segment ids, by link; None: not connected

    def look(
        self,
        role: Role,
        epoch: int,
        links: Sequence[Link],
        addresses: Sequence[DataFlowSegmentAddress],
    ) -> list[Happened]:
        """What has happened since the last look."""
        found: list[Happened] = []
        if role is not Role.CLAIMING and (role, epoch) != self._role:
            if self._role is None or role is not self._role[0]:
                found.append(self._role_is(role, epoch))
            self._role = role, epoch
        if not self._ready:
            self._ready = [None] * len(links)
        for index, link in enumerate(links):
            known, peer_id = self._ready[index], link.peer_id if link.is_ready else None
            if known != peer_id:
                self._ready[index] = peer_id
                address = addresses[index]
                place = f"{address.address} port {address.port}"
                if known is not None:
                    found.append(self._lost(known, place, link.reason))
                if peer_id is not None:
                    found.append(self._connected(peer_id, place))
        return found

    def _role_is(self, role: Role, epoch: int) -> Happened:
        what = f"{self._name} is {role.value} (role epoch {epoch})"
        return Happened(severity="info", kind="role", what=what, subject={"segment": self._name})

    def _connected(self, dfs: int, place: str) -> Happened:
        what = f"{self._name} is connected to dfs-{dfs} ({place})"
        return Happened(
            severity="info", kind="dfs_connected", what=what, subject={"segment": f"dfs-{dfs}"}
        )

    def _lost(self, dfs: int, place: str, reason: str) -> Happened:
        what = f"{self._name} has lost dfs-{dfs} ({place}): {reason}"
        return Happened(
            severity="error", kind="dfs_lost", what=what, subject={"segment": f"dfs-{dfs}"}
        )
