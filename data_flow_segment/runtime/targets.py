# SPDX-License-Identifier: Apache-2.0
"""The target that a configuration names."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.targets.contract import Target, TargetError
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.memory.options import MemoryOptions

_LOG: Final = logging.getLogger("splitplane.dfs")


def open_target(
    config: DataFlowSegmentConfig, on_standby: Callable[[str], None] = _LOG.warning
) -> Target:
    """Open what moves packets; TargetError says what is missing and what to do about it.

    While another agent has a switch this waits, and says so once to `on_standby`.
    """
    if config.target == "memory":
        return _open_memory(config)
    if config.target == "p4runtime":
        return _open_p4runtime(config, on_standby)
    try:  # needs numpy and the kernel; the memory target needs neither
        from data_flow_segment.targets.bpf import BpfOptions, BpfTarget
    except ImportError as error:
        raise TargetError(
            f"target bpf: {error}; install the extra: pip install 'splitplane[bpf]'"
        ) from None
    return BpfTarget.open(
        BpfOptions(
            external=config.external,
            internal=config.internal,
            attach=config.attach,
            pin_path=config.pin_path,
            flow_capacity=config.flow_capacity,
        )
    )


def _open_p4runtime(config: DataFlowSegmentConfig, on_standby: Callable[[str], None]) -> Target:
    """A switch far away."""
    try:  # needs gRPC
        from data_flow_segment.runtime.switch import open_switch
    except ImportError as error:
        raise TargetError(
            f"target p4runtime: {error}; install the extra: pip install 'splitplane[p4]'"
        ) from None
    assert config.p4runtime is not None  # the model has seen to it
    return open_switch(config.p4runtime, config.flow_capacity, on_standby)


def _open_memory(config: DataFlowSegmentConfig) -> MemoryTarget:
    """A data path without cables: for tests and for trying a CS without a kernel."""
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
        boot_id=secrets.randbits(32) or 1,
    )
    return MemoryTarget(options, time.monotonic)
