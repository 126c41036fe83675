# SPDX-License-Identifier: Apache-2.0
"""The targets that a configuration may name; a new one is registered here and nowhere else.

A target's module is imported when the target is wanted: numpy and gRPC are extras.  It has

    def open_target(config, on_wait) -> Target

with the whole configuration of the DFS, of which it declares as a protocol what it reads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from data_flow_segment.targets.contract import Target, TargetError, Waiting


@dataclass(frozen=True, slots=True)
class Registered:
    """What there is to know of a target before it is imported."""

    module: str
    extra: str | None = None
    """The extra of this distribution that brings what the module imports."""
    in_kernel: bool = False
    """It moves packets in this machine's kernel: root, BPF and the named interfaces are needed."""
    section: str | None = None
    """The section of the configuration that describes it, where it is not this machine."""


TARGETS: Final[Mapping[str, Registered]] = {
    "bpf": Registered("data_flow_segment.targets.bpf.opening", extra="bpf", in_kernel=True),
    "memory": Registered("data_flow_segment.targets.memory.opening"),
    "p4runtime": Registered(
        "data_flow_segment.targets.p4runtime.opening", extra="p4", section="p4runtime"
    ),
}


class NamesTarget(Protocol):
    """A configuration; each target reads more of it."""

    @property
    def target(self) -> str:
        """A name of TARGETS."""


def open_target(config: NamesTarget, on_wait: Callable[[Waiting], None]) -> Target:
    """Open what moves packets; TargetError says what is missing and what to do about it.

    While a switch is not there, or another agent has it, this waits, and says for what to
    `on_wait`: once, then rarely.  What that raises ends it.
    """
    registered = TARGETS[config.target]
    try:
        module: Any = importlib.import_module(registered.module)
    except ImportError as error:
        raise TargetError(
            f"target {config.target}: {error}; install the extra:"
            f" pip install 'splitplane[{registered.extra}]'"
        ) from None
    opened: Target = module.open_target(config, on_wait)
    return opened
