# SPDX-License-Identifier: Apache-2.0
"""What an agent waits for that has not had its switch yet, and how often it says so."""

from __future__ import annotations

import pytest

from data_flow_segment.targets.contract import TargetError, TargetLost, Waiting
from data_flow_segment.targets.p4runtime.failures import (
    ElectionIdInUse,
    NoP4Runtime,
    NotPrimary,
    SwitchLost,
)
from data_flow_segment.targets.p4runtime.waiting import AGAIN_S, CHANGE_S, GHOST_S, Patience

AWAY = SwitchLost("nothing listens there")
STARTING = NoP4Runtime("it does not speak P4Runtime")
TAKEN = ElectionIdInUse("another agent uses it")


def said(reason: str, *, for_another: bool = False) -> Waiting:
    return Waiting(f"{reason}; waiting for it", for_another)


@pytest.mark.parametrize("error", [AWAY, STARTING])
def test_a_switch_that_is_away_is_waited_for_and_it_is_said_once_then_rarely(
    error: TargetLost,
) -> None:
    patience = Patience()
    assert patience.hear(error, 100.0) == said(str(error))
    assert {patience.hear(error, 100.0 + second) for second in range(1, int(AGAIN_S))} == {None}
    assert patience.hear(error, 100.0 + AGAIN_S) == said(str(error))
    assert patience.hear(error, 101.0 + AGAIN_S) is None


def test_another_reason_is_said_earlier_but_not_at_every_try() -> None:
    patience = Patience()
    patience.hear(AWAY, 0.0)
    assert patience.hear(STARTING, CHANGE_S - 1) is None
    assert patience.hear(STARTING, CHANGE_S) == said(str(STARTING))
    assert patience.hear(AWAY, CHANGE_S + 1) is None


def test_what_only_a_person_can_mend_ends_the_wait() -> None:
    error = TargetError("the switch runs another program")
    patience = Patience()
    patience.hear(AWAY, 0.0)
    assert patience.hear(error, 1.0) is error


def test_an_agents_own_ghost_is_not_worth_a_word_and_another_agent_is() -> None:
    patience = Patience()
    assert patience.hear(TAKEN, 50.0) is None
    assert patience.hear(TAKEN, 50.0 + GHOST_S / 2) is None
    assert patience.hear(TAKEN, 50.0 + GHOST_S) == said(str(TAKEN), for_another=True)
    assert patience.hear(TAKEN, 51.0 + GHOST_S) is None


def test_one_that_stands_by_says_so_once_whatever_happens_to_the_switch() -> None:
    patience = Patience()
    assert patience.stand_by("another is primary") == Waiting("another is primary", True)
    assert patience.stand_by("a third is primary") is None
    assert patience.hear(AWAY, 1e6) is None
    assert patience.hear(NotPrimary("lost"), 1e6) is None
