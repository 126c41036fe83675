# SPDX-License-Identifier: Apache-2.0
"""Whether this CS is its group's active one: the election (wire protocol 11.5, docs/design/0009).

The roles are a table: (role, what has happened) -> next role.  What has happened follows from what
the DFSs and the other CSs have said, and from the time (`rules`).  A DFS obeys the highest role
epoch that it has seen, whatever this decides: here is only when to claim.

    election.said(dfs_id, now, active=..., ...)    # a HELLO; also connected, relayed, heard, ...
    election.handle_timer(now)                     # at election.get_timer()
    election.claims, election.epoch                # what HELLO says
"""

from __future__ import annotations

from typing import Final

from control_segment.group.rules import FIRST_EPOCH, RULES, Event, Own, nobody_at
from control_segment.group.times import Times
from control_segment.group.views import Beat, CsView, DfsView, Knowledge, Role, Said
from csmb.constants import ROLE_EPOCH_MAX

TABLE: Final[dict[Role, dict[Event, Role]]] = {
    Role.STANDBY: {
        Event.NOBODY: Role.CLAIMING,
        Event.BETTER: Role.CLAIMING,
        Event.ORDERED: Role.CLAIMING,
    },
    Role.CLAIMING: {
        Event.ACCEPTED: Role.ACTIVE,
        Event.REFUSED: Role.STANDBY,
        Event.UNANSWERED: Role.STANDBY,
        Event.LOW: Role.CLAIMING,
        Event.OUTDATED: Role.STANDBY,
    },
    Role.ACTIVE: {
        Event.LOW: Role.ACTIVE,
        Event.SUPERSEDED: Role.STANDBY,
        Event.YIELDS: Role.STANDBY,
        Event.CUT_OFF: Role.STANDBY,
    },
}
_RAISES: Final = frozenset({Event.NOBODY, Event.BETTER, Event.ORDERED, Event.LOW})
# What was said before the last change, and is answered by another HELLO soon
_PAST: Final = {
    Role.STANDBY: frozenset({Said.OURS, Said.LOW}),
    Role.CLAIMING: frozenset(Said),
    Role.ACTIVE: frozenset({Said.LOW}),
}
_NEWS: Final[dict[Event, str]] = {
    Event.NOBODY: "no CS of the group is active: this one claims",
    Event.BETTER: "the active CS reaches fewer DFSs than this one, which claims",
    Event.ORDERED: "this CS claims, as ordered",
    Event.ACCEPTED: "this CS takes over",
    Event.REFUSED: "another CS of the group is active; this one waits, and configures nothing",
    Event.UNANSWERED: "no DFS has answered the claim; this CS is a standby",
    Event.LOW: "a DFS has obeyed a higher role epoch before: claiming with a higher one",
    Event.OUTDATED: "a DFS has obeyed another CS before: this one waits for it as a standby",
    Event.SUPERSEDED: "another CS has taken over; this one is a standby",
    Event.YIELDS: "another CS has taken over elsewhere; this one is a standby",
    Event.CUT_OFF: "cut off from most DFSs: this CS is a standby",
}


