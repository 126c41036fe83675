# SPDX-License-Identifier: Apache-2.0
"""What a CS wants of the process that probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Said
from control_segment.health.targets import Target


class Order(NamedTuple):
    """What whoever probes is to do: forget targets, and watch others, of which this is known."""

    forget: Sequence[Target]
    watch: Sequence[tuple[Target, MonitorConfig, Said]]
