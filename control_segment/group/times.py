# SPDX-License-Identifier: Apache-2.0
"""How long what must last before a role changes (docs/design/0009)."""

from __future__ import annotations

from dataclasses import dataclass

from control_segment.config import ControlSegmentConfig


@dataclass(frozen=True)
class Times:
    """How long what must last, in seconds (docs/design/0009)."""

    heartbeat: float = 0.05
    vacant: float = 0.15
    silent: float = 0.5
    cut_off: float = 2.0
    stagger: float = 0.1
    start: float = 5.0
    preempt: float | None = None  # None: off


def times_of(config: ControlSegmentConfig) -> Times:
    """The times of the rules, in seconds."""
    hello_s = float(config.settings.hello_interval_s)
    if not config.control_segments:  # no heartbeats: a lost connection comes back in an interval
        return Times(vacant=hello_s, start=hello_s)
    wanted = config.redundancy
    return Times(
        heartbeat=wanted.heartbeat_ms / 1000,
        vacant=wanted.vacant_ms / 1000,
        silent=wanted.silent_ms / 1000,
        stagger=2 * wanted.heartbeat_ms / 1000,
        start=hello_s,
        preempt=wanted.preempt_s,
    )
