# SPDX-License-Identifier: Apache-2.0
"""What bench/failover.py makes of a recording, and the cases that it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from failover_devices import DEVICES, cases
from failover_table import Figures, figures

from splitplane.drill.recording import (
    Attempt,
    Ended,
    Event,
    FlowKind,
    LongFlow,
    Outcome,
    Recording,
    Started,
    UnderWay,
)

FAILED_S = 105.0
END_S = 110.0
ADDRESS = "192.0.2.1"


def attempt(due_s: float, took_s: float | None = 0.001, outcome: Outcome = "ok") -> Attempt:
    connected = None if took_s is None else due_s + took_s
    return Attempt(
        due_s=due_s, begun_s=due_s, connected_s=connected, ended_s=(connected or due_s) + 0.001,
        address=ADDRESS, outcome=outcome,
    )  # fmt: skip


def long_flow(
    kind: FlowKind, outcome: Outcome = "ok", stalled: tuple[float, float] = (0.1, 106.0)
) -> LongFlow:
    return LongFlow(
        flow=kind, number=0, address=ADDRESS, began_s=100.0, ended_s=END_S, outcome=outcome,
        slowest_s=stalled[0], slowest_at_s=stalled[1],
    )  # fmt: skip


def every_tenth(begin_s: float, end_s: float) -> list[Event]:
    return [attempt(begin_s + n / 10) for n in range(round((end_s - begin_s) * 10))]


def seen(*events: Event, takeovers: int = 0) -> Figures:
    recording = Recording.of(
        [Started(at_s=100.0), UnderWay(at_s=101.0, flows=3), *events, Ended(at_s=END_S)]
    )
    return figures(recording, FAILED_S, takeovers=takeovers, foreign_share=0.25)


def test_a_gap_that_ends_has_its_length_and_what_failed_is_counted() -> None:
    lost = [attempt(FAILED_S + n / 10, None, "broken") for n in range(20)]
    found = seen(*every_tenth(100, FAILED_S), *lost, *every_tenth(FAILED_S + 2, END_S), takeovers=1)
    assert found.has_recovered
    assert found.gap_s == pytest.approx(2.1)
    assert (found.attempts, found.failed) == (100, 20)
    assert (found.takeovers, found.foreign_share) == (1, 0.25)


def test_a_connect_that_was_repeated_is_slow_and_does_not_fail() -> None:
    found = seen(
        *every_tenth(100, FAILED_S), attempt(FAILED_S, 1.03), *every_tenth(FAILED_S + 0.1, END_S)
    )
    assert found.connect_s == pytest.approx(1.03)
    assert found.failed == 0


def test_a_gap_without_an_end_is_open() -> None:
    lost = [attempt(FAILED_S + n / 10, None, "broken") for n in range(50)]
    found = seen(*every_tenth(100, FAILED_S), *lost)
    assert not found.has_recovered
    assert found.gap_s == pytest.approx(5.0, abs=0.1)


def test_long_flows_count_by_their_kind_and_wrong_octets_are_lost_ones() -> None:
    found = seen(
        *every_tenth(100, END_S),
        long_flow("download"),
        long_flow("download", "broken"),
        long_flow("upload", "wrong"),
        long_flow("idle"),
    )
    assert (found.downloads, found.downloads_broken) == (2, 1)
    assert (found.uploads, found.uploads_broken) == (1, 1)
    assert (found.idle, found.idle_broken) == (1, 0)
    assert found.wrong == 1


def test_a_stall_is_that_of_a_download_that_went_on() -> None:
    found = seen(
        *every_tenth(100, END_S),
        long_flow("download", stalled=(0.2, 104.9)),
        long_flow("download", "broken", stalled=(4.0, 105.0)),
        long_flow("idle", stalled=(4.5, 105.0)),
    )
    assert found.stall_s == pytest.approx(0.2)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_can_lose_power_hang_and_be_unplugged(device: str) -> None:
    measured = cases(device)
    assert len(set(measured)) == len(measured)
    assert {case.device for case in measured} == {device}
    assert {"power off", "hang", "link down"} <= {case.failure for case in measured}


def test_only_haproxy_has_a_supervisor_as_debian_ships_it() -> None:
    restarted = {
        device for device in DEVICES for case in cases(device)
        if case.part == "its proxy" and "restarted" in case.failure
    }  # fmt: skip
    assert restarted == {device for device in DEVICES if device.startswith("haproxy")}
