# SPDX-License-Identifier: Apache-2.0
"""Negotiation: the first pair that both take is the highest that both know (7.8)."""

from __future__ import annotations

import pytest

from csmb import versions
from csmb.constants import ErrorCode
from csmb.versions import Pair, Versions

ROUNDS_MAX = 20


def negotiate(
    cs_csmb: Versions, cs_ssmb: Versions, dfs_csmb: Versions, dfs_ssmb: Versions
) -> tuple[Pair | None, list[ErrorCode]]:
    """Play both sides to the end; return what was agreed and every answer on the way."""
    answers: list[ErrorCode] = []
    offer: Pair | None = (versions.highest(cs_csmb), versions.highest(cs_ssmb))
    while offer is not None:
        code, answered = versions.answer(offer, dfs_csmb, dfs_ssmb)
        answers.append(code)
        assert len(answers) <= ROUNDS_MAX
        if code == ErrorCode.OK:
            assert answered == offer
            return offer, answers
        offer = versions.next_offer(offer, code, answered, cs_csmb, cs_ssmb)
    return None, answers


ONE: Versions = ((1, 0),)
BOTH: Versions = ((1, 0), (2, 0))
NEW, OBSOLETE, OK = ErrorCode.VERS_NEW, ErrorCode.VERS_OBSOLETE, ErrorCode.OK

STORIES: list[
    tuple[str, tuple[Versions, Versions], tuple[Versions, Versions], Pair | None, list[ErrorCode]]
]
STORIES = [
    ("the same", (BOTH, BOTH), (BOTH, BOTH), ((2, 0), (2, 0)), [OK]),
    ("an older DFS", (BOTH, BOTH), (ONE, ONE), ((1, 0), (1, 0)), [NEW, OK]),
    ("an older CS", (ONE, ONE), (BOTH, BOTH), ((1, 0), (1, 0)), [OK]),
    ("only SSMB is older", (BOTH, BOTH), (BOTH, ONE), ((2, 0), (1, 0)), [NEW, OK]),
    ("minors", (((1, 4),), ONE), (((1, 2),), ONE), ((1, 2), (1, 0)), [NEW, OK]),
    ("a lower minor is understood", (((1, 2),), ONE), (((1, 4),), ONE), ((1, 2), (1, 0)), [OK]),
    (
        "a hole in the DFS's majors",
        (((1, 3), (2, 0), (3, 0)), ONE), (((1, 5), (3, 0)), ONE), ((3, 0), (1, 0)), [OK],
    ),
    (
        "holes in both",
        (((1, 3), (3, 0)), ONE), (((1, 5), (2, 1)), ONE), ((1, 3), (1, 0)), [NEW, OK],
    ),
    ("the CS is too old", (ONE, ONE), (((2, 0),), ONE), None, [OBSOLETE]),
    ("the DFS is too old", (((2, 0),), ONE), (ONE, ONE), None, [NEW]),
    ("nothing between", (((1, 0), (3, 0)), ONE), (((2, 0),), ONE), None, [NEW, OBSOLETE]),
    (
        "one too new, one too old: the new one is said first",
        (BOTH, ONE), (ONE, ((2, 0),)), None, [NEW, OBSOLETE],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "cs", "dfs", "agreed", "answers"), STORIES)
def test_stories(
    name: str,
    cs: tuple[Versions, Versions],
    dfs: tuple[Versions, Versions],
    agreed: Pair | None,
    answers: list[ErrorCode],
) -> None:
    assert negotiate(*cs, *dfs) == (agreed, answers), name


def test_a_good_pair_is_echoed_beside_a_bad_one() -> None:
    assert versions.answer(((3, 0), (1, 0)), BOTH, BOTH) == (NEW, ((2, 0), (1, 0)))
    assert versions.answer(((2, 0), (1, 0)), BOTH, ((2, 0),)) == (OBSOLETE, ((2, 0), (2, 0)))


def test_only_the_new_pair_is_replaced_when_both_are_bad() -> None:
    offered = ((3, 0), (1, 0))
    assert versions.answer(offered, BOTH, ((2, 0),)) == (NEW, ((2, 0), (1, 0)))


def test_what_a_set_supports() -> None:
    own: Versions = ((1, 2), (3, 0))
    assert [version for version in [(1, 0), (1, 2), (1, 3), (2, 0), (3, 0), (3, 1)]
            if versions.supports(own, version)] == [(1, 0), (1, 2), (3, 0)]  # fmt: skip
    assert versions.lowest(own) == (1, 0)
    assert versions.highest(own) == (3, 0)
    assert versions.highest_up_to(own, (2, 9)) == (1, 2)
    assert versions.highest_up_to(own, (1, 1)) == (1, 1)
    assert versions.highest_up_to(own, (0, 9)) is None


@pytest.mark.parametrize("value", [(2, 0), (2, 1), (9, 9)])
def test_a_refusal_that_does_not_descend_ends_it(value: tuple[int, int]) -> None:
    """Else a DFS that answers nonsense would keep the CS offering the same for ever."""
    offered = ((2, 0), (2, 0))
    assert versions.next_offer(offered, NEW, (value, (2, 0)), BOTH, BOTH) is None


@pytest.mark.parametrize("code", [OBSOLETE, ErrorCode.DUPID, ErrorCode.NOTACTIVE, OK, 999])
def test_only_vers_new_makes_another_offer(code: int) -> None:
    assert versions.next_offer(((2, 0), (2, 0)), code, ((1, 0), (1, 0)), BOTH, BOTH) is None
