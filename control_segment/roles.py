# SPDX-License-Identifier: Apache-2.0
"""Whether this CS is its group's active one at a DFS, and when it claims to be (wire protocol 11).

Every DFS has groups of its own, so a CS has a role for each DFS.  The roles are a table: (role,
what the DFS's HELLO says) -> next role.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from csmb.constants import ROLE_EPOCH_MAX, ErrorCode, Flag
from csmb.messages import Hello

FIRST_EPOCH: Final = 1  # of a CS that has not taken over yet


class Role(Enum):
    """What this CS is at one DFS; the value is what `status` shows."""

    STANDBY = "standby"  # configured so: it never claims
    CLAIMING = "claiming"  # its HELLO sets ACTIVE, and is not answered yet
    ACTIVE = "active"
    WAITING = "waiting"  # another one is active
    VACANT = "waiting for the active CS to return"  # for an interval; then it takes over


class Said(Enum):
    """What a sealed HELLO of the DFS says about the group."""

    NOTACTIVE = auto()  # you claim, and another one is active
    TAKEN = auto()  # a CS is active: it may be you
    FREE = auto()  # none is; a DFS of an earlier release says so even if one is (11.5)


TABLE: Final[dict[Role, dict[Said, Role]]] = {
    Role.STANDBY: dict.fromkeys(Said, Role.STANDBY),
    Role.CLAIMING: {
        Said.NOTACTIVE: Role.WAITING,
        Said.TAKEN: Role.ACTIVE,
        Said.FREE: Role.ACTIVE,
    },
    Role.ACTIVE: {
        Said.NOTACTIVE: Role.WAITING,
        Said.TAKEN: Role.ACTIVE,
        Said.FREE: Role.ACTIVE,
    },
    Role.WAITING: {
        Said.NOTACTIVE: Role.WAITING,
        Said.TAKEN: Role.WAITING,
        Said.FREE: Role.VACANT,
    },
    Role.VACANT: {
        Said.NOTACTIVE: Role.WAITING,
        Said.TAKEN: Role.WAITING,
        Said.FREE: Role.CLAIMING,
    },
}
_CLAIMS: Final = frozenset({Role.CLAIMING, Role.ACTIVE})


class GroupRole:
    """This CS's role at one DFS, and the role epochs."""

    __slots__ = ("_free_since", "_others_epoch", "_waits", "epoch", "role")

    def __init__(self, *, active: bool) -> None:
        """`active`: configured as the active CS of the group, so it claims to be."""
        self.role = Role.CLAIMING if active else Role.STANDBY
        self.epoch = FIRST_EPOCH
        self._others_epoch = 0  # the highest that this DFS has named
        self._waits = False  # it was told NOTACTIVE, and has not been active since
        self._free_since = 0.0

    @property
    def claims(self) -> bool:
        """Whether HELLO sets ACTIVE."""
        return self.role in _CLAIMS

    @property
    def is_active(self) -> bool:
        """Whether the DFS takes this CS for the active one."""
        return self.role is Role.ACTIVE

    def heard(self, hello: Hello, hello_interval_s: float, now: float) -> str | None:
        """Take a sealed HELLO of the DFS; return what is new, as a sentence for the log.

        A place that is free for less than an interval may be that of a CS which only lost its
        connection; with two connections to the DFS, HELLOs come twice per interval.
        """
        self._others_epoch = max(self._others_epoch, hello.role_epoch)
        before, said = self.role, _said(hello)
        if before is Role.VACANT and said is Said.FREE:
            if now < self._free_since + hello_interval_s / 2:
                return None
            self._raise_epoch()
        self.role = TABLE[before][said]
        if self.role is Role.VACANT:
            self._free_since = now
        return self._news()

    def reconnected(self) -> None:
        """A connection to the DFS is new: what it said before is past."""
        if self.role is Role.VACANT:
            self.role = Role.WAITING

    def _raise_epoch(self) -> None:
        """Take-over (11.5): the epoch is one higher than the last.

        A DFS of an earlier release names none and may have an active CS that it does not mention.
        Then the epoch stays, so that this CS is refused while that one is there.
        """
        if self._others_epoch:
            self.epoch = max(self.epoch, min(self._others_epoch + 1, ROLE_EPOCH_MAX))

    def _news(self) -> str | None:
        if self.role is Role.WAITING and not self._waits:
            self._waits = True
            return "another CS of the group is active; this one waits, and configures nothing"
        if self.role is Role.ACTIVE and self._waits:
            self._waits = False
            return f"this CS takes over, with role epoch {self.epoch}"
        return None


def _said(hello: Hello) -> Said:
    if hello.error_code == ErrorCode.NOTACTIVE:
        return Said.NOTACTIVE
    return Said.TAKEN if hello.flags & Flag.ACTIVE else Said.FREE
