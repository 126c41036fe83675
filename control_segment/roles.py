# SPDX-License-Identifier: Apache-2.0
"""What this CS's role in its group means at each DFS: HELLO, configuration, SYNC (wire protocol
11.5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from control_segment.configuring import Configuring
from control_segment.group.group import Group
from control_segment.links import Link
from control_segment.peers import Peer
from csmb.constants import ErrorCode, Flag
from csmb.messages import Hello


class Roles:
    """Tells the election what DFSs say, and the DFSs what came of it."""

    def __init__(
        self,
        group: Group,
        links: Sequence[Link],
        peers: Mapping[int, Peer],
        configuring: Configuring,
        synchronise: Callable[[Peer, float], None],
        log: list[str],
    ) -> None:
        self.election = group.election
        self._multicast = group.multicast
        self._links = links
        self._peers = peers
        self._configuring = configuring
        self._synchronise = synchronise
        self._log = log
        group.follow = self.follow

    def connected(self, peer: Peer, now: float) -> None:
        """The first connection to a DFS is READY."""
        has_heartbeats = peer.takes_heartbeats
        self.election.connected(peer.segment_id, now, has_heartbeats=has_heartbeats)

    def disconnected(self, dfs_id: int, now: float) -> None:
        """The last one has ended."""
        self.election.disconnected(dfs_id, now)
        self.follow(now)

    def hello_came(self, peer: Peer, hello: Hello, now: float) -> None:
        """Be what the DFS says that this CS is in its group (11.1, 11.5)."""
        if hello.flags & Flag.ACTIVE:
            self._multicast.epoch_said(peer, hello.role_epoch)
        self.election.said(
            peer.segment_id,
            now,
            active=bool(hello.flags & Flag.ACTIVE),
            refused=hello.error_code == ErrorCode.NOTACTIVE,
            epoch=hello.role_epoch,
        )
        self.follow(now)

    def follow(self, now: float) -> None:
        """The role may have changed."""
        election, links = self.election, self._links
        found = [link.dfs_id for link in links if link.dfs_id is not None]
        election.known.total = len(links) - len(found) + len(set(found))
        self._log += election.take_news()
        for peer in self._peers.values():
            before = peer.is_active
            peer.is_active = election.is_active_at(peer.segment_id, before)
            if peer.is_active != before:
                self._changed(peer, now)
        for index, link in enumerate(links):
            link.announce(election, now)
            if link.peer_id is None:
                continue
            if not self._peers[link.peer_id].is_active:
                link.is_configured = False
            elif not link.is_configured:
                self._configuring.configure(index, now)

    def _changed(self, peer: Peer, now: float) -> None:
        """At this DFS, the CS is the active one now, or no longer."""
        peer.active_since = now if peer.is_active else math.inf
        peer.update()
        if not peer.is_active or self.election.known.is_alone:
            # One that hung may have answered QUERYs since that another one has decided otherwise
            peer.copy.lost()
        is_due = peer.authentication.is_proved and not peer.sync.is_running
        if peer.is_connected and is_due and not peer.copy.is_complete:
            self._synchronise(peer, now)
