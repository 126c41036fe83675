# SPDX-License-Identifier: Apache-2.0
"""Which version two segments speak (wire protocol 7.8).

A version is (major, minor).  A segment's set is a tuple of the highest minor of each major it
supports; it supports every lower minor of that major too.
"""

from __future__ import annotations

from typing import TypeAlias

from csmb.constants import ErrorCode

Version: TypeAlias = tuple[int, int]
Versions: TypeAlias = tuple[Version, ...]
Pair: TypeAlias = tuple[Version, Version]  # of CSMB, of SSMB


def supports(own: Versions, version: Version) -> bool:
    """Whether a version is in the set."""
    return any(version[0] == major and version[1] <= minor for major, minor in own)


def lowest(own: Versions) -> Version:
    """The lowest version of the set."""
    return min(major for major, _ in own), 0


def highest(own: Versions) -> Version:
    """The highest version of the set."""
    return max(own)


def highest_up_to(own: Versions, limit: Version) -> Version | None:
    """The highest of the set that is not above *limit*."""
    fitting = [
        (major, min(minor, limit[1]) if major == limit[0] else minor)
        for major, minor in own
        if major <= limit[0]
    ]
    return max(fitting, default=None)


def _verdict(own: Versions, offered: Version) -> tuple[ErrorCode, Version]:
    """How an offered version is answered, alone."""
    if supports(own, offered):
        return ErrorCode.OK, offered
    if offered < lowest(own):
        return ErrorCode.VERS_OBSOLETE, lowest(own)
    below = highest_up_to(own, offered)
    assert below is not None  # not below the set's lowest, so something is below it
    return ErrorCode.VERS_NEW, below


def answer(offered: Pair, own_csmb: Versions, own_ssmb: Versions) -> tuple[ErrorCode, Pair]:
    """Return the error code and the versions of the HELLO that answers an offer."""
    verdicts = (_verdict(own_csmb, offered[0]), _verdict(own_ssmb, offered[1]))
    codes = [code for code, _ in verdicts]
    for worst in (ErrorCode.VERS_NEW, ErrorCode.VERS_OBSOLETE):
        if worst in codes:
            csmb, ssmb = (
                version if code == worst else offer
                for (code, version), offer in zip(verdicts, offered, strict=True)
            )
            return worst, (csmb, ssmb)
    return ErrorCode.OK, offered


def next_offer(
    refused: Pair, error_code: int, answered: Pair, own_csmb: Versions, own_ssmb: Versions
) -> Pair | None:
    """Return what the CS offers after a refusal; None: no common version is left.

    The CS opened with its highest and only descends, so VERS_OBSOLETE ends it.
    """
    if error_code != ErrorCode.VERS_NEW:
        return None
    made = []
    for offer, value, own in zip(refused, answered, (own_csmb, own_ssmb), strict=True):
        lower = offer if value == offer else highest_up_to(own, min(value, offer))
        if lower is None:
            return None
        made.append(lower)
    offers: Pair = (made[0], made[1])
    return offers if offers != refused else None
