# SPDX-License-Identifier: Apache-2.0
"""Which member of a pair has the virtual addresses (wire protocol 14.5).

The CS decides, because it hears all members.  It announces the virtual servers to the others with
NOARP_MODE: they take packets, and do not say that the addresses are theirs.

    none        until every member has reported its flows, or for DECIDE_S
    a member    until it is silent, or cannot be reached; an agent that is gone from a machine that
                refuses connections left a data path that goes on, so nothing moves
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from admin.log_lines import line
from control_segment.flows import FlowTable
from control_segment.peers import Filling, Member, Peer, Team

DECIDE_S: Final = 3.0  # from when the first member is there
SAMPLE: Final = 10_000  # flows, of which the first owner has the most


class Way(Protocol):
    """A connection to a DFS, or what became of it (`control_segment.links.Link`)."""

    @property
    def dfs_id(self) -> int | None: ...
    @property
    def is_unreachable(self) -> bool: ...


class Owners:
    """Chooses, and says what has changed."""

    def __init__(
        self,
        teams: Mapping[str, Team],
        table: FlowTable,
        links: Sequence[Way],
        silent_s: float,
        changed: Callable[[Team, float], None],
        log: list[str],
    ) -> None:
        """`silent_s`: without an answer to a heartbeat a member is dead; `changed`: let members
        know."""
        self._teams = teams
        self._table = table
        self._links = links
        self._silent_s = silent_s
        self._changed = changed
        self._log = log

    def look(self, now: float) -> None:
        """Decide for every pair."""
        for team in self._teams.values():
            if team.has_owner:
                self._look_at(team, now)

    def _look_at(self, team: Team, now: float) -> None:
        there = [member for member in team.members if member.peer.is_active]
        if not there:  # another CS decides
            team.owner, team.decides_at = None, None
            return
        owner = team.owner
        if owner is None:
            owner = self._first(team, there, now)
        elif self._is_dead(owner, now):
            owner = self._successor(team, now) or owner
        if owner is not None and owner is not team.owner:
            self._take(team, owner, now)

    def _first(self, team: Team, there: list[Member], now: float) -> Member | None:
        """Whoever has the packets already; so a CS that starts moves nothing."""
        if team.decides_at is None:
            team.decides_at = now + DECIDE_S
        ready = [member for member in there if member.is_reachable and member.peer.answers]
        if not ready or (len(ready) < team.size and now < team.decides_at):
            return None
        flows = islice(self._table.by_key.values(), SAMPLE)
        carried = Counter(flow.peer.segment_id for flow in flows)
        ids = (member.peer.segment_id for member in ready)
        first = max(ids, key=lambda each: (carried[each], -each))
        return next(member for member in ready if member.peer.segment_id == first)

    def _successor(self, team: Team, now: float) -> Member | None:
        """A member that lives; one that has every flow if there is one, for none is an outage."""
        living = [
            member
            for member in team.members
            if member is not team.owner and member.is_reachable and not self._is_dead(member, now)
        ]
        return max(living, key=lambda member: member.filling is Filling.COMPLETE, default=None)

    def _is_dead(self, member: Member, now: float) -> bool:
        peer = member.peer
        if not peer.is_connected:
            return self._is_unreachable(peer)
        return peer.answered_at is not None and now - peer.answered_at > self._silent_s

    def _is_unreachable(self, peer: Peer) -> bool:
        """Whether its machine does not even refuse a connection."""
        links = [link for link in self._links if link.dfs_id == peer.segment_id]
        return bool(links) and all(link.is_unreachable for link in links)

    def _take(self, team: Team, owner: Member, now: float) -> None:
        before, team.owner = team.owner, owner
        if before is not None:
            what = "holds every flow" if owner.filling is Filling.COMPLETE else "may lack flows"
            said = (
                f"takes the virtual addresses of pair {team.name}: segment"
                f" {before.peer.segment_id} is silent; it {what}"
            )
        else:
            said = f"has the virtual addresses of pair {team.name}"
        segment_id = owner.peer.segment_id
        text = f"DFS segment {segment_id} {said}"
        self._log.append(line(text, peer=f"dfs-{segment_id}", team=team.name))
        self._changed(team, now)


def is_silent(peer: Peer) -> bool | None:
    """Whether a DFS is to leave the virtual addresses to another one; None: nobody knows yet."""
    member = peer.member
    if member is None or not member.team.has_owner:
        return False
    owner = member.team.owner
    return None if owner is None else owner is not member
