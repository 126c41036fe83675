# SPDX-License-Identifier: Apache-2.0
"""When a node of a pool is ejected for what the data path sees of it, in a CS's configuration."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from control_segment.fields import Section, Whole
from control_segment.methods import METHODS, MeasuresResponse
from control_segment.references import wrong

_Seconds = Annotated[Whole, Field(ge=1, le=86400)]


class OutlierConfig(Section):
    """Nodes over a limit take no new sessions for a while."""

    failures: Annotated[Whole, Field(ge=1, le=1000)] = 5  # connections refused or not answered
    window_s: _Seconds | None = None  # they count within this time; None: if none opens in between
    # Of a method that measures it, smoothed; None: it does not matter
    response_ms: Annotated[Whole, Field(ge=1, le=60_000)] | None = None
    max_ejected_percent: Annotated[Whole, Field(ge=1, le=100)] = 50  # of the pool's nodes, at once
    ejection_s: _Seconds = 30  # the first time; the second time twice as long, and so on
    max_ejection_s: _Seconds = 300

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.max_ejection_s < self.ejection_s:
            raise wrong(
                f"outliers: max_ejection_s {self.max_ejection_s} is less than ejection_s"
                f" {self.ejection_s}; give at least that",
                "max_ejection_s",
            )
        return self

    def check_method(self, pool_name: str, method: str) -> None:
        """Raise if a limit needs what the pool's method does not measure."""
        if self.response_ms is None or isinstance(METHODS[method](), MeasuresResponse):
            return
        raise wrong(
            f"pool {pool_name}: outliers.response_ms needs method fastest_response; {method}"
            " measures no response times",
            "outliers", "response_ms",
        )  # fmt: skip

    def most(self, nodes: int) -> int:
        """How many of so many nodes may be ejected at once."""
        return nodes * self.max_ejected_percent // 100
