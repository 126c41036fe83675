# SPDX-License-Identifier: Apache-2.0
"""Which DFSs of a CS's file belong together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from support.segments.dfs_double import config


def segments(*teams: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"address": f"10.255.0.{number}", **team} for number, team in enumerate(teams, 101)]


def test_teams_are_named_at_their_members() -> None:
    pair, paths = {"pair": "edge"}, {"multipath": "inner"}
    read = config(data_flow_segments=segments(pair, paths, {}, paths, pair))
    assert [each.pair or each.multipath for each in read.data_flow_segments] == [
        "edge",
        "inner",
        None,
        "inner",
        "edge",
    ]


@pytest.mark.parametrize(
    ("teams", "complaint"),
    [
        (({"pair": "a", "multipath": "a"}, {}), "give pair or multipath, not both"),
        (({"pair": "a"}, {}), "pair 'a' has one member; name it at every data flow segment"),
        (({"multipath": "a"}, {"multipath": "b"}), "multipath 'a' has one member"),
        (
            ({"pair": "a"}, {"pair": "a"}, {"multipath": "a"}, {"multipath": "a"}),
            "'a' is the name of a pair; give the multipath another one",
        ),
        (({"pair": "a b"}, {"pair": "a b"}), "pattern"),
    ],
)
def test_what_makes_no_team_is_refused(teams: tuple[dict[str, Any], ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        config(data_flow_segments=segments(*teams))
