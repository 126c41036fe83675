# SPDX-License-Identifier: Apache-2.0
"""Whether a DFS obeys the CS that says a HELLO (wire protocol 11.1): one comparison of claims.

A group has one CS that is obeyed, the one whose claim was the last that was obeyed.  That claim is
kept, and only itself or a higher one is obeyed after it: so an older CS never is after a newer one,
whatever either of them believes, and whether the newer one is still there or not.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from csmb.constants import CS_ID_MAX, Flag
from csmb.messages import Hello

EPOCH_STEP_MAX: Final = 1 << 24
"""By how much a claim may raise the epoch.  A take-over raises it by one, so that no cluster gets
there; and one CS that has gone mad cannot take the numbers from all the others for ever."""

_ACTIVE: Final = int(Flag.ACTIVE)


class Claim(NamedTuple):
    """To be a group's active CS."""

    role_epoch: int
    segment_id: int  # 0: not known, and nobody has it

    @property
    def rank(self) -> tuple[int, int]:
        """The higher epoch; at a tie the lower id."""
        return self.role_epoch, -self.segment_id


NO_CLAIM: Final = Claim(0, CS_ID_MAX + 1)
"""Of a group that has had none: every claim is higher."""


class Verdict(Enum):
    """What a HELLO means for its group's role."""

    OBEYED = auto()  # it claims the role and has it
    STANDBY = auto()  # it claims nothing
    EARLIER = auto()  # of the active CS, overtaken by its next one on another connection: no news
    LOWER = auto()  # a higher claim has been obeyed
    TOO_HIGH = auto()  # it claims with an epoch that no take-over leads to


REFUSED: Final = frozenset({Verdict.LOWER, Verdict.TOO_HIGH})
"""Answered NOTACTIVE."""


def claim_of(hello: Hello) -> Claim:
    """What a HELLO with ACTIVE claims."""
    return Claim(hello.role_epoch, hello.segment_id)


def judge(hello: Hello, obeyed: Claim, active: Hello | None) -> Verdict:
    """Judge a HELLO that a CS of the group has said under its seal.

    `obeyed` is the highest claim that ever was; `active` the last HELLO of the active CS, if any.
    """
    own = hello.segment_id, hello.boot_id
    is_own = active is not None and (active.segment_id, active.boot_id) == own
    if is_own and hello.role_epoch < obeyed.role_epoch:
        return Verdict.EARLIER  # the epochs of a CS do not fall while it runs (11.1)
    if not hello.flags & _ACTIVE:
        return Verdict.STANDBY
    claim = claim_of(hello)
    if claim.rank < obeyed.rank:
        return Verdict.LOWER
    if claim.role_epoch > obeyed.role_epoch + EPOCH_STEP_MAX:
        return Verdict.TOO_HIGH
    return Verdict.OBEYED
