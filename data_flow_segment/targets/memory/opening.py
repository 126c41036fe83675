# SPDX-License-Identifier: Apache-2.0
"""The target that a configuration with `target: memory` describes: a data path without cables, for
tests and for trying a CS without a kernel."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from data_flow_segment.targets.contract import Waiting
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.memory.options import MemoryOptions
from data_flow_segment.targets.memory.target import MemoryTarget


class MemoryConfig(Protocol):
    """What is read of it."""

    @property
    def external(self) -> tuple[str, ...]: ...
    @property
    def internal(self) -> tuple[str, ...]: ...
    @property
    def flow_capacity(self) -> int: ...
    @property
    def half_open_timeout_s(self) -> int: ...


def open_target(config: MemoryConfig, on_wait: Callable[[Waiting], None]) -> MemoryTarget:
    """Make it, with the configuration's interfaces by number."""
    names = list(dict.fromkeys((*config.external, *config.internal)))
    interfaces = tuple(
        Interface(
            number,
            name,
            bytes((2, 0, 0, 0, 0, number & 0xFF)),
            external=name in config.external,
            internal=name in config.internal,
        )
        for number, name in enumerate(names, 1)
    )
    options = MemoryOptions(
        interfaces,
        flow_capacity=config.flow_capacity,
        half_open_timeout_s=config.half_open_timeout_s,
        boot_id=secrets.randbits(32) or 1,
        serial_key=secrets.token_bytes(16),
    )
    return MemoryTarget(options, time.monotonic)
