# SPDX-License-Identifier: Apache-2.0
"""SYNC: tell a CS every flow of its group, paced (11.4)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows import messages
from data_flow_segment.flows.ended import EndedFlows
from data_flow_segment.peers.groups import Peer
from data_flow_segment.targets.contract import Target
from ssmb.messages import SyncDone

SLICE: Final = 128
"""Flows told at a time: a dozen datagrams, which any receive buffer holds."""

SLICE_INTERVAL_S: Final = 0.004
"""32,000 flows a second: a quarter of a processor, and new flows wait at most a millisecond."""


class SyncJob:
    """One SYNC being answered.  Flows that change meanwhile are told by ordinary messages."""

    __slots__ = ("_count", "_cursor", "_next_at", "peer", "sync_id")

    def __init__(self, peer: Peer, sync_id: int, now: float) -> None:
        self.peer = peer
        self.sync_id = sync_id
        self._cursor: bytes | None = None
        self._count = 0
        self._next_at = now

    def get_timer(self) -> float:
        return self._next_at

    def tell_more(self, target: Target, ended: EndedFlows, now: float) -> bool:
        """Tell the next slice; True when SYNC_DONE went out."""
        if now < self._next_at:
            return False
        self._next_at = now + SLICE_INTERVAL_S
        states, self._cursor = target.scan(self._cursor, SLICE)
        link, group_id = self.peer.link, self.peer.group_id
        for state in states:
            entry = state.entry
            is_over = ended.lingering.get(entry.signature.session) == entry.serial
            if entry.group_id == group_id and not is_over:
                link.queue(messages.flow_state(state), now)
                self._count += 1
        if self._cursor is not None:
            return False
        link.flush_all()  # SYNC_DONE stands behind all that it counts
        link.send(SyncDone(sync_id=self.sync_id, flow_count=self._count))
        return True
