# SPDX-License-Identifier: Apache-2.0
"""How fast passes go over the target's table."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from csmb.messages import Config
from data_flow_segment.flows.sweeps import (
    PASS_INTERVAL_S,
    SLICE_INTERVAL_S,
    SPREAD_S,
    Sweeps,
)
from data_flow_segment.targets.contract import Event, FinishedMessages, FlowHalf
from ssmb.addresses import UNSPECIFIED
from ssmb.messages import FlowSignature
from support.segments.agent_rig import AgentRig

HALF = FlowHalf(FlowSignature(UNSPECIFIED, UNSPECIFIED, 1, 2, 6))


def passes(
    sweeps: Sweeps, slices: int, found: Callable[[int], list[Event]] = lambda number: []
) -> Iterator[tuple[float, float]]:
    """When each pass over so many slices began and ended; `found`: in the slice of that number."""
    while True:
        began = now = sweeps.get_timer()
        for number in range(slices):
            now = sweeps.get_timer()
            assert sweeps.due(now) is not None
            sweeps.finished(number == slices - 1, found(number))
        yield began, now


def third(made: Iterator[tuple[float, float]]) -> tuple[float, float]:
    return next(itertools.islice(made, 2, None))


def test_a_small_table_is_looked_at_once_a_second() -> None:
    made = passes(AgentRig().agent.sweeps, 1)
    (first, _), (second, _) = next(made), next(made)
    assert second - first == pytest.approx(PASS_INTERVAL_S)


def test_the_first_pass_does_not_wait_for_what_is_not_known_yet() -> None:
    began, ended = next(passes(AgentRig().agent.sweeps, 10))
    assert ended - began < 3 * SPREAD_S


@pytest.mark.parametrize("slices", [2, 10, 50])
def test_a_table_of_some_slices_is_spread_out(slices: int) -> None:
    made = passes(AgentRig().agent.sweeps, slices)
    began, ended = third(made)
    assert next(made)[0] - began == pytest.approx(SPREAD_S)
    assert ended - began == pytest.approx(SPREAD_S * (slices - 1) / slices)


def test_a_large_table_goes_as_fast_as_it_may() -> None:
    began, ended = third(passes(AgentRig().agent.sweeps, 500))
    assert ended - began == pytest.approx(SLICE_INTERVAL_S * 499)


def test_where_something_is_found_there_may_be_more() -> None:
    began, ended = third(passes(AgentRig().agent.sweeps, 10, lambda number: [HALF]))
    assert ended - began == pytest.approx(SLICE_INTERVAL_S * 9)


def test_what_the_target_finished_was_not_found_by_the_sweep() -> None:
    finished = FinishedMessages(1, 3, b"")
    began, ended = third(passes(AgentRig().agent.sweeps, 10, lambda number: [finished]))
    assert ended - began == pytest.approx(SPREAD_S * 0.9)


def test_those_who_want_stats_get_them_in_their_interval() -> None:
    rig = AgentRig()
    rig.cs().tell(Config(stats_interval=1))
    made = passes(rig.agent.sweeps, 10)
    began, _ = third(made)
    assert next(made)[0] - began == pytest.approx(1.0)
