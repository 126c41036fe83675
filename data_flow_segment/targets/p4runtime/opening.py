# SPDX-License-Identifier: Apache-2.0
"""The target that a configuration with `target: p4runtime` describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from data_flow_segment.targets.contract import Waiting
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget


class SwitchSection(Protocol):
    """The section `p4runtime`: a switch, and the network around it."""

    def options(self, flow_capacity: int, half_open_timeout_s: int) -> P4RuntimeOptions:
        """The same as the target wants it."""


class SwitchConfig(Protocol):
    """What is read of it."""

    @property
    def p4runtime(self) -> SwitchSection | None: ...
    @property
    def flow_capacity(self) -> int: ...
    @property
    def half_open_timeout_s(self) -> int: ...


def open_target(config: SwitchConfig, on_wait: Callable[[Waiting], None]) -> P4RuntimeTarget:
    """Connect to the switch; TargetError says what is wrong and what to do about it.

    While the switch is not there, or another agent is its primary, this waits, and says for what
    to `on_wait`: once, then rarely.
    """
    assert config.p4runtime is not None  # the configuration's model has seen to it
    options = config.p4runtime.options(config.flow_capacity, config.half_open_timeout_s)
    return P4RuntimeTarget.open(options, on_wait=on_wait)
