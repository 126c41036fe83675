# SPDX-License-Identifier: Apache-2.0
"""A bad network is exactly as bad as it was asked to be."""

from __future__ import annotations

import pytest

from admin.errors import ConfigError
from splitplane.impair import Impairment, from_environment, parse

OCTETS = b"datagram"


def test_the_value_is_read() -> None:
    text = "drop=0.05, duplicate=0.1,reorder=1,seed=9"
    assert parse(text) == Impairment(drop=0.05, duplicate=0.1, reorder=1, seed=9)
    assert parse("drop=1") == Impairment(drop=1, seed=1)


def test_without_the_variable_nothing_is_impaired() -> None:
    assert from_environment({}) is None
    assert from_environment({"SPLITPLANE_IMPAIR": ""}) is None
    assert from_environment({"SPLITPLANE_IMPAIR": "seed=3"}) == Impairment(seed=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss=0.1", "'loss=0.1' does not set one of drop, duplicate, reorder, seed"),
        ("drop", "'drop' does not set one of"),
        ("drop=0.1,", "'' does not set one of"),
        ("drop=", "drop= is not a number"),
        ("drop=5%", "drop=5% is not a number"),
        ("drop=5", "drop=5 is not between 0 and 1"),
        ("drop=-0.1", "drop=-0.1 is not between 0 and 1"),
        ("reorder=nan", "reorder=nan is not between 0 and 1"),
        ("drop=0,drop=0", "drop is given twice"),
        ("seed=1,seed=1", "seed is given twice"),
        ("seed=-1", "seed=-1 is not a whole number below"),
        ("seed=²", "seed=² is not a whole number below"),
        ("seed=4294967296", "is not a whole number below 4294967296"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.startswith("SPLITPLANE_IMPAIR: ")
    assert said in problem
    assert "a valid example: drop=0.05," in problem


def test_each_share_happens_as_often_as_it_was_asked_for() -> None:
    impaired = Impairment(drop=0.1, duplicate=0.2, reorder=0.3, seed=4).filter()
    answers = [impaired("in", OCTETS) for _ in range(20_000)]
    kept = [answer for answer in answers if answer]
    copies = [copy for answer in kept for copy in answer]
    assert 1 - len(kept) / len(answers) == pytest.approx(0.1, abs=0.01)
    assert sum(len(answer) == 2 for answer in kept) / len(kept) == pytest.approx(0.2, abs=0.01)
    assert sum(delay > 0 for delay, _ in copies) / len(copies) == pytest.approx(0.3, abs=0.01)
    assert {octets for _, octets in copies} == {OCTETS}
    assert max(delay for delay, _ in copies) < 0.05  # before the first repeat of a QUERY


def test_nothing_asked_for_changes_nothing_and_the_same_seed_repeats() -> None:
    still = Impairment().filter()
    assert [still("out", OCTETS) for _ in range(100)] == [[(0.0, OCTETS)]] * 100
    one, two = (Impairment(drop=0.5, reorder=0.5, seed=8).filter() for _ in range(2))
    assert [one("in", OCTETS) for _ in range(100)] == [two("out", OCTETS) for _ in range(100)]
