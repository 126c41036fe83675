# SPDX-License-Identifier: Apache-2.0
"""Balancing methods, one per file, behind `Method`; this is their registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control_segment.methods.fastest_response import FastestResponse
from control_segment.methods.least_connections import LeastConnections
from control_segment.methods.least_recently_active import LeastRecentlyActive
from control_segment.methods.maglev import Maglev
from control_segment.methods.protocol import (
    BuildsTable,
    ChoosesByTable,
    MeasuresResponse,
    Method,
)
from control_segment.methods.round_robin import RoundRobin
from control_segment.methods.source_hash import SourceHash
from control_segment.methods.weighted_least_connections import WeightedLeastConnections
from control_segment.methods.weighted_round_robin import WeightedRoundRobin

METHODS: Final[dict[str, Callable[[], Method]]] = {
    "round_robin": RoundRobin,
    "weighted_round_robin": WeightedRoundRobin,
    "least_connections": LeastConnections,
    "weighted_least_connections": WeightedLeastConnections,
    "fastest_response": FastestResponse,
    "least_recently_active": LeastRecentlyActive,
    "source_hash": SourceHash,
    "maglev": Maglev,
}

__all__ = ["METHODS", "BuildsTable", "ChoosesByTable", "MeasuresResponse", "Method"]
