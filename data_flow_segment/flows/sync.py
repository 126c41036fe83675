# SPDX-License-Identifier: Apache-2.0
"""SYNC: report every flow of its group to a CS, paced (11.4)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.flows import messages
from data_flow_segment.flows.ended import EndedFlows
from data_flow_segment.peers.groups import Peer
from data_flow_segment.targets.contract import Target
from ssmb.addresses import UNSPECIFIED
from ssmb.messages import SyncDone

SLICE: Final = 128
"""Flows reported at a time: a dozen datagrams, which any receive buffer can hold."""

SLICE_INTERVAL_S: Final = 0.004
"""32,000 flows a second: under half of a processor for the agent, a third for the CS, and new flows
wait for two milliseconds at the most.  A million takes half a minute, in which the CS decides."""

LAG_S: Final = 0.018
"""On a busy machine every wake-up is late.  So much is made up for: five slices are some 60
datagrams, which a receive buffer of Linux's default size (212,992 octets) holds."""


class SyncJob:
    """One SYNC being answered.  Flows that change meanwhile are reported by ordinary messages."""

    __slots__ = ("_count", "_cursor", "_next_at", "peer", "sync_id")

    def __init__(self, peer: Peer, sync_id: int, now: float) -> None:
        self.peer = peer
        self.sync_id = sync_id
        self._cursor: bytes | None = None
        self._count = 0
        self._next_at = now

    def get_timer(self) -> float:
        return self._next_at

    def report_more(self, target: Target, ended: EndedFlows, now: float) -> bool:
        """Report the next slice; True when SYNC_DONE went out."""
        if now < self._next_at:
            return False
        self._next_at = max(self._next_at, now - LAG_S) + SLICE_INTERVAL_S
        states, self._cursor = target.scan(self._cursor, SLICE)
        link, group_id = self.peer.link, self.peer.group_id
        for state in states:
            entry = state.entry
            is_over = state.closed or ended.lingering.get(entry.signature.session) == entry.serial
            is_over |= entry.held and entry.node_ipaddr == UNSPECIFIED  # nothing is decided yet
            if entry.group_id == group_id and not is_over:
                link.queue(messages.flow_state(state), now)
                self._count += 1
        if self._cursor is not None:
            return False
        link.flush_all()  # SYNC_DONE stands behind all that it counts
        link.send(SyncDone(sync_id=self.sync_id, flow_count=self._count))
        return True


class Syncs:
    """The SYNCs that are being answered, one for each CS at the most."""

    def __init__(self, target: Target, ended: EndedFlows) -> None:
        self._target = target
        self._ended = ended
        self._jobs: dict[tuple[int, int], SyncJob] = {}

    def begin(self, peer: Peer, sync_id: int, now: float) -> bool:
        """Report all flows to the CS; False for a repeat of the SYNC under way."""
        running = self._jobs.get(peer.identity)
        if running is not None and running.peer is peer and running.sync_id == sync_id:
            return False
        self._jobs[peer.identity] = SyncJob(peer, sync_id, now)
        return True

    def forget(self, peer: Peer) -> None:
        """The CS went away."""
        job = self._jobs.get(peer.identity)
        if job is not None and job.peer is peer:
            del self._jobs[peer.identity]

    def get_timer(self) -> float | None:
        return min((job.get_timer() for job in self._jobs.values()), default=None)

    def handle_timer(self, now: float) -> list[Peer]:
        """Report the next flows; return the CSs that got the last one."""
        done = []
        for identity, job in tuple(self._jobs.items()):
            if job.report_more(self._target, self._ended, now):
                del self._jobs[identity]
                done.append(job.peer)
        return done
