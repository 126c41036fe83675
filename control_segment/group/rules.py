# SPDX-License-Identifier: Apache-2.0
"""The rules of the election: what has happened, given what is known (docs/design/0009)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from control_segment.group.views import Knowledge, Role, Said

FIRST_EPOCH: Final = 1  # of a CS that has not taken over yet


class Event(Enum):
    """What changes a role."""

    NOBODY = auto()  # no CS is active anywhere that this one reaches
    BETTER = auto()  # the active one reaches fewer DFSs than this one, and one is without
    ORDERED = auto()  # by an operator, or by the active CS on an operator's behalf
    ACCEPTED = auto()  # a DFS takes this CS for the active one
    REFUSED = auto()  # another CS is active
    UNANSWERED = auto()
    LOW = auto()  # a DFS has seen a higher epoch, and no CS is active there
    OUTDATED = auto()  # likewise, at the first claim of a CS that has just been started
    SUPERSEDED = auto()  # another CS is active at every DFS that this one reaches
    YIELDS = auto()  # another CS is active at one, and reaches as many
    CUT_OFF = auto()  # it reaches fewer than half of the DFSs, and others may do better


class Own(NamedTuple):
    """This CS's part."""

    epoch: int
    since: float  # in its role
    is_ordered: bool  # to take over
    complete_since: float | None  # as a standby that has every flow


def standby(known: Knowledge, own: Own, now: float) -> Iterator[Event]:
    """Whether to claim."""
    if own.is_ordered or _takes_back(known, own, now):
        yield Event.ORDERED
    if known.lacks_since is not None and not known.is_alone:
        return
    due = nobody_at(known, now)
    if due is not None and now >= due:
        yield Event.NOBODY
    if _is_better(known, now):
        yield Event.BETTER


def claiming(known: Knowledge, own: Own, now: float) -> Iterator[Event]:
    """What became of the claim."""
    said = [view.said for view in known.dfss.values()]
    if Said.LOW in said:
        # The CS that had it may be on its way back to this DFS, and know everything
        is_first = own.epoch == FIRST_EPOCH and not known.is_alone
        yield Event.OUTDATED if is_first else Event.LOW
    if Said.OURS in said:
        yield Event.ACCEPTED
    if Said.TAKEN in said and None not in said:
        yield Event.REFUSED
    if said and not known.is_alone and now - own.since >= known.times.silent:
        yield Event.UNANSWERED


def active(known: Knowledge, own: Own, now: float) -> Iterator[Event]:
    """Whether to go on."""
    said = [view.said for view in known.dfss.values()]
    if Said.LOW in said:
        yield Event.LOW
    if said and all(each is Said.TAKEN for each in said):
        yield Event.SUPERSEDED
    if _yields(known, own, now):
        yield Event.YIELDS
    if _is_cut_off(known, now):
        yield Event.CUT_OFF


RULES: Final[dict[Role, Callable[[Knowledge, Own, float], Iterator[Event]]]] = {
    Role.STANDBY: standby,
    Role.CLAIMING: claiming,
    Role.ACTIVE: active,
}


def nobody_at(known: Knowledge, now: float) -> float | None:
    """When no CS is active, as things stand; None: one is, or nothing is known."""
    times = known.times
    dues = [view.vacant_at(times) for view in known.reached(now)]
    found = [due for due in dues if due is not None]
    if not found or len(found) < len(dues) or known.first_ready is None:
        return None
    if known.is_alone and not known.preferred:
        return None  # nobody told it of a group whose active CS it may replace
    are_free = all(view.said is not Said.TAKEN for view in known.dfss.values())
    patience_s = times.vacant if are_free else times.silent
    last_heard = [
        view.direct_at + patience_s
        for view in known.css.values()
        if view.beat.role is Role.ACTIVE and view.direct_at is not None
    ]
    if are_free and last_heard:
        # One that reached any of these DFSs would have been obeyed there long since
        last_heard = [min(max(last_heard), max(found) + times.cut_off)]
    found += last_heard
    was_active = any(view.beat.role is Role.ACTIVE for view in known.css.values())
    if not known.is_alone and not was_active and not known.preferred:
        found.append(known.first_ready + times.start)  # it may be about to come
    return max(found) + known.place(now) * times.stagger


def _is_better(known: Knowledge, now: float) -> bool:
    times = known.times
    other = known.other_active(now)
    if other is None or other.beat.reach >= known.reach(now) or known.place(now):
        return False
    dues = (view.vacant_at(times) for view in known.reached(now))
    return any(due is not None and now >= due + times.cut_off for due in dues)


def _takes_back(known: Knowledge, own: Own, now: float) -> bool:
    preempt = known.times.preempt
    if preempt is None or not known.preferred or own.complete_since is None:
        return False
    return now - own.complete_since >= preempt and known.other_active(now) is not None


def _yields(known: Knowledge, own: Own, now: float) -> bool:
    other = known.other_active(now)
    if other is None or other.beat.epoch <= own.epoch or other.beat.reach < known.reach(now):
        return False
    return any(
        view.said is Said.TAKEN and now - view.since >= known.times.cut_off
        for view in known.dfss.values()
    )


def _is_cut_off(known: Knowledge, now: float) -> bool:
    since = known.lacks_since
    if known.is_alone or since is None or now - since < known.times.silent:
        return False
    reach, living = known.reach(now), known.living(now)
    if not living:
        return reach > 0
    return any(view.beat.reach > reach for view in living)
