# SPDX-License-Identifier: Apache-2.0
"""The target that a configuration with `target: bpf` describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from data_flow_segment.targets.bpf.options import BpfOptions
from data_flow_segment.targets.bpf.target import BpfTarget
from data_flow_segment.targets.contract import Waiting


class BpfConfig(Protocol):
    """What is read of it."""

    @property
    def external(self) -> tuple[str, ...]: ...
    @property
    def internal(self) -> tuple[str, ...]: ...
    @property
    def attach(self) -> Literal["auto", "xdp", "tc"]: ...
    @property
    def pin_path(self) -> Path: ...
    @property
    def flow_capacity(self) -> int: ...
    @property
    def half_open_timeout_s(self) -> int: ...


def open_target(config: BpfConfig, on_wait: Callable[[Waiting], None]) -> BpfTarget:
    """Load and attach the program, or adopt the one that is there; nobody has to be waited for."""
    return BpfTarget.open(
        BpfOptions(
            holds_inside=True,
            external=config.external,
            internal=config.internal,
            attach=config.attach,
            pin_path=config.pin_path,
            flow_capacity=config.flow_capacity,
            half_open_timeout_s=config.half_open_timeout_s,
        )
    )
