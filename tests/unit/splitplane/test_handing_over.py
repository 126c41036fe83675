# SPDX-License-Identifier: Apache-2.0
"""Whoever ordered a switch-over waits for it, and hears it if nothing comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from admin.answers import ControlSegmentStatus
from admin.errors import CommandError
from control_segment.runtime import admin
from splitplane import handing_over
from splitplane.handing_over import wait_until_handed_over
from support.segments.dfs_double import Rig


@pytest.fixture
def active() -> ControlSegmentStatus:
    rig = Rig()
    status = admin.handle(rig.cs, "status", {}, rig.now)
    assert isinstance(status, ControlSegmentStatus)
    return replace(status, segment_id=1, group_role="active")


def test_it_waits_as_long_as_the_order_stands(
    active: ControlSegmentStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "CLAIM_S", 0.0)
    waiting = replace(active, successor=2)
    answers = [waiting, waiting, replace(active, group_role="standby")]
    wait_until_handed_over(lambda: answers.pop(0), 2)
    assert answers == []


def test_an_order_that_has_lapsed_is_an_error(
    active: ControlSegmentStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "CLAIM_S", 0.0)
    answers = [replace(active, successor=2), active]
    with pytest.raises(CommandError, match="cs-2 has not taken over"):
        wait_until_handed_over(lambda: answers.pop(0), 2)


def test_a_standby_that_claims_by_itself_is_waited_for(active: ControlSegmentStatus) -> None:
    answers = [replace(active, group_role=role) for role in ("standby", "claiming", "active")]
    wait_until_handed_over(lambda: answers.pop(0), 1)
    assert answers == []