class Election:
    """The role of one CS in its group."""

    def __init__(
        self, segment_id: int, others: frozenset[int], times: Times, *, active: bool, now: float
    ) -> None:
        """`others`: the ids that the file names; `active`: it begins by claiming."""
        self.known = Knowledge(segment_id, others, times, preferred=active)
        self.role = Role.CLAIMING if active else Role.STANDBY
        self.epoch = FIRST_EPOCH
        self.is_complete = False  # it has every flow of every DFS that it reaches
        self._since = now  # in this role
        self._is_ordered = False
        self._waits = not active  # it was a standby since it was active last
        self._complete_since: float | None = None
        self._news: list[str] = []

    @property
    def claims(self) -> bool:
        """Whether HELLO sets ACTIVE."""
        return self.role is not Role.STANDBY

    def is_active_at(self, dfs_id: int, before: bool) -> bool:
        """Whether that DFS takes this CS for the active one; *before*: what was so until now,
        which is what counts while the DFS says nothing."""
        view = self.known.dfss.get(dfs_id)
        is_silent = view is None or view.said is None
        return self.claims and (before if is_silent or view is None else view.said is Said.OURS)

    def take_news(self) -> list[str]:
        """Return, once, sentences for the log."""
        news, self._news = self._news, []
        return news

    # --- what is said ----------------------------------------------------------------------------

    def connected(self, dfs_id: int, now: float, *, has_heartbeats: bool) -> None:
        """A connection to a DFS is READY; what it said on an earlier one is past."""
        known = self.known
        answers = has_heartbeats and not known.is_alone
        known.dfss[dfs_id] = DfsView(now, has_heartbeats, answers, answered_at=now)
        if known.first_ready is None:
            known.first_ready = now

    def disconnected(self, dfs_id: int, now: float) -> None:
        """The last connection to a DFS has ended."""
        self.known.dfss.pop(dfs_id, None)
        self.handle_timer(now)

    def said(self, dfs_id: int, now: float, *, active: bool, refused: bool, epoch: int) -> None:
        """A sealed HELLO of a DFS: whether it has ACTIVE, whether it says NOTACTIVE, its epoch."""
        view = self.known.dfss.get(dfs_id)
        if view is None:
            return
        self.known.highest = max(self.known.highest, epoch)
        said = self._meaning(view, active=active, refused=refused, epoch=epoch)
        if said is not None and (said is not view.said or epoch != view.epoch):
            view.said, view.epoch, view.since = said, epoch, now
            view.relayed_at = None
        self.handle_timer(now)

    def _meaning(self, view: DfsView, *, active: bool, refused: bool, epoch: int) -> Said | None:
        """What a HELLO says of this CS; None: the DFS sent it before it heard the last of us.

        A DFS of an earlier release says nothing of other CSs unless they are in the way.
        """
        if not view.has_heartbeats and not active:
            if refused:
                return Said.TAKEN
            return Said.OURS if self.claims else Said.FREE
        if refused:
            if self.claims and epoch < self.epoch:
                return None  # the answer to an earlier claim
            return Said.TAKEN if active else Said.LOW
        if not active:
            return None if self.claims else Said.FREE
        if not self.claims or epoch > self.epoch:
            return Said.TAKEN
        return Said.OURS if epoch == self.epoch else None

    def answered(self, dfs_id: int, now: float) -> None:
        """A DFS has answered a HEARTBEAT of this CS."""
        view = self.known.dfss.get(dfs_id)
        if view is not None:
            view.answered_at = now

    def relayed(self, dfs_id: int, beat: Beat, now: float) -> None:
        """A DFS has passed on a HEARTBEAT of the CS that is active there."""
        view = self.known.dfss.get(dfs_id)
        if view is None or beat.segment_id not in self.known.others:
            return
        view.relayed_at = now
        self._note(beat, now)

    def heard(self, beat: Beat, now: float) -> None:
        """A fresh HEARTBEAT of another CS has come directly."""
        self._note(beat, now).direct_at = now
        self.handle_timer(now)

    def _note(self, beat: Beat, now: float) -> CsView:
        if beat.successor == self.known.segment_id and beat.role is Role.ACTIVE:
            self._is_ordered = self.is_complete and not self.claims
        return self.known.note(beat, now)

    def order(self, now: float) -> None:
        """An operator wants this CS to be the active one."""
        self._is_ordered = not self.claims
        self.handle_timer(now)

    # --- time ----------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When a CS that is alone has to look again; others look once per heartbeat."""
        if self.role is not Role.STANDBY:
            return None
        return nobody_at(self.known, self._since)

    def handle_timer(self, now: float) -> None:
        """Let what is known at this time take effect."""
        self.known.count(now)
        if not self.is_complete or self.claims:
            self._complete_since = None
        elif self._complete_since is None:
            self._complete_since = now
        for _ in Role:  # a role can lead to the next one at once
            own = Own(self.epoch, self._since, self._is_ordered, self._complete_since)
            event = next(RULES[self.role](self.known, own, now), None)
            if event is None:
                return
            self._change(event, now)

    def _change(self, event: Event, now: float) -> None:
        before, self.role = self.role, TABLE[self.role][event]
        self._is_ordered = False
        if event in _RAISES:
            self._raise()
        if self.role is not before:
            self._since = now
        for view in self.known.dfss.values():
            if view.said in _PAST[self.role]:
                view.said, view.since = None, now
        self._tell(event)

    def _tell(self, event: Event) -> None:
        """What people should know.

        A CS that is alone in its file asks a DFS that does not mention others again and again.
        """
        is_known = {
            Event.NOBODY: self.known.is_alone,
            Event.REFUSED: self.known.is_alone and self._waits,
            Event.ACCEPTED: not self._waits,
        }
        if not is_known.get(event):
            is_claim = event in _RAISES or event is Event.ACCEPTED
            suffix = f", with role epoch {self.epoch}" if is_claim else ""
            self._news.append(_NEWS[event] + suffix)
        self._waits = self.role is not Role.ACTIVE

    def _raise(self) -> None:
        """A claim's epoch is one higher than any other.

        A DFS of an earlier release names none and may have an active CS that it does not mention;
        then the epoch stays, so that this CS is refused while that one is there.
        """
        if self.known.highest:
            self.epoch = max(self.epoch, min(self.known.highest + 1, ROLE_EPOCH_MAX))
