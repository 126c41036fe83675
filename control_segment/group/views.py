# SPDX-License-Identifier: Apache-2.0
"""What a CS knows of its group: each DFS's word, and each other CS's (wire protocol 11.5, 11.8).

Times are seconds of this CS's own clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from control_segment.group.times import Times


class Role(Enum):
    """What this CS is in its group; the value is what `status` shows."""

    STANDBY = "standby"  # mirrors, and claims nothing
    CLAIMING = "claiming"  # its HELLOs say ACTIVE, and no DFS has said yes yet
    ACTIVE = "active"


class Said(Enum):
    """What a sealed HELLO of a DFS says about the group."""

    FREE = auto()  # no CS is active
    OURS = auto()  # this CS is
    TAKEN = auto()  # another one is
    LOW = auto()  # none is, but the claim of this CS has an epoch below that of an earlier one


class Beat(NamedTuple):
    """What a HEARTBEAT says of the CS that sent it."""

    segment_id: int
    role: Role
    epoch: int
    reach: int
    successor: int = 0
    lacks_grants: bool = False  # a standby that was not told what grants say


@dataclass(slots=True)
class DfsView:
    """What one DFS has said; it is forgotten when the connection ends."""

    since: float  # when it became READY, or began to say what it says
    has_heartbeats: bool  # it answers and relays them
    answers: bool  # it is asked to: heartbeats are sent if the group has other CSs
    answered_at: float  # its last answer to a HEARTBEAT of ours
    said: Said | None = None
    epoch: int = 0
    relayed_at: float | None = None  # the last HEARTBEAT of a CS that is active there

    def reaches(self, now: float, times: Times) -> bool:
        """Whether messages go both ways."""
        return not self.answers or now - self.answered_at < times.silent

    def vacant_at(self, times: Times) -> float | None:
        """From when on no CS is active there, for all that is known; None: one is."""
        if self.said is Said.FREE or self.said is Said.LOW:
            return self.since + times.vacant
        if self.said is Said.TAKEN and self.relayed_at is not None:
            return self.relayed_at + times.silent
        return None


@dataclass(slots=True)
class CsView:
    """The last fresh HEARTBEAT of another CS, by whatever way."""

    beat: Beat
    heard_at: float
    direct_at: float | None = None  # the last that came without a DFS

    def lives(self, now: float, times: Times) -> bool:
        """Whether it was heard of lately."""
        return now - self.heard_at < times.silent


class Knowledge:
    """All of it, of one CS."""

    def __init__(
        self, segment_id: int, others: frozenset[int], times: Times, *, preferred: bool
    ) -> None:
        """`others`: the ids that the file names; `preferred`: its own file says `active: true`."""
        self.segment_id = segment_id
        self.others = others
        self.times = times
        self.preferred = preferred
        self.total = 1  # how many DFSs there are to reach
        self.highest = 0  # the highest epoch that was named
        self.dfss: dict[int, DfsView] = {}
        self.css: dict[int, CsView] = {}
        self.first_ready: float | None = None
        self.lacks_since: float | None = None  # since when it has reached too few DFSs

    @property
    def is_alone(self) -> bool:
        """Whether the file names no other CS: then nothing is sent to or expected of one."""
        return not self.others

    def reaches(self, dfs_id: int, now: float) -> bool:
        """Whether messages go to this DFS and back."""
        view = self.dfss.get(dfs_id)
        return view is not None and view.reaches(now, self.times)

    def reach(self, now: float) -> int:
        """How many DFSs this CS reaches, both ways."""
        return sum(view.reaches(now, self.times) for view in self.dfss.values())

    def reached(self, now: float) -> Iterator[DfsView]:
        """Those DFSs."""
        return (view for view in self.dfss.values() if view.reaches(now, self.times))

    def count(self, now: float) -> None:
        """Note since when it has reached fewer than half of the DFSs, or none."""
        reach = self.reach(now)
        if reach and 2 * reach >= self.total:
            self.lacks_since = None
        elif self.lacks_since is None:
            silent = [view for view in self.dfss.values() if not view.reaches(now, self.times)]
            if 2 * (reach + len(silent)) >= self.total and silent:
                self.lacks_since = max(view.answered_at for view in silent)  # it began then
            else:
                self.lacks_since = now

    def living(self, now: float) -> list[CsView]:
        """The other CSs that were heard of lately."""
        return [view for view in self.css.values() if view.lives(now, self.times)]

    def other_active(self, now: float) -> CsView | None:
        """The living CS that says it is active, with the highest epoch."""
        claiming = [view for view in self.living(now) if view.beat.role is Role.ACTIVE]
        return max(claiming, key=lambda view: view.beat.epoch, default=None)

    def place(self, now: float) -> int:
        """How many standbys go first: those that reach more, or as much with a lower id."""
        ours = self.reach(now), -self.segment_id
        return sum(
            view.beat.role is not Role.ACTIVE and (view.beat.reach, -view.beat.segment_id) > ours
            for view in self.living(now)
        )

    def note(self, beat: Beat, now: float) -> CsView:
        """Another CS was heard of."""
        self.highest = max(self.highest, beat.epoch)
        view = self.css.setdefault(beat.segment_id, CsView(beat, now))
        view.beat, view.heard_at = beat, now
        return view
