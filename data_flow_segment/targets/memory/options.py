# SPDX-License-Identifier: Apache-2.0
"""What a memory target is given at its start: interfaces, routes, neighbours, limits.

The `bpf` target asks the kernel for all of this; here it is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_flow_segment.targets.contract import HALF_OPEN_TIMEOUT_S
from data_flow_segment.targets.interfaces import Interface, Route

FRAGMENT_CAPACITY = 1024
"""First fragments remembered; at 30 s each this is 34 fragmented datagrams per second, and the
oldest is dropped."""

EVENT_CAPACITY = 65536
"""Events that wait for the agent; further up-calls are dropped and counted."""


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """Everything a memory target needs to know about the network around it."""

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()
    neighbours: Mapping[bytes, bytes] = field(default_factory=dict)  # address -> MAC
    flow_capacity: int = 65536
    fragment_capacity: int = FRAGMENT_CAPACITY
    event_capacity: int = EVENT_CAPACITY
    half_open_timeout_s: int = HALF_OPEN_TIMEOUT_S
    boot_id: int = 1  # a random number from the caller; never 0
    serial_key: bytes = b""
    """16 random octets from the caller, of `ssmb.serials.derived`.  Without them the target leaves
    asking about flows, and ending them, to the agent."""
