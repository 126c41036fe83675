# SPDX-License-Identifier: Apache-2.0
"""How many packets of a connection are read before it is spliced."""

from __future__ import annotations

from data_flow_segment.flows.budgets import AT_ONCE, PER_S, Budgets
from ssmb.messages import Session
from support.segments.proxied_rig import signature

FIRST = signature().session
SECOND = FIRST._replace(src_port=2)


def spent(budgets: Budgets, count: int, now: float, session: Session = FIRST) -> int:
    return sum(budgets.spend(session, now) for _ in range(count))


def test_so_many_at_once_and_then_so_many_in_a_second() -> None:
    budgets = Budgets()
    assert spent(budgets, 2 * AT_ONCE, 0.0) == AT_ONCE
    assert spent(budgets, 2 * AT_ONCE, 1.0) == PER_S
    assert spent(budgets, 2 * AT_ONCE, 100.0) == AT_ONCE


def test_one_session_does_not_spend_anothers() -> None:
    budgets = Budgets()
    spent(budgets, 2 * AT_ONCE, 0.0)
    assert spent(budgets, 2 * AT_ONCE, 0.0, SECOND) == AT_ONCE


def test_only_the_latest_sessions_are_known() -> None:
    budgets = Budgets(sessions_max=1)
    spent(budgets, 2 * AT_ONCE, 0.0)
    budgets.spend(SECOND, 0.0)
    assert len(budgets) == 1
    assert spent(budgets, 2 * AT_ONCE, 0.0) == AT_ONCE
