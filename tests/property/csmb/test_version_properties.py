# SPDX-License-Identifier: Apache-2.0
"""Negotiation between any two segments ends, and ends on the highest common versions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from csmb import versions
from csmb.constants import ErrorCode
from csmb.versions import Pair, Version, Versions

number = st.integers(0, 4)
version_sets: st.SearchStrategy[Versions] = st.dictionaries(
    number, number, min_size=1, max_size=4
).map(lambda minors: tuple(sorted(minors.items())))
any_version = st.tuples(st.integers(0, 255), st.integers(0, 255))
any_pair = st.tuples(any_version, any_version)


def members(own: Versions) -> set[Version]:
    """Every version of a set, one by one."""
    return {(major, minor) for major, highest in own for minor in range(highest + 1)}


@given(version_sets, any_version)
def test_a_set_supports_its_members(own: Versions, version: Version) -> None:
    assert versions.supports(own, version) is (version in members(own))
    assert versions.lowest(own) == min(members(own))
    assert versions.highest(own) == max(members(own))
    up_to = [member for member in members(own) if member <= version]
    assert versions.highest_up_to(own, version) == max(up_to, default=None)


@given(version_sets, version_sets, version_sets, version_sets)
def test_both_sides_end_on_the_highest_common_pair(
    cs_csmb: Versions, cs_ssmb: Versions, dfs_csmb: Versions, dfs_ssmb: Versions
) -> None:
    csmb, ssmb = members(cs_csmb) & members(dfs_csmb), members(cs_ssmb) & members(dfs_ssmb)
    expected = (max(csmb), max(ssmb)) if csmb and ssmb else None
    offer: Pair | None = (versions.highest(cs_csmb), versions.highest(cs_ssmb))
    rounds = 0
    while offer is not None:
        rounds += 1
        assert rounds <= 20
        code, answered = versions.answer(offer, dfs_csmb, dfs_ssmb)
        if code == ErrorCode.OK:
            break
        offer = versions.next_offer(offer, code, answered, cs_csmb, cs_ssmb)
    assert offer == expected


@given(any_pair, version_sets, version_sets)
def test_any_offer_is_answered_with_versions_of_the_dfs(
    offered: Pair, own_csmb: Versions, own_ssmb: Versions
) -> None:
    code, answered = versions.answer(offered, own_csmb, own_ssmb)
    for offer, value, own in zip(offered, answered, (own_csmb, own_ssmb), strict=True):
        assert value == offer or value in members(own)
    assert (answered == offered) is (code == ErrorCode.OK)


@given(version_sets, version_sets, st.lists(st.tuples(st.integers(0, 30), any_pair), max_size=30))
def test_a_dfs_that_answers_anything_cannot_keep_a_cs_busy(
    own_csmb: Versions, own_ssmb: Versions, answers: list[tuple[int, Pair]]
) -> None:
    """Each further offer is lower, so there are no more than the CS has versions."""
    offer: Pair = (versions.highest(own_csmb), versions.highest(own_ssmb))
    for code, answered in answers:
        lower = versions.next_offer(offer, code, answered, own_csmb, own_ssmb)
        if lower is None:
            continue
        assert lower != offer
        for value, before, own in zip(lower, offer, (own_csmb, own_ssmb), strict=True):
            assert value <= before
            assert value in members(own)
        offer = lower
