# SPDX-License-Identifier: Apache-2.0
"""When reports are taken that may wait for others."""

import pytest

from data_flow_segment.companions import SHARED_WAIT_S, WAIT_S, Companions
from ssmb.constants import BATCH_DELAY_MS

SHARED = pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "with standbys"])
WAITS = {False: WAIT_S, True: SHARED_WAIT_S}


def test_at_rest_nothing_is_due() -> None:
    companions = Companions()
    assert companions.is_resting
    assert companions.get_timer() is None
    assert not companions.is_due(1e9)


def test_the_first_report_waits_for_others_and_less_than_a_batch_may() -> None:
    companions = Companions()
    companions.came(5.0, is_shared=False)
    assert not companions.is_resting
    assert companions.get_timer() == 5.0 + WAIT_S < 5.0 + BATCH_DELAY_MS / 1000
    assert not companions.is_due(5.0)
    assert companions.is_due(5.0 + WAIT_S)


def test_a_standby_gets_at_once_what_comes_alone() -> None:
    companions = Companions()
    companions.came(5.0, is_shared=True)
    assert companions.is_due(5.0)


@SHARED
def test_while_there_is_something_the_clock_is_watched(is_shared: bool) -> None:
    companions = Companions()
    companions.came(5.0, is_shared=is_shared)
    companions.taken(6.0, some=True, is_shared=is_shared)
    assert not companions.is_resting
    assert companions.get_timer() == 6.0 + WAITS[is_shared]
    assert not companions.is_due(6.0 + WAITS[is_shared] / 4)


@SHARED
def test_a_wake_up_for_something_else_takes_along_what_has_waited_half_its_time(
    is_shared: bool,
) -> None:
    companions = Companions()
    companions.taken(6.0, some=True, is_shared=is_shared)
    assert companions.is_due(6.0 + WAITS[is_shared] * 0.6)


@SHARED
def test_nothing_found_is_rest(is_shared: bool) -> None:
    companions = Companions()
    companions.came(5.0, is_shared=is_shared)
    companions.taken(6.0, some=False, is_shared=is_shared)
    assert companions.is_resting
    assert not companions.is_due(1e9)
